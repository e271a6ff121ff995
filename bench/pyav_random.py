"""Random frames with PyAV, one at a time: the careful loop for programs without a library for it.

    python bench/pyav_random.py VIDEO --indices 5,3,9 [--threads 2] [--thread-type AUTO|FRAME|SLICE]

Beforehand, outside of the clock, it reads all packets once: that gives the time of every frame and where the key frames
are. For each frame it then seeks to the key frame before it by pts, decodes until a picture has the frame's pts, and
takes views of its planes (no copies). Where the demuxer lands behind the frame it begins one key frame earlier. Prints
one JSON object, with the names that `bucket-streamer bench --json` has.
"""

import argparse
import bisect
import json
import time

import av


class Clip:
    def __init__(self, path, threads, thread_type):
        self.container = av.open(path)
        self.stream = self.container.streams.video[0]
        times, keys = [], []
        for packet in self.container.demux(self.stream):
            if packet.pts is None or packet.size == 0:
                continue
            if not packet.is_discard:
                times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        self.times, self.keys = sorted(times), sorted(keys)
        self.container.close()
        self.container = av.open(path)
        self.stream = self.container.streams.video[0]
        self.stream.codec_context.thread_count = threads
        self.stream.thread_type = thread_type
        self.decoded = 0

    def frame(self, index):
        """Views of the planes of a frame."""
        wanted = self.times[index]
        key = bisect.bisect_right(self.keys, wanted) - 1
        while key >= 0:
            self.container.seek(self.keys[key], stream=self.stream)
            for frame in self.container.decode(self.stream):
                self.decoded += 1
                if frame.pts == wanted:
                    return [memoryview(plane) for plane in frame.planes]
                if frame.pts is not None and frame.pts > wanted:
                    break
            key -= 1
        raise LookupError(f"frame {index} is missing")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("video")
    parser.add_argument("--indices", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--thread-type", default="AUTO")
    arguments = parser.parse_args()

    clip = Clip(arguments.video, arguments.threads, arguments.thread_type)
    each, errors = [], 0
    started = time.perf_counter()
    for index in map(int, arguments.indices.split(",")):
        asked = time.perf_counter()
        try:
            clip.frame(index)
            each.append({"index": index, "latency_ms": (time.perf_counter() - asked) * 1e3})
        except (LookupError, av.FFmpegError) as error:
            errors += 1
            each.append({"index": index, "latency_ms": None, "error": str(error)})
    seconds = time.perf_counter() - started
    frames = len(each) - errors
    print(json.dumps({
        "engine": "pyav",
        "engine_version": f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}",
        "thread_type": arguments.thread_type,
        "frames": frames,
        "errors": errors,
        "seconds": seconds,
        "fps": frames / seconds,
        "decoded_pictures": clip.decoded,
        "each": each,
    }))


if __name__ == "__main__":
    main()
