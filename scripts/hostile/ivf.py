"""IVF files, and streams of OBUs."""

import struct

from hostile.cases import FIXTURES, case


def ivf(codec, *frames):
    head = struct.pack("<4sHH4sHHIIII", b"DKIF", 0, 32, codec, 320, 180, 25, 1, len(frames), 0)
    return head + b"".join(struct.pack("<IQ", len(frame), at) + frame for at, frame in enumerate(frames))


def ivf_frames(name):
    data, at = (FIXTURES / name).read_bytes(), 32
    while at + 12 <= len(data):
        length = struct.unpack_from("<I", data, at)[0]
        yield data[at + 12 : at + 12 + length]
        at += 12 + length


@case("ivf_tiny_frames.ivf")
def _():
    return ivf(b"VP90", *ivf_frames("vp9.ivf"), *[b"\x88"] * 700_000)


@case("ivf_backward_frames.ivf")
def _():
    """libavformat inserts every key frame at the front of its index."""
    first = list(ivf_frames("vp9.ivf"))
    tiny = first[0][:40]
    data = ivf(b"VP90", *first)
    return data + b"".join(struct.pack("<IQ", len(tiny), (1 << 40) - at) + tiny for at in range(150_000))


@case("ivf_empty_frames.ivf")
def _():
    return ivf(b"VP90", *ivf_frames("vp9.ivf"), *[b""] * 700_000)


@case("ivf_frame_that_claims.ivf")
def _():
    return ivf(b"VP90", *ivf_frames("vp9.ivf")) + struct.pack("<IQ", 0x7FFFFFFF, 99) + bytes(1000)


@case("ivf_tiny_obus.ivf")
def _():
    first = next(ivf_frames("av1.ivf"))
    return ivf(b"AV01", *ivf_frames("av1.ivf"), first + b"\x7a\0" * 3_000_000)


@case("ivf_tiny_obus_first.ivf")
def _():
    first = next(ivf_frames("av1.ivf"))
    return ivf(b"AV01", first + b"\x7a\0" * 3_000_000)


@case("obu_tiny_units.obu")
def _():
    first = next(ivf_frames("av1.ivf"))
    return first + b"\x12\0\x7a\0" * 1_500_000


@case("obu_tiny_obus.obu")
def _():
    first = next(ivf_frames("av1.ivf"))
    return first + b"\x7a\0" * 3_000_000 + first
