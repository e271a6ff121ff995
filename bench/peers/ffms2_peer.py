"""FFMS2: planes, by frame number, with an index of the whole file."""

import ctypes
import ctypes.util
import os

# The binding looks for the library in the system; this one is outside of it.
ctypes.util.find_library = lambda name: os.environ.get("FFMS2_LIBRARY")
import ffms2

import common

# For each pixel format: the horizontal and vertical subsampling of chroma, and bytes per sample.
FORMATS = {ffms2.get_pix_fmt(name): shape for name, shape in {
    "yuv420p": (2, 2, 1), "yuvj420p": (2, 2, 1), "yuv422p": (2, 1, 1), "yuv444p": (1, 1, 1), "yuvj444p": (1, 1, 1),
    "yuv420p10le": (2, 2, 2), "yuv422p10le": (2, 1, 2), "yuv444p10le": (1, 1, 2)}.items()}


class Clip:
    OUTPUT = "planes"

    def __init__(self, path, threads):
        # The index is built here, before the clock starts. SEEK_NORMAL is the fastest mode that FFMS2 calls safe. No output
        # format is set, so that it converts nothing.
        indexer = ffms2.Indexer(path)
        track = next(track.num for track in indexer.track_info_list if track.type == ffms2.FFMS_TYPE_VIDEO)
        indexer.track_index_settings(track, 1, 0)
        self.source = ffms2.VideoSource(path, track, indexer.do_indexing2(), num_threads=threads,
                                        seek_mode=ffms2.FFMS_SEEK_NORMAL)
        self.count = self.source.properties.NumFrames

    def frame(self, index):
        if index >= self.count:
            raise LookupError("past the last frame")
        return self.source.get_frame(index)

    def keep(self, frame):
        narrower, lower, size = FORMATS[frame.EncodedPixelFormat]
        width, height = frame.EncodedWidth, frame.EncodedHeight
        planes = []
        for plane in range(3):
            across, down = (-(-width // narrower), -(-height // lower)) if plane else (width, height)
            stride = frame.Linesize[plane]
            data = ctypes.string_at(frame.Data[plane], stride * (down - 1) + across * size)
            planes.append(common.without_padding(data, stride, across * size, down))
        return planes

    def seen(self, planes):
        return common.planes_md5(planes)


def version():
    maps = [line.rsplit(".so.", 1)[1].strip() for line in open("/proc/self/maps") if "/libavcodec.so" in line]
    return f"FFMS2 {ffms2.get_version()}, libavcodec {maps[0] if maps else '?'}"


if __name__ == "__main__":
    common.main(Clip, version)
