"""MP4 files with tables that claim too much, repeat or nest."""

import struct

from hostile.boxes import GRAY, box, edits, find, full, mp4, one_run, plain_tables, stsz, trak, u32
from hostile.cases import case


EVERYTHING = (900_000_000, 0)


@case("mp4_edits_over_constant_stsz.mp4")
def _():
    return mp4(trak(1, [*one_run(1 << 20), stsz(1, 1 << 20)], edits(*[EVERYTHING] * 1000)))


@case("mp4_edits_on_four_tracks.mp4")
def _():
    return mp4(*(trak(at, [*one_run(1 << 20), stsz(1, 1 << 20)], edits(*[EVERYTHING] * 300)) for at in (1, 2, 3, 4)))


@case("mp4_edits_on_audio_behind.mp4")
def _():
    entry = box(b"mp4a", bytes(6), b"\0\1", bytes(8), b"\0\2\0\x10", bytes(4), u32(48000 << 16))
    audio = trak(2, [*one_run(1 << 20), stsz(1, 1 << 20)], edits(*[EVERYTHING] * 1000), b"soun", full(b"stsd", u32(1), entry))
    return mp4(trak(1, plain_tables()), audio)


@case("mp4_edits_that_find_nothing.mp4")
def _():
    """Each edit iterates over all composition offsets, and adds next to nothing."""
    count = 400_000
    offsets = full(b"ctts", u32(count), b"".join(u32(1, at & 1) for at in range(count)))
    return mp4(trak(1, [*one_run(count), stsz(1, count), offsets], edits(*[(1, 200_000_000)] * 30_000)))


@case("mp4_hundred_tracks.mp4")
def _():
    pad = box(b"free", bytes(2000))
    return mp4(*(trak(at, [*one_run(4_000_000), stsz(1, 4_000_000)], more=pad) for at in range(1, 101)))


@case("mp4_thousand_tracks.mp4")
def _():
    return mp4(*(trak(at, [*one_run(20_000), stsz(1, 20_000)]) for at in range(1, 1001)))


@case("mp4_five_million_entries.mp4")
def _():
    count = 5_000_000
    return mp4(trak(1, [*one_run(count), full(b"stsz", u32(0, count), u32(1) * count)]))


@case("mp4_million_offsets_and_chunks.mp4")
def _():
    count = 1_000_000
    chunks = full(b"stco", u32(count), u32(GRAY.first) * count)
    runs = full(b"stsc", u32(count), b"".join(u32(at, 1, 1) for at in range(1, count + 1)))
    times = full(b"stts", u32(1, count, 512))
    return mp4(trak(1, [times, runs, chunks, stsz(1, count)]))


@case("mp4_tables_that_claim.mp4")
def _():
    """Every table claims the maximum count, and is empty."""
    most = 0xFFFFFFF
    tables = [
        full(b"stts", u32(most)), full(b"ctts", u32(most)), full(b"stsc", u32(most)), full(b"stss", u32(most)),
        full(b"stps", u32(most)), full(b"sdtp", u32(most)), full(b"stco", u32(most)), full(b"stsz", u32(0, most)),
        full(b"sbgp", b"rap ", u32(most)), full(b"sgpd", b"sync", u32(1, most), version=1),
    ]  # fmt: skip
    return mp4(trak(1, tables), trak(2, plain_tables()))


@case("mp4_co64_that_claims.mp4")
def _():
    tables = [*one_run(1 << 24)[:2], full(b"co64", u32(0xFFFFFFF)), stsz(1, 1 << 24)]
    return mp4(*(trak(at, tables) for at in range(1, 20)))


@case("mp4_stsc_of_claimed_chunks.mp4")
def _():
    """Audio in chunks of samples that are cut into pieces of 1,024: the runs claim 80 million of them."""
    entry = box(b"sowt", bytes(6), b"\0\1", bytes(8), b"\0\1\0\x08", bytes(4), u32(8000 << 16))
    tables = [
        full(b"stts", u32(1, 0xFFFFFFFF, 1)), full(b"stsc", u32(1, 1, 0x7FFFFFFF, 1)),
        full(b"stco", u32(40, *[GRAY.first] * 40)), stsz(1, 0xFFFFFFFF),
    ]  # fmt: skip
    return mp4(trak(1, plain_tables()), trak(2, tables, handler=b"soun", stsd=full(b"stsd", u32(1), entry)))


@case("mp4_runs_of_groups.mp4")
def _():
    count = 400_000
    groups = full(b"sbgp", b"sync", u32(count), u32(1, 1) * count)
    raps = full(b"sbgp", b"rap ", u32(count), u32(1, 1) * count)
    kinds = full(b"sgpd", b"sync", u32(1, 100_000), b"\x15" * 100_000, version=1)
    return mp4(trak(1, [*one_run(1 << 20), stsz(1, 1 << 20), groups, raps, kinds]))


@case("mp4_times_and_offsets_merge.mp4")
def _():
    """Runs of times and of offsets that never end at the same sample."""
    count = 600_000
    times = full(b"stts", u32(count), u32(3, 512) * count)
    offsets = full(b"ctts", u32(count), u32(2, 512) * count)
    return mp4(trak(1, [times, offsets, *one_run(1 << 20)[1:], stsz(1, 1 << 20)]))


@case("mp4_many_descriptions.mp4")
def _():
    entry = GRAY.stsd[16:]
    stsd = full(b"stsd", u32(20_000), entry * 20_000)
    return mp4(trak(1, plain_tables(), stsd=stsd))


@case("mp4_boxes_in_boxes.mp4")
def _():
    nested = b""
    for _ in range(200_000):
        nested = nested if len(nested) > 1 << 20 else box(b"udta", nested)
    return mp4(trak(1, plain_tables()), box(b"udta", box(b"udta", box(b"udta")) * 200_000), nested[: 1 << 16])


@case("mp4_metadata_keys.mp4")
def _():
    """Every key is compared with all others."""
    count = 120_000
    keys = [b"k%07d" % at for at in range(count)]
    table = full(b"keys", u32(count), *(box(b"mdta", key) for key in keys))
    values = (box(struct.pack(">I", at + 1), box(b"data", u32(1, 0), b"v")) for at in range(count))
    hdlr = full(b"hdlr", u32(0), b"mdta", bytes(12))
    return mp4(trak(1, plain_tables()), box(b"meta", hdlr, table, box(b"ilst", *values)))


@case("mp4_freeform_tags.mp4")
def _():
    tag = (
        box(b"----", full(b"mean", b"com"), full(b"name", b"n%07d" % at), box(b"data", u32(1, 0), b"v"))
        for at in range(60_000)
    )
    hdlr = full(b"hdlr", u32(0), b"mdir", bytes(12))
    return mp4(trak(1, plain_tables()), box(b"udta", full(b"meta", hdlr, box(b"ilst", *tag))))


@case("mp4_huge_metadata.mp4")
def _():
    hdlr = full(b"hdlr", u32(0), b"mdir", bytes(12))
    cover = box(b"covr", box(b"data", u32(13, 0), b"\xff\xd8\xff\xe0" + bytes(4096)))
    return mp4(trak(1, plain_tables()), box(b"udta", full(b"meta", hdlr, box(b"ilst", cover * 2000))))


@case("mp4_protection_headers.mp4")
def _():
    headers = (full(b"pssh", struct.pack(">Q8x", at), u32(0)) for at in range(150_000))
    return mp4(trak(1, plain_tables()), *headers)


@case("mp4_auxiliary_tables.mp4")
def _():
    count = 400_000
    tables = [
        *plain_tables(), full(b"saiz", b"\x08", u32(0xFFFFFFF)), full(b"saio", u32(count), u32(0) * count),
        full(b"subs", u32(count), u32(1) * count), full(b"senc", u32(0xFFFFFF), flags=2),
    ]  # fmt: skip
    entry = GRAY.stsd[16:].replace(b"hev1", b"encv").replace(b"hvc1", b"encv")
    scheme = full(b"schm", b"cenc", u32(0x10000))
    key = full(b"tenc", b"\0\0\1\x08", bytes(16))
    sinf = box(b"sinf", box(b"frma", b"hvc1"), scheme, box(b"schi", key))
    entry = u32(len(entry) + len(sinf)) + entry[4:] + sinf
    return mp4(trak(1, tables, stsd=full(b"stsd", u32(1), entry)))


def items(count):
    info = (full(b"infe", struct.pack(">HH", at, 0), b"hvc1\0", version=2) for at in range(1, count + 1))
    infos = full(b"iinf", struct.pack(">H", count), *info)
    place = b"".join(struct.pack(">HHHII", at, 0, 1, 44, 100) for at in range(1, count + 1))
    return infos, full(b"iloc", b"\x44\0", struct.pack(">H", count), place)


@case("mp4_properties_of_items.mp4")
def _():
    """The item of each property is searched for among all items."""
    count = 400_000
    info = full(b"infe", u32(1, 0), b"hvc1\0", version=3)
    infos = full(b"iinf", u32(count), info * count, version=1)
    uses = full(b"ipma", u32(500_000), struct.pack(">HBB", 0xFFFF, 1, 1) * 500_000)
    hdlr = full(b"hdlr", u32(0), b"pict", bytes(12))
    props = box(b"iprp", box(b"ipco", box(b"pixi", u32(0), b"\1\x08")), uses)
    return box(b"ftyp", b"heic", u32(0), b"mif1heic") + full(b"meta", hdlr, full(b"pitm", b"\0\1"), infos, props)


@case("mp4_picture_items.mp4")
def _():
    infos, places = items(60_000)
    hdlr = full(b"hdlr", u32(0), b"pict", bytes(12))
    primary = full(b"pitm", b"\0\1")
    config = box(b"hvcC", find(GRAY.stsd, [b"stsd"])[8 + 8 + 78 :][8:])
    uses = b"".join(struct.pack(">HBB", at, 1, 1) for at in range(1, 60_001))
    props = box(b"iprp", box(b"ipco", config * 2000), full(b"ipma", u32(60_000), uses))
    return box(b"ftyp", b"heic", u32(0), b"mif1heic") + full(b"meta", hdlr, primary, places, infos, props)


@case("mp4_chapters_that_overlap.mp4")
def _():
    """Every chapter's title is the same half of the file."""
    count = 300_000
    tables = [full(b"stts", u32(1, count, 1)), full(b"stsc", u32(1, 1, 1, 1)), full(b"stco", u32(count), u32(44) * count)]
    entry = full(b"stsd", u32(1), box(b"text", bytes(6), b"\0\1", bytes(43)))
    titles = trak(2, [*tables, stsz(20_000, count)], handler=b"text", stsd=entry)
    return mp4(trak(1, plain_tables(), more=box(b"tref", box(b"chap", u32(2)))), titles)
