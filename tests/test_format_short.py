"""The coding SHORT of docs/format.md section 4.2: its example, every field and length, and every rule that rejects a
plane, with right hashes: the C decoder and the reference decoder by name.
"""

import numpy as np
import pytest
from both import native_verdict, reference_verdict
from forge import Chunk, Forged, coded, run
from forge_plane import Plane, raw_plane, short_plane, split_fields
from reference_chunk import CONST, LAYOUTS, RANS, RAW, SHORT

BYTES, BF16, F16, F32, F8_E4M3, BF16_JOINT, F16_JOINT = 0, 1, 2, 3, 5, 10, 11
SEED = 21
ZEROS = run(BYTES, bytes(20_000), [CONST])
"""Goes with every run, so that the payload is smaller than its chunk."""
EXAMPLE = bytes.fromhex("7E 7F 7D 7C 00 00 00  88 8E 01 39  10 90")
EXAMPLE_VALUES = bytes.fromhex("7E 7F 7D 10 7E 7C 7E 7E 7F 90")
TEXT = bytes(min(i % 97, 11) for i in range(1001))
"""Bytes of which most have no code, so that escapes are many; as elements of 4 bits they fit."""
VALUES = np.frombuffer(TEXT, np.uint8)
NIBBLES = bytes(i % 9 * 17 for i in range(301))
UPPER = np.frombuffer(NIBBLES, np.uint8) >> 3 & 15


def plane(data: Plane | list[Plane | int], layout: int = BYTES, plain: bytes = TEXT) -> Chunk:
    return coded(run(layout, plain, data if isinstance(data, list) else [data]), ZEROS)


def last(data: Plane) -> Chunk:
    """A plane that ends where the payload does."""
    return coded(ZEROS, run(BYTES, TEXT, [data]))


def check(chunk: Chunk) -> None:
    container = Forged([chunk]).seal()
    assert reference_verdict(container) == chunk.plain
    assert native_verdict(container) == chunk.plain


def test_example():
    check(plane(Plane(SHORT, EXAMPLE), plain=EXAMPLE_VALUES))
    table = EXAMPLE[:7]
    assert short_plane(np.frombuffer(EXAMPLE_VALUES, np.uint8), table).data == EXAMPLE


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 31, 63, 64, 65, 255, 257, 4095, 4096, 4097])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_field(layout, n):
    """Long runs: escapes live on across the pieces a decoder works in. Of fields of few values, none or all."""
    rng = np.random.default_rng([SEED, layout, n])
    width = LAYOUTS[layout].width
    words = np.minimum(rng.geometric(0.2, (n, width)) - 1, 255).astype(np.uint8)
    words[:, -1] ^= rng.integers(0, 2, n).astype(np.uint8) << 7
    fields = split_fields(layout, words.tobytes())
    for table in (None, bytes(7), bytes([1, 1, 1, 0, 0, 0, 0])):
        joint = [RANS] * LAYOUTS[layout].is_joint
        planes = joint + [short_plane(values, table) for values in fields[len(joint) :]]
        check(coded(run(layout, words.tobytes(), planes), ZEROS))
        check(coded(ZEROS, run(layout, words.tobytes(), planes)))


@pytest.mark.parametrize("rest", [RAW, CONST, RANS, SHORT])
@pytest.mark.parametrize("layout", [BF16, F32])
def test_beside_other_codings(layout, rest):
    """Exponents of short codes, which C merges at once with what the other planes are."""
    rng = np.random.default_rng([SEED, layout, rest])
    n, width = 9000, LAYOUTS[layout].width
    exponents = np.minimum(rng.geometric(0.4, n) + 100, 125)
    low_bits = 8 * width - 9
    low = 5 if rest == CONST else rng.integers(0, 1 << min(low_bits, 8), n)
    words = (exponents << low_bits | low).astype(f"<u{width}").tobytes()
    codings = [SHORT] + [CONST] * (width - 2) + [rest]
    check(coded(run(layout, b"h" + words + b"t" * (width - 1), codings, phase=1), ZEROS))


def nibble_plane(data: Plane) -> Chunk:
    return plane([data, RAW], F8_E4M3, NIBBLES)


def second_of_joint(data: Plane) -> Chunk:
    return plane([RANS, data], BF16_JOINT, TEXT[:1000])


SIX_BITS = split_fields(BF16_JOINT, TEXT[:1000])[1]
NO_ESCAPES = VALUES % 7
CASES = {
    "no bytes": (lambda: plane(Plane(SHORT, b"")), "BAD_PLANE"),
    "cut in the values": (lambda: plane(Plane(SHORT, bytes(6))), "BAD_PLANE"),
    "values alone": (lambda: plane(Plane(SHORT, bytes(7))), "BAD_PLANE"),
    "cut in the codes": (lambda: plane(Plane(SHORT, bytes(7 + 375))), "BAD_PLANE"),
    "an escape missing": (lambda: plane(short_plane(VALUES, cut=1)), "BAD_PLANE"),
    "all escapes missing": (lambda: plane(Plane(SHORT, short_plane(VALUES).data[: 7 + 376])), "BAD_PLANE"),
    "an escape too many": (lambda: plane(short_plane(VALUES, more=b"\1")), "BAD_PLANE"),
    "an escape where there is none": (
        lambda: plane(short_plane(NO_ESCAPES, bytes(range(7)), more=b"\1"), plain=NO_ESCAPES.tobytes()),
        "BAD_PLANE",
    ),
    "more escapes than values": (lambda: plane(short_plane(VALUES, more=bytes(2000))), "BAD_PLANE"),
    "an escape missing at the end of the payload": (lambda: last(short_plane(VALUES, cut=1)), "BAD_PLANE"),
    "an escape too many at the end of the payload": (lambda: last(short_plane(VALUES, more=b"\1")), "BAD_PLANE"),
    "every code an escape, of which there is none": (
        lambda: plane(Plane(SHORT, bytes(7) + b"\xff" * 375 + b"\x07")),
        "BAD_PLANE",
    ),
    "every code an escape, at the end of the payload": (
        lambda: last(Plane(SHORT, bytes(7) + b"\xff" * 375 + b"\x07" + b"\1" * 99)),
        "BAD_PLANE",
    ),
    "lower unused bit": (lambda: plane(spared(1 << 3)), "RESERVED_NOT_ZERO"),
    "upper unused bit": (lambda: plane(spared(1 << 7)), "RESERVED_NOT_ZERO"),
    "a value of 8 bits in 4": (lambda: nibble_plane(tabled(0x80)), "BAD_PLANE"),
    "a value of 5 bits in 4": (lambda: nibble_plane(tabled(0x10)), "BAD_PLANE"),
    "an escape of 5 bits in 4": (lambda: nibble_plane(escaped(UPPER, 0x10)), "BAD_PLANE"),
    "a value of 7 bits in 6": (lambda: second_of_joint(tabled(0x40, SIX_BITS)), "BAD_PLANE"),
    "an escape of 7 bits in 6": (lambda: second_of_joint(escaped(SIX_BITS, 0x40)), "BAD_PLANE"),
    "joint field": (lambda: plane([short_plane(VALUES[:500]), RAW], BF16_JOINT, TEXT[:1000]), "UNKNOWN_CODING"),
    "joint field of 7 bits": (lambda: plane([SHORT, RAW, RAW], F16_JOINT, TEXT[:1000]), "UNKNOWN_CODING"),
}


def spared(bits: int) -> Plane:
    """1001 codes leave five bits of a byte."""
    broken = bytearray(short_plane(VALUES).data)
    broken[7 + 375] |= bits
    return Plane(SHORT, bytes(broken))


def tabled(value: int, values: np.ndarray = UPPER) -> Plane:
    """A value that no code means, and that does not fit."""
    return short_plane(values, bytes([int(values[0])] * 6 + [value]))


def escaped(values: np.ndarray, value: int) -> Plane:
    """The last escape is one that does not fit."""
    return Plane(SHORT, short_plane(values, bytes(7)).data[:-1] + bytes([value]))


@pytest.mark.parametrize(("make", "status"), CASES.values(), ids=CASES.keys())
def test_rejects(make, status):
    container = Forged([make()]).seal()
    assert (reference_verdict(container), native_verdict(container)) == (status, status)


ACCEPTED = {
    "what is spoilt above": lambda: plane(short_plane(VALUES)),
    "at the end of the payload": lambda: last(short_plane(VALUES)),
    "no escapes": lambda: plane(short_plane(NO_ESCAPES, bytes(range(7))), plain=NO_ESCAPES.tobytes()),
    "4 bits": lambda: nibble_plane(tabled(0x0F)),
    "4 bits all escaped": lambda: nibble_plane(Plane(SHORT, all_escaped(UPPER))),
    "6 bits": lambda: second_of_joint(tabled(0x3F, SIX_BITS)),
    "a value twice": lambda: plane(short_plane(VALUES, bytes([11, 11, 1, 1, 2, 2, 2]))),
    "escapes that have codes": lambda: plane(Plane(SHORT, all_escaped(VALUES))),
    "beside raw": lambda: plane([short_plane(VALUES[:500]), raw_plane(VALUES[500:1000], 8)], BF16, bf16()),
}


def all_escaped(values: np.ndarray) -> bytes:
    codes = np.full(len(values), 7, np.uint8)
    return bytes([int(values[0])] * 7) + raw_plane(codes, 3).data + values.tobytes()


def bf16() -> bytes:
    exponent, rest = VALUES[:500].astype("<u2"), VALUES[500:1000].astype("<u2")
    return (exponent << 7 | (rest & 0x80) << 8 | rest & 0x7F).astype("<u2").tobytes()


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepts(make):
    """What the cases above are spoilt from, and what the text allows though no writer does it."""
    check(make())
