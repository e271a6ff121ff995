"""Writes MP4 files box by box, with the samples of a clip."""

import struct

from hostile.cases import FIXTURES


def box(kind, *parts):
    payload = b"".join(parts)
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def full(kind, *parts, version=0, flags=0):
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def u32(*numbers):
    return struct.pack(f">{len(numbers)}I", *numbers)


def u64(*numbers):
    return struct.pack(f">{len(numbers)}Q", *numbers)


def boxes(data, start=0, end=None):
    """Kind, start of the payload and end of each box."""
    at, end = start, len(data) if end is None else end
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at + 8, at + size
        at += size


def find(data, path):
    start, end = 0, len(data)
    for wanted in path:
        start, end = next((s, e) for kind, s, e in boxes(data, start, end) if kind == wanted)
    return data[start:end]


class Clip:
    """A plain MP4 with its samples before its tables."""

    def __init__(self, name):
        self.data = (FIXTURES / name).read_bytes()
        table = [b"moov", b"trak", b"mdia", b"minf", b"stbl"]
        self.stsd = box(b"stsd", find(self.data, table + [b"stsd"]))
        self.stss = struct.unpack_from(">2I", find(self.data, table + [b"stss"]), 8)
        ctts = find(self.data, table + [b"ctts"])
        self.ctts = ctts[8:]
        sizes = find(self.data, table + [b"stsz"])
        self.sizes = struct.unpack(f">{(len(sizes) - 12) // 4}I", sizes[12:])
        # Up to the end of mdat.
        kinds = list(boxes(self.data))
        self.first, self.end = next((start, end) for kind, start, end in kinds if kind == b"mdat")
        self.head = self.data[: self.end]

    def samples(self):
        at = self.first
        for size in self.sizes:
            yield self.data[at : at + size]
            at += size


GRAY = Clip("hevc_gray.mp4")


def stsz(constant, count):
    return full(b"stsz", u32(constant, count))


def one_run(count):
    """Tables of `count` samples in one chunk."""
    return [full(b"stts", u32(1, count, 512)), full(b"stsc", u32(1, 1, count, 1)), full(b"stco", u32(1, GRAY.first))]


def edits(*entries):
    return box(b"edts", full(b"elst", u32(len(entries)), *(u32(duration, time, 0x10000) for duration, time in entries)))


def trak(number, tables, edit=b"", handler=b"vide", stsd=None, more=b""):
    head = full(b"tkhd", u32(0, 0, number, 0, 1000000), bytes(52), u32(320 << 16, 180 << 16), flags=3)
    media = full(b"mdhd", u32(0, 0, 12800, 0xFFFFFFF, 0x55C40000))
    kind = full(b"hdlr", u32(0), handler, bytes(12), b"x\0")
    reference = box(b"dinf", full(b"dref", u32(1), full(b"url ", flags=1)))
    stbl = box(b"stbl", stsd or GRAY.stsd, *tables)
    minf = box(b"minf", full(b"vmhd", bytes(8), flags=1), reference, stbl)
    return box(b"trak", head, edit, box(b"mdia", media, kind, minf), more)


def moov(*parts):
    head = full(b"mvhd", u32(0, 0, 1000, 1000000, 0x10000), bytes(76), u32(2))
    return box(b"moov", head, *parts)


def mp4(*parts, behind=b""):
    return GRAY.head + moov(*parts) + behind


def plain_tables(count=48):
    return [*one_run(count), full(b"stsz", u32(0, len(GRAY.sizes[:count]), *GRAY.sizes[:count]))]


def configuration():
    data = GRAY.stsd
    at = data.index(b"hvcC") - 4
    return data[at + 8 : at + struct.unpack_from(">I", data, at)[0]]
