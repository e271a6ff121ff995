"""The protocol of all peers in Python: one command per line on standard input, one JSON answer per line.

    open URL            without connections
    reopen URL          the same; no peer keeps connections for the next file
    frame N
    frames N,N,N        in one call, or one after the other in the best order
    keys                the key frames of the whole file

A peer's `Clip(url)` has `frame(n)`, which returns a frame, `frames(numbers)` and `keys()`, which return a dictionary of
frame number to frame; `close()`; and `seen(number, frame)`, which identifies a frame: `{"md5": ...}` or
`{"seconds": ...}`. The clock runs during a command, and not during the identification of its frames.
"""

import json
import sys
import time


def first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def carry_out(Clip, clip, words):
    """The clip that is open after the command, its frames, and its duration in milliseconds."""
    what, *rest = words
    if what in ("open", "reopen") and clip:
        clip.close()
    began = time.perf_counter()
    if what in ("open", "reopen"):
        clip, came = Clip(rest[0]), {}
    elif what == "frame":
        came = {int(rest[0]): clip.frame(int(rest[0]))}
    elif what == "frames":
        came = clip.frames([int(number) for number in rest[0].split(",")])
    else:
        came = clip.keys()
    return clip, came, (time.perf_counter() - began) * 1e3


def answer(Clip):
    clip = None
    for line in sys.stdin:
        try:
            clip, came, ms = carry_out(Clip, clip, line.split())
            record = {"ms": ms}
            for number, frame in sorted(came.items()):
                for kind, value in clip.seen(number, frame).items():
                    record.setdefault(kind, {})[str(number)] = value
            del came
        except Exception as error:  # Every library has its own.
            record = {"error": first_line(error)}
        print(json.dumps(record), flush=True)
