"""The common part of all peers: arguments, clock, output.

    python NAME_peer.py --version
    python NAME_peer.py VIDEO --indices 5,3,9 [--threads 2] [--batch] [--shift N]

Each peer is a process of its own that opens the video, then requests one frame after the other (or with --batch all of
them in one call), and prints one JSON object. The clock runs only during a request. Between two requests the frame is
copied, so that the peer can reuse its memory; frames are identified after the last request: planes by their MD5, RGB by
a signature, the means of 64 x 64 blocks per channel. --shift requests another frame than the one in the answer, to test
that the check detects wrong frames.

A peer's `Clip(path, threads)` has `count`, `frame(index)`, `keep(frame)`, which copies a frame, and `seen(kept)`, which
is `{"md5": ...}` or `{"signature": ...}`; if there is a call for many frames also `batch(indices)`.
"""

import argparse
import base64
import hashlib
import json
import resource
import sys
import time

BLOCKS = 64


def planes_md5(planes):
    """The MD5 of rows without padding, plane after plane."""
    md5 = hashlib.md5()
    for plane in planes:
        md5.update(plane)
    return {"md5": md5.hexdigest()}


def without_padding(data, stride, width, height):
    """The bytes of a plane, `width` of them a row."""
    if stride == width:
        return data[:width * height]
    return b"".join(data[row * stride:row * stride + width] for row in range(height))


def block_means(plane):
    """A square table of means, so that a turned picture's table is the turned table."""
    import numpy
    height, width = plane.shape[:2]
    rows, columns = ([size * block // BLOCKS for block in range(BLOCKS + 1)] for size in (height, width))
    sums = numpy.add.reduceat(plane, rows[:-1], axis=0, dtype=numpy.uint32)
    sums = numpy.add.reduceat(sums, columns[:-1], axis=1, dtype=numpy.float64)
    area = numpy.outer(numpy.diff(rows), numpy.diff(columns))
    return sums / (area if plane.ndim == 2 else area[:, :, None])


def rgb_signature(picture):
    """The signature of height x width x 3 samples."""
    means = block_means(picture).astype("float32")
    return {"signature": base64.b64encode(means.tobytes()).decode()}


def one_by_one(clip, indices, shift):
    each, kept = [], []
    for index in indices:
        asked = time.perf_counter()
        try:
            frame = clip.frame(index + shift)
            each.append({"index": index, "latency_ms": (time.perf_counter() - asked) * 1e3})
            kept.append(clip.keep(frame))
            del frame
        except Exception as error:  # Every peer has its own.
            each.append({"index": index, "latency_ms": None, "error": first_line(error),
                         "lost_ms": (time.perf_counter() - asked) * 1e3})
            kept.append(None)
    seconds = sum(answer["latency_ms"] or answer["lost_ms"] for answer in each) / 1e3
    return each, kept, seconds


def all_at_once(clip, indices, shift):
    started = time.perf_counter()
    try:
        frames, error = clip.batch([index + shift for index in indices]), None
    except Exception as raised:
        frames, error = [], first_line(raised)
    seconds = time.perf_counter() - started
    kept = [clip.keep(frame) for frame in frames]
    kept += [None] * (len(indices) - len(kept))
    missing = {"error": error or "no frame"}
    each = [{"index": index, **(missing if one is None else {})} for index, one in zip(indices, kept)]
    return each, kept, seconds


def first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def main(Clip, version):
    parser = argparse.ArgumentParser()
    parser.add_argument("video", nargs="?")
    parser.add_argument("--indices")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", action="store_true")
    parser.add_argument("--shift", type=int, default=0)
    parser.add_argument("--version", action="store_true")
    arguments = parser.parse_args()
    if arguments.version:
        print(json.dumps({"version": version(), "output": Clip.OUTPUT, "batch": hasattr(Clip, "batch")}))
        return

    started = time.perf_counter()
    clip = Clip(arguments.video, arguments.threads)
    open_ms = (time.perf_counter() - started) * 1e3
    indices = [int(index) for index in arguments.indices.split(",")]
    ask = all_at_once if arguments.batch else one_by_one
    each, kept, seconds = ask(clip, indices, arguments.shift)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for answer, one in zip(each, kept):
        if one is not None:
            answer.update(clip.seen(one))
    errors = sum("error" in answer for answer in each)
    frames = len(each) - errors
    print(json.dumps({"open_ms": open_ms, "count": clip.count, "frames": frames, "errors": errors, "seconds": seconds,
                      "fps": frames / seconds, "peak_rss_bytes": peak, "each": each}))
    sys.stdout.flush()
