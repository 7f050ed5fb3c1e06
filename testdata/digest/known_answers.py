#!/usr/bin/env python3
"""Computes the known answers of the cell hash from its description alone.

Needs the reference implementation of XXH3 (`pip install xxhash`). Writes the Rust literal that the
test in src/digest/cell.rs includes:

    testdata/digest/known_answers.py > testdata/digest/known_answers.rs.in
"""
import struct
import xxhash

VERSION = b"\x01"
TYPES = {"Float": 1, "Integer": 2, "Unsigned": 3, "Boolean": 4, "String": 5}
MASK = (1 << 64) - 1


def part(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def xxh3(data: bytes) -> int:
    return xxhash.xxh3_128(data).intdigest()


def mix(lane: int) -> int:
    lane = ((lane ^ (lane >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    lane = ((lane ^ (lane >> 27)) * 0x94D049BB133111EB) & MASK
    return lane ^ (lane >> 31)


def lanes(value: int) -> list[int]:
    return [mix(value & MASK), mix(value >> 64)]


IDENTITY = part(b"cpu") + struct.pack("<I", 2) + b"".join(
    part(k) + part(v) for k, v in [(b"dc", b"eu"), (b"host", b"a")]
)
CASES = [
    ("usage", 0, "Float", "1.5", struct.pack("<d", 1.5)),
    ("usage", 1_700_000_000_000_000_000, "Float", "-0.0", struct.pack("<d", -0.0)),
    ("usage", -1, "Integer", "i64::MIN", struct.pack("<q", -(2**63))),
    ("usage", 1, "Unsigned", "u64::MAX", struct.pack("<Q", 2**64 - 1)),
    ("up", 1, "Boolean", "true", struct.pack("<Q", 1)),
    ("note", 1, "String", 'b""', b""),
    ("note", 1, "String", 'b"a\\nb"', b"a\nb"),
    ("note", 1, "String", 'b"the quick brown fox jumps over the lazy dog"',
     b"the quick brown fox jumps over the lazy dog"),
]

print(f"({hex(xxh3(VERSION + IDENTITY))}, &[")
for field, time, kind, literal, data in CASES:
    path = xxh3(VERSION + IDENTITY + part(field.encode())).to_bytes(16, "little")
    typed = xxh3(path + bytes([TYPES[kind]])).to_bytes(16, "little")
    key = lanes(xxh3(path + struct.pack("<q", time)))
    if kind == "String":
        data = struct.pack("<Q", len(data)) + data
    value = lanes(xxh3(typed + struct.pack("<q", time) + data))
    hexes = [[hex(lane) for lane in pair] for pair in (key, value)]
    print(f'    ("{field}", {time}, Value::{kind}({literal}), '
          f'[{", ".join(hexes[0])}], [{", ".join(hexes[1])}]),')
print("])")
