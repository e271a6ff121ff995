"""Matroska files."""

import struct

from hostile.boxes import GRAY, configuration
from hostile.cases import case


def size(number):
    """An EBML length of eight bytes."""
    return struct.pack(">Q", 1 << 56 | number)


UNKNOWN = b"\x01\xff\xff\xff\xff\xff\xff\xff"


def element(identifier, *parts):
    payload = b"".join(parts)
    if len(payload) < 127:
        return bytes.fromhex(identifier) + bytes([0x80 | len(payload)]) + payload
    return bytes.fromhex(identifier) + size(len(payload)) + payload


def number(identifier, value):
    return element(identifier, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def track_entry(at=1, more=b"", codec=b"V_MPEGH/ISO/HEVC"):
    video = element("e0", number("b0", 320), number("ba", 180))
    private = element("63a2", configuration()) if codec == b"V_MPEGH/ISO/HEVC" else b""
    return element("ae", number("d7", at), number("73c5", at), number("83", 1), element("86", codec), private, video, more)


def matroska(*parts, tracks=None, front=b""):
    head = element("1a45dfa3", element("4282", b"matroska"), number("4287", 4), number("4285", 2))
    info = element("1549a966", number("2ad7b1", 1_000_000))
    tracks = element("1654ae6b", tracks or track_entry())
    return head + bytes.fromhex("18538067") + UNKNOWN + info + tracks + front + b"".join(parts)


def cluster(time, *blocks):
    return element("1f43b675", number("e7", time), *blocks)


def block(payload, time=0, flags=0x80):
    return element("a3", b"\x81", struct.pack(">h", time), bytes([flags]), payload)


@case("mkv_fixed_laces.mkv")
def _():
    one = block(b"\xff" + bytes(256), flags=0x84)
    return matroska(*(cluster(at * 1000, one * 100) for at in range(300)))


@case("mkv_xiph_laces.mkv")
def _():
    """Laces at the greatest distance from their block's beginning, with bytes that match almost everywhere."""
    one = block(b"\xff" + b"\x02" * 255 + bytes(512), flags=0x82)
    return matroska(*(cluster(at * 1000, one * 100) for at in range(80)))


@case("mkv_ebml_laces.mkv")
def _():
    one = block(b"\xff" + b"\x82" + b"\xbf" * 254 + bytes(512), flags=0x86)
    return matroska(*(cluster(at * 1000, one * 100) for at in range(80)))


@case("mkv_stripped_laces.mkv")
def _():
    """No frame is in the file in this form: every search for one fails."""
    stripped = element("6d80", element("6240", element("5034", number("4254", 3), element("4255", b"\x01\x02\x03"))))
    one = block(b"\xff" + bytes(256 * 8), flags=0x84)
    return matroska(*(cluster(at * 1000, one * 20) for at in range(120)), tracks=track_entry(more=stripped))


@case("mkv_lzo_blocks.mkv")
def _():
    """Runs of zeros, compressed: a block of 4 kB is a frame of a megabyte."""
    lzo = element("6d80", element("6240", element("5034", number("4254", 2))))
    literal = bytes([17 + 4]) + b"\0\0\0\1"
    packed = literal + b"\x20" + bytes(4096) + b"\xff\0\0" + b"\x11\0\0"
    return matroska(*(cluster(at * 1000, block(packed)) for at in range(1000)), tracks=track_entry(more=lzo))


@case("mkv_tiny_clusters.mkv")
def _():
    return matroska(*(cluster(at, block(b"\0\0\0\2\x02\x01")) for at in range(250_000)))


@case("mkv_empty_clusters.mkv")
def _():
    return matroska(cluster(0, block(next(GRAY.samples()))), b"\x1f\x43\xb6\x75\x80" * 1_500_000)


@case("mkv_backward_blocks.mkv")
def _():
    """libavformat inserts every sync sample at the front of its index."""
    tiny = b"\0\0\0\2\x02\x01"
    clusters = (cluster(30_000_000 - at * 1000, *(block(tiny, time=-n) for n in range(1000))) for at in range(500))
    return matroska(*clusters)


@case("mkv_cues.mkv")
def _():
    point = (
        element("bb", number("b3", 1_000_000 - at), element("b7", number("f7", 1), number("f1", at)))
        for at in range(250_000)
    )
    return matroska(cluster(0, block(next(GRAY.samples()))), front=element("1c53bb6b", *point))


@case("mkv_attachments_and_tags.mkv")
def _():
    file = element("61a7", element("466e", b"a"), element("4660", b"a/b"), element("465c", b"x"), number("46ae", 1))
    tag = (
        element("7373", element("63c0"), element("67c8", element("45a3", b"T%06d" % at), element("4487", b"v")))
        for at in range(80_000)
    )
    front = element("1941a469", file * 40_000) + element("1254c367", *tag)
    return matroska(cluster(0, block(next(GRAY.samples()))), front=front)


@case("mkv_blocks_of_the_last_track.mkv")
def _():
    """The track of each block is searched for among all tracks."""
    other = element("ae", number("d7", 2), number("73c5", 2), number("83", 0x20), element("86", b"X"))
    tiny = block(b"\0\0\0\2\x02\x01", flags=0)
    tracks = other * 900 + track_entry()
    return matroska(*(cluster(at * 1000, tiny * 1000) for at in range(400)), tracks=tracks)


@case("mkv_chapters_backwards.mkv")
def _():
    atom = (element("b6", number("73c4", at + 1), number("91", at), number("92", at + 1)) for at in range(150_000, 0, -1))
    chapters = element("1043a770", element("45b9", *atom))
    return matroska(cluster(0, block(next(GRAY.samples()))), front=chapters)


@case("mkv_tags_of_attachments.mkv")
def _():
    """The attachment of each tag is searched for among all attachments."""
    files = element("1941a469", element("61a7", number("46ae", 1)) * 200_000)
    tags = element("1254c367", element("7373", element("63c0", number("63c6", 2))) * 200_000)
    return matroska(cluster(0, block(next(GRAY.samples()))), front=files + tags)


@case("mkv_many_tracks.mkv")
def _():
    tracks = b"".join(track_entry(at % 100 + 1) for at in range(30_000))
    return matroska(cluster(0, block(next(GRAY.samples()))), tracks=tracks)


@case("mkv_block_additions.mkv")
def _():
    more = element("a6", number("ee", 1), element("a5", b"abcd"))
    group = element("a0", element("a1", b"\x81\0\0\0" + b"\0\0\0\2\x02\x01"), element("75a1", more * 300_000))
    return matroska(cluster(0, group, group), tracks=track_entry(more=number("55ee", 4)))


@case("mkv_seek_heads.mkv")
def _():
    entry = element("4dbb", element("53ab", bytes.fromhex("114d9b74")), number("53ac", 70))
    return matroska(cluster(0, block(next(GRAY.samples()))), front=element("114d9b74", entry * 300_000))


@case("mkv_chapters.mkv")
def _():
    atom = (element("b6", number("73c4", at + 1), number("91", at), number("92", at + 1)) for at in range(150_000))
    chapters = element("1043a770", element("45b9", *atom))
    return matroska(cluster(0, block(next(GRAY.samples()))), front=chapters)
