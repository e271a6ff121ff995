"""Raw streams of H.264 and H.265."""

import struct

from hostile.cases import FIXTURES, case
from hostile.transport import annex_b, real_units


@case("raw_tiny_units.265")
def _():
    return real_units() + b"\0\0\1\x4e\x01" * 2_000_000 + real_units()


@case("raw_tiny_units_first.265")
def _():
    return real_units(0) + b"\0\0\1\x4e\x01" * 2_000_000 + real_units()


@case("raw_tiny_units.h264")
def _():
    return (FIXTURES / "h264_fields.h264").read_bytes() + b"\0\0\1\x06\x05" * 2_000_000


@case("raw_tiny_pictures.265")
def _():
    return real_units() + b"\0\0\1\x02\x01\xd0" * 1_600_000


@case("raw_tiny_pictures.h264")
def _():
    return (FIXTURES / "h264_fields.h264").read_bytes() + b"\0\0\1\x09\xf0\0\0\1\x65\x88" * 900_000


@case("raw_parameter_sets_change.265")
def _():
    samples = list(annex_b())
    slice_unit = b"\0\0\1\x02\x01\xd0"
    parts = [samples[0], samples[1]]
    for at in range(120_000):
        # A picture parameter set with different bytes after its end each time.
        parts.append(b"\0\0\1\x44\x01\xc1\x73\xd1\x89\x80" + struct.pack(">I", 0x80808080 + at) + slice_unit)
    return b"".join(parts)


@case("raw_one_long_picture.265")
def _():
    return real_units() + b"\0\0\1\x02\x01\xd0" + b"\0\0\3\0" * 2_500_000
