"""PyAV: the most careful loop that can be written with it, returning the decoder's planes.

PyAV has no frame numbers. When it opens, this loop reads all packets once: the time of every frame, and where the key
frames are. For a frame it seeks to the key frame before it, unless the decoder is already on its way there from the same
key frame, and decodes until a picture has the frame's time. If the demuxer lands behind the frame it begins one key
frame earlier.
"""

import bisect

import av

import common


class Clip:
    OUTPUT = "planes"

    def __init__(self, path, threads):
        times, keys = [], []
        with av.open(path) as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.pts is None or packet.size == 0:
                    continue
                if not packet.is_discard:
                    times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        self.times, self.keys, self.count = sorted(times), sorted(keys), len(times)
        self.container = av.open(path)
        self.stream = self.container.streams.video[0]
        self.stream.codec_context.thread_count = threads
        # Threads by frame and by slice, whichever the decoder can: the fastest here.
        self.stream.thread_type = "AUTO"
        self.coming, self.key, self.last = iter(()), None, None

    def frame(self, index):
        wanted = self.times[index]
        key = bisect.bisect_right(self.keys, wanted) - 1
        if key == self.key and self.last is not None and self.last < wanted:
            frame = self.decode_up_to(wanted)
            if frame is not None:
                return frame
        for key in range(key, -1, -1):
            self.container.seek(self.keys[key], stream=self.stream)
            self.coming, self.key = self.container.decode(self.stream), key
            frame = self.decode_up_to(wanted)
            if frame is not None:
                return frame
        raise LookupError("no frame")

    def decode_up_to(self, wanted):
        self.last = None
        for frame in self.coming:
            if frame.pts == wanted:
                self.last = wanted
                return frame
            if frame.pts is not None and frame.pts > wanted:
                break
        return None

    def keep(self, frame):
        width = lambda plane: plane.width * (2 if "10le" in frame.format.name else 1)
        return [common.without_padding(bytes(plane), plane.line_size, width(plane), plane.height) for plane in frame.planes]

    def seen(self, planes):
        return common.planes_md5(planes)


def version():
    return f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"


if __name__ == "__main__":
    common.main(Clip, version)
