"""Fragmented MP4 files."""

import struct

from hostile.boxes import GRAY, box, full, moov, mp4, stsz, trak, u32, u64
from hostile.cases import case


def trex():
    return box(b"mvex", full(b"trex", u32(1, 1, 512, 100, 0)))


def moof(sequence, *truns, time=None, base=GRAY.first):
    decode = b"" if time is None else full(b"tfdt", u64(time), version=1)
    head = full(b"tfhd", u32(1), u64(base), flags=1)
    return box(b"moof", full(b"mfhd", u32(sequence)), box(b"traf", head, decode, *truns))


EMPTY = [full(b"stts", u32(0)), full(b"stsc", u32(0)), full(b"stco", u32(0)), stsz(0, 0)]


def fragmented(*parts):
    return mp4(trak(1, EMPTY), trex(), behind=b"".join(parts))


@case("mp4_trun_of_defaults.mp4")
def _():
    """Samples without a field of their own: eight bytes claim millions."""
    return fragmented(*(moof(at, full(b"trun", u32(3_000_000))) for at in range(1, 200)))


@case("mp4_runs_in_one_fragment.mp4")
def _():
    return fragmented(moof(1, full(b"trun", u32(1, 100), flags=0x200) * 400_000))


@case("mp4_fragments_backwards.mp4")
def _():
    """libavformat inserts every fragment before all earlier ones."""
    count = 30_000
    run = full(b"trun", u32(30), u32(100) * 30, flags=0x200)
    return fragmented(*(moof(at, run, time=(count - at) * 512 * 30) for at in range(count)))


@case("mp4_fragment_lists.mp4")
def _():
    """Lists of missing fragments, which are searched for every run of samples."""
    lists = []
    for at in range(8):
        entries = b"".join(u32(3 + at, 512, 0) for _ in range(65_000))
        lists.append(full(b"sidx", u32(1, 12800, 0, 1 << 20), struct.pack(">HH", 0, 65_000), entries))
    runs = moof(1, full(b"trun", u32(1, 100), flags=0x200) * 100_000)
    return mp4(trak(1, EMPTY), trex(), behind=b"".join(lists) + runs)


@case("mp4_random_access_list.mp4")
def _():
    count = 500_000
    table = full(b"tfra", u32(1, 0, count), b"".join(u32(at, at * 7, 0x010101)[:11] for at in range(count)))
    mfra = box(b"mfra", table, full(b"mfro", u32(len(table) + 24)))
    return fragmented(moof(1, full(b"trun", u32(1, 100), flags=0x200)), mfra)


@case("mp4_tiny_fragments.mp4")
def _():
    return fragmented(*(moof(at, full(b"trun", u32(1, 100), flags=0x200)) for at in range(100_000)))


@case("mp4_sample_of_tiny_units.mp4")
def _():
    """One sample with NAL units of two bytes each, which are only parsed by decoding."""
    sample = u32(2) + b"\x4e\x01"
    data = sample * 1_500_000
    head = box(b"ftyp", b"isom", u32(512), b"isom")
    tables = [full(b"stts", u32(1, 2, 512)), full(b"stsc", u32(1, 1, 2, 1)), full(b"stsz", u32(0, 2, len(data), GRAY.sizes[0]))]
    first = next(GRAY.samples())
    tables.append(full(b"stco", u32(1, len(head) + 8)))
    return head + box(b"mdat", data, first) + moov(trak(1, tables))
