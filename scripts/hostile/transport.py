"""Transport streams."""

import struct

from hostile.boxes import GRAY, configuration, u32
from hostile.cases import case


def crc32(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if crc & 0x80000000 else crc << 1
    return crc


def section(table, extension, version, number, last, payload):
    length = len(payload) + 9
    head = struct.pack(">BHHBBB", table, 0xB000 | length, extension, 0xC1 | version << 1, number, last)
    return head + payload + u32(crc32(head + payload))


def packets(pid, data, counter=0, start=True):
    """Transport packets of one PES packet or section."""
    out, at = [], 0
    while at < len(data) or not out:
        piece = data[at : at + 184]
        at += len(piece)
        head = struct.pack(">BHB", 0x47, (0x4000 if start else 0) | pid, 0x10 | counter)
        if len(piece) < 184:
            stuffing = 183 - len(piece)
            field = bytes([stuffing]) + (b"\0" + b"\xff" * (stuffing - 1) if stuffing else b"")
            head = head[:3] + bytes([0x30 | counter]) + field
        out.append(head + piece)
        start, counter = False, counter + 1 & 15
    return b"".join(out)


def psi(pid, data):
    return packets(pid, (b"\0" + data).ljust(184, b"\xff"))


def pat(*programs, number=0, last=0, version=0):
    return psi(0, section(0, 1, version, number, last, b"".join(struct.pack(">HH", p, 0xE000 | pid) for p, pid in programs)))


def pmt(pid, program, *streams, version=0):
    payload = struct.pack(">HH", 0xE100, 0xF000)
    payload += b"".join(struct.pack(">BHH", kind, 0xE000 | stream, 0xF000) for kind, stream in streams)
    return psi(pid, section(2, program, version, 0, 0, payload))


def pes(data, pts=None):
    stamp = b""
    if pts is not None:
        stamp = struct.pack(">BHH", 0x21 | pts >> 29 & 0xE, pts >> 14 & 0xFFFE | 1, pts << 1 & 0xFFFE | 1)
    return b"\0\0\1\xe0\0\0" + bytes([0x80, 0x80 if stamp else 0, len(stamp)]) + stamp + data


def transport(*parts, kind=0x24):
    return b"".join([pat((1, 0x1000)), pmt(0x1000, 1, (kind, 0x100)), *parts])


def annex_b(clip=GRAY):
    """The clip's parameter sets and samples, with start codes."""
    record, sets = configuration(), []
    at = 23
    for _ in range(record[22]):
        count = struct.unpack_from(">H", record, at + 1)[0]
        at += 3
        for _ in range(count):
            length = struct.unpack_from(">H", record, at)[0]
            sets.append(record[at + 2 : at + 2 + length])
            at += 2 + length
    start = b"\0\0\0\1"
    yield b"".join(start + unit for unit in sets)
    for sample in clip.samples():
        at, out = 0, b""
        while at < len(sample):
            length = struct.unpack_from(">I", sample, at)[0]
            out += start + sample[at + 4 : at + 4 + length]
            at += 4 + length
        yield out


def real_units(count=2):
    samples = annex_b()
    return b"".join(next(samples) for _ in range(count + 1))


@case("ts_tiny_units.ts")
def _():
    tiny = b"\0\0\1\x4e\x01" * 1_400_000
    return transport(packets(0x100, pes(real_units() + tiny, 90_000)), packets(0x100, pes(real_units(), 180_000)))


@case("ts_tiny_packets.ts")
def _():
    real = packets(0x100, pes(real_units(), 0))
    return transport(real, *(packets(0x100, pes(b"\0\0\1\x02\x01\xd0", at)) for at in range(50_000)))


@case("ts_many_streams.ts")
def _():
    programs = [(at + 1, 0x1000 + at) for at in range(40)]
    tables = [pmt(0x1000 + at, at + 1, *((0x24, 0x100 + at * 30 + n) for n in range(30))) for at in range(40)]
    media = [packets(0x100 + at, pes(b"\0\0\1\x02\x01\xd0", 0)) for at in range(1200)]
    return b"".join([pat(*programs), *tables, *media * 20])


@case("ts_many_programs.ts")
def _():
    tables = []
    for at in range(256):
        programs = [(at * 40 + n + 1, 0x20 + (at * 40 + n) % 0x1F00) for n in range(40)]
        tables.append(pat(*programs, number=at, last=255))
    return b"".join(tables * 6) + transport(packets(0x100, pes(real_units(), 0)))


@case("ts_tables_that_change.ts")
def _():
    parts = []
    for at in range(2000):
        streams = [(0x24, 0x100 + (at * 7 + n) % 0x1E00) for n in range(30)]
        parts.append(pmt(0x1000, 1, *streams, version=at % 32))
        parts.append(packets(0x100, pes(real_units(0), at * 3000)))
    return transport(*parts)
