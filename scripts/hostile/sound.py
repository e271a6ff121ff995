"""Long, valid files."""

import struct

from hostile.boxes import GRAY, box, edits, full, mp4, trak, u32
from hostile.cases import case
from hostile.fragments import fragmented, moof
from hostile.matroska import block, cluster, matroska
from hostile.transport import annex_b


REPEATS = 4167


def composition(repeats):
    count = len(GRAY.ctts) // 8
    return full(b"ctts", u32(count * repeats), GRAY.ctts * repeats)


@case("long.mp4", "sound")
def _():
    """200,016 samples, two hours and a quarter: the clip's 48, repeated."""
    count = 48 * REPEATS
    keys = (at * 48 + key for at in range(REPEATS) for key in GRAY.stss)
    tables = [
        full(b"stts", u32(1, count, 512)), composition(REPEATS),
        full(b"stss", u32(2 * REPEATS), struct.pack(f">{2 * REPEATS}I", *keys)),
        full(b"stsc", u32(1, 1, 48, 1)), full(b"stco", u32(REPEATS), u32(GRAY.first) * REPEATS),
        full(b"stsz", u32(0, count), u32(*GRAY.sizes) * REPEATS),
    ]  # fmt: skip
    entry = box(b"mp4a", bytes(6), b"\0\1", bytes(8), b"\0\2\0\x10", bytes(4), u32(48000 << 16))
    sound = 375_000
    audio = [
        full(b"stts", u32(1, sound, 1024)), full(b"stsc", u32(1, 1, 100, 1)),
        full(b"stco", u32(sound // 100), u32(GRAY.first) * (sound // 100)), full(b"stsz", u32(0, sound), u32(6) * sound),
    ]  # fmt: skip
    edit = edits((8_000_000, 1024))
    return mp4(trak(1, tables, edit), trak(2, audio, edits((8_000_000, 0)), b"soun", full(b"stsd", u32(1), entry)))


@case("long_fragmented.mp4", "sound")
def _():
    """The same in 4,167 fragments."""
    offsets, sizes = [], iter(GRAY.sizes)
    for at in range(0, len(GRAY.ctts), 8):
        count, offset = struct.unpack_from(">2I", GRAY.ctts, at)
        offsets += [offset] * count
    rows = b"".join(
        u32(next(sizes), 0 if at + 1 in GRAY.stss else 0x10000, offset) for at, offset in enumerate(offsets)
    )
    run = full(b"trun", u32(48), rows, flags=0xE00)
    return fragmented(*(moof(at + 1, run, time=at * 48 * 512) for at in range(REPEATS)))


@case("long.mkv", "sound")
def _():
    """120,000 samples, an hour and a third: one GOP, and then its smallest sample, repeated."""
    samples = list(GRAY.samples())
    tiny = min(samples, key=len)
    parts = [cluster(0, *(block(sample, at * 40, 0x80 if at in (0,) else 0) for at, sample in enumerate(samples)))]
    for start in range(48, 120_000, 500):
        count = min(500, 120_000 - start)
        parts.append(cluster(start * 40, *(block(tiny, at * 40, 0) for at in range(count))))
    return matroska(*parts)


@case("long.265", "sound")
def _():
    samples = list(annex_b())
    return samples[0] + b"".join(samples[1:]) * 100
