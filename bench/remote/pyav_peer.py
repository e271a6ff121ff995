"""PyAV over a network: `http` lets FFmpeg's own protocol read, `fsspec` reads a file object with fsspec's block cache.

    python pyav_peer.py http|fsspec|--version

It opens once. For a frame it seeks to the key frame before it, unless the decoder is already on its way there from the
same key frame, and decodes until a picture has the frame's time. Times are computed, which the clips of this benchmark
allow: reading all packets first, as `bench/peers/pyav_peer.py` does, would fetch the whole file.
"""

import bisect
import sys
from fractions import Fraction
from pathlib import Path

import av

import answering

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))
sys.dont_write_bytecode = True

import common  # noqa: E402


class Clip:
    def __init__(self, url):
        self.file = self.source(url)
        self.container = av.open(self.file)
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.coming, self.last, self.key = iter(()), None, None
        self.step = Fraction(1) / self.stream.average_rate / self.stream.time_base
        self.start = self.stream.start_time or 0
        self.is_mp4 = "mp4" in self.container.format.name
        self.keys_at = self.table_of_keys()

    def source(self, url):
        return url

    def close(self):
        self.container.close()

    def table_of_keys(self):
        """Times of the key frames, from the tables of the MP4, which are in memory. They are decoding times, which in
        these clips differ from presentation times by a constant."""
        entries = list(self.stream.index_entries)
        shift = self.start - entries[0].timestamp if entries else 0
        return [entry.timestamp + shift for entry in entries if entry.is_keyframe] if self.is_mp4 else []

    def time(self, number):
        return self.start + round(number * self.step)

    def number(self, frame):
        return round((frame.pts - self.start) / self.step)

    def frame(self, number):
        wanted = self.time(number)
        key, place = self.way_to(wanted)
        if key == self.key and self.last is not None and self.last < wanted:
            frame = self.decode_up_to(wanted)
            if frame is not None:
                return frame
        self.container.seek(place, stream=self.stream)
        self.coming, self.key = self.container.decode(self.stream), key
        frame = self.decode_up_to(wanted)
        if frame is None:
            raise LookupError("no frame")
        return frame

    def way_to(self, wanted):
        """The GOP of a frame, and the time to seek to. Without a table each second counts as a GOP."""
        if not self.keys_at:
            return round(wanted * self.stream.time_base), wanted
        key = max(0, bisect.bisect_right(self.keys_at, wanted) - 1)
        return key, self.keys_at[key]

    def decode_up_to(self, wanted):
        self.last = None
        for frame in self.coming:
            if frame.pts is not None and frame.pts >= wanted:
                self.last = frame.pts
                return frame if abs(frame.pts - wanted) < self.step / 2 else None
        return None

    def frames(self, numbers):
        return {number: self.frame(number) for number in sorted(numbers)}

    def keys(self):
        self.stream.codec_context.skip_frame = "NONKEY"
        self.container.seek(self.start, stream=self.stream)
        return {self.number(frame): frame for frame in self.container.decode(self.stream)}

    def seen(self, _, frame):
        planes = [common.without_padding(bytes(plane), plane.line_size, plane.width, plane.height)
                  for plane in frame.planes]
        return common.planes_md5(planes)


class FsspecClip(Clip):
    def source(self, url):
        import fsspec
        # A new file system for each opening keeps no connection of the previous file.
        return fsspec.filesystem("http", skip_instance_cache=True).open(url, "rb")

    def close(self):
        super().close()
        self.file.close()


def version(way):
    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    text = f"PyAV {av.__version__}, libavcodec {libavcodec}"
    if way == "fsspec":
        import aiohttp
        import fsspec
        text += f", fsspec {fsspec.__version__}, aiohttp {aiohttp.__version__}"
    return text


if __name__ == "__main__":
    if "--version" in sys.argv:
        print(version(sys.argv[1]))
    else:
        answering.answer(FsspecClip if sys.argv[1] == "fsspec" else Clip)
