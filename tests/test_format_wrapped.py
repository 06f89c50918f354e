"""Section 4.3 of docs/format.md: runs that wrap others, right ones and every rule that rejects them, with right hashes,
by the C decoder and the reference decoder; and that the encoder uses them.
"""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from both import native_verdict, reference_verdict
from forge import Forged, coded, run
from forge_wrapped import Inner, Wrapped, palette, sparse
from reference_chunk import CONST, LAYOUTS, PALETTE, RANS, RAW, SPARSE, ZSTD, decode_chunk, parse_runs

from zipfs import _native

SEED = 20261122
BYTES, F8_E4M3, F8_E4M3_JOINT, I16, BF16, F32, I64 = 0, 5, 13, 7, 1, 3, 9
ZEROS = run(BYTES, bytes(30_000), [CONST])
"""Goes with every run, so that the payload is smaller than its chunk."""
LAYOUT_OF_WIDTH = {1: F8_E4M3, 2: BF16, 4: F32, 8: I64}


def few_values(rng: np.random.Generator, width: int, num: int, n: int) -> bytes:
    values = rng.integers(0, 256, (num, width)).astype(np.uint8)
    return values[np.minimum(rng.geometric(min(0.5, 4 / num), n) - 1, num - 1)].tobytes()


def many_zeros(rng: np.random.Generator, width: int, n: int) -> bytes:
    elements = rng.integers(0, 256, (n, width)).astype(np.uint8)
    elements[rng.random(n) < 0.6] = 0
    elements[n // 2] = 1
    return elements.tobytes()


def accept(wrapped: Wrapped) -> None:
    chunk = coded(wrapped.coded(), ZEROS)
    container = Forged([chunk]).seal()
    assert reference_verdict(container) == chunk.plain
    assert native_verdict(container) == chunk.plain


@pytest.mark.parametrize("n", [1, 8, 9, 65, 1000, 4099])
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_right_ones(width, n):
    rng = np.random.default_rng([SEED, width, n])
    for phase in {0, width - 1}:
        ends = b"h" * phase, b"t" * (width // 2)
        for num, spare in ((5, 0), (200, 0), (5, 251)):
            plain = few_values(rng, width, num, n).join(ends)
            accept(palette(plain, width, BYTES, [RANS], phase, spare))
            accept(palette(plain, width, F8_E4M3_JOINT, [RANS, RAW], phase, spare))
            accept(palette(plain, width, BYTES, [ZSTD], phase, spare))
        plain = many_zeros(rng, width, n).join(ends)
        fields = len(LAYOUTS[LAYOUT_OF_WIDTH[width]].fields)
        for bitmap in (RAW, ZSTD, RANS):
            accept(sparse(plain, width, LAYOUT_OF_WIDTH[width], [RAW] * fields, [bitmap], phase))


def test_indices_above_the_last_are_zero():
    wrapped = palette(few_values(np.random.default_rng(SEED), 2, 9, 500), 2, BYTES, [RAW])
    table, inner = wrapped.parts
    wrapped.parts, wrapped.second = [table[:-2], inner], wrapped.second - 1
    dropped = np.frombuffer(wrapped.plain, "<u2").copy()
    dropped[np.frombuffer(inner.coded.plain, np.uint8) > wrapped.second] = 0
    wrapped.plain = dropped.tobytes()
    accept(wrapped)


PLAIN = few_values(np.random.default_rng(SEED), 2, 9, 501)
PRUNED = many_zeros(np.random.default_rng(SEED), 2, 501)


def base(layout: int, phase: int = 0) -> Wrapped:
    if layout == PALETTE:
        return palette(PLAIN, 2, BYTES, [RAW], phase)
    return sparse(PRUNED, 2, I16, [RAW, RAW], [RAW], phase)


def inner_of(outer: int, number: int, **record: int) -> Wrapped:
    """One whose inner run number `number` says something else."""
    wrapped = base(outer)
    inner = [part for part in wrapped.parts if isinstance(part, Inner)][number]
    inner.record = record
    return wrapped


def but(layout: int, **fields: Any) -> Wrapped:
    wrapped = base(layout, fields.pop("phase", 0))
    for name, value in fields.items():
        setattr(wrapped, name, value)
    return wrapped


def cut(layout: int, size: int) -> Wrapped:
    """The payload ends after `size` bytes."""
    payload = base(layout).coded().payload[:size]
    plain = base(layout).plain
    if size < 4:
        return Raw(layout, plain, payload)
    return Wrapped(layout, plain, payload[0], [payload[4:]], second=payload[1])


class Raw(Wrapped):
    """A payload shorter than the fixed part."""

    def __init__(self, layout: int, plain: bytes, payload: bytes):
        super().__init__(layout, plain, 2, [])
        self.payload = payload

    def coded(self):
        coded = super().coded()
        record = coded.record[:8] + struct.pack("<I", len(self.payload))
        return coded._replace(record=record, payload=self.payload)


def other_bitmap(change: Callable[[np.ndarray], None]) -> Wrapped:
    wrapped = base(SPARSE)
    bits = np.frombuffer(wrapped.parts[1].coded.plain, np.uint8).copy()
    change(bits)
    wrapped.parts[1] = Inner(run(BYTES, bits.tobytes(), [RAW]))
    return wrapped


def set_unused(bits: np.ndarray) -> None:
    """Moves a bit behind the last element, so that as many are set."""
    first = np.flatnonzero(bits)[0]
    bits[first] &= bits[first] - 1
    bits[-1] |= 0x80


def drop_bit(bits: np.ndarray) -> None:
    first = np.flatnonzero(bits)[0]
    bits[first] &= bits[first] - 1


def all_bits(bits: np.ndarray) -> None:
    bits[:-1] = 255


CASES = {
    f"{name}, {case}": (lambda make=make, layout=layout: make(layout), status)
    for name, layout in (("palette", PALETTE), ("sparse", SPARSE))
    for case, make, status in (
        ("empty", lambda x: cut(x, 0), "BAD_RUNS"),
        ("three bytes", lambda x: cut(x, 3), "BAD_RUNS"),
        ("nothing behind the fixed part", lambda x: cut(x, 4), "BAD_RUNS"),
        ("half an inner record", lambda x: cut(x, 4 + 18 * (x == PALETTE) + 11), "BAD_RUNS"),
        ("a byte short", lambda x: cut(x, len(base(x).coded().payload) - 1), "BAD_RUNS"),
        ("a byte more", lambda x: but(x, extra=b"\0"), "BAD_RUNS"),
        ("width 0", lambda x: Raw(x, PLAIN, b"\0" + base(x).coded().payload[1:]), "BAD_RUNS"),
        ("width 3", lambda x: Raw(x, PLAIN, b"\3" + base(x).coded().payload[1:]), "BAD_RUNS"),
        ("width 16", lambda x: Raw(x, PLAIN, b"\x10" + base(x).coded().payload[1:]), "BAD_RUNS"),
        ("phase of the width", lambda x: but(x, record={"phase": 2}), "BAD_RUNS"),
        ("reserved 0", lambda x: but(x, reserved=b"\1\0"), "RESERVED_NOT_ZERO"),
        ("reserved 1", lambda x: but(x, reserved=b"\0\x80"), "RESERVED_NOT_ZERO"),
        ("inner reserved", lambda x: inner_of(x, 0, reserved=1 << 15), "RESERVED_NOT_ZERO"),
        ("inner phase", lambda x: inner_of(x, 0, phase=1), "BAD_RUNS"),
        ("inner layout 15", lambda x: inner_of(x, 0, layout=15), "UNKNOWN_LAYOUT"),
        ("inner COPY", lambda x: inner_of(x, 0, layout=240), "UNKNOWN_LAYOUT"),
        ("inner palette", lambda x: inner_of(x, 0, layout=PALETTE), "UNKNOWN_LAYOUT"),
        ("inner sparse", lambda x: inner_of(x, 0, layout=SPARSE), "UNKNOWN_LAYOUT"),
        ("inner width", lambda x: inner_of(x, 0, layout=F32), "BAD_RUNS"),
        ("inner plain size", lambda x: inner_of(x, 0, plain_size=503), "BAD_RUNS"),
        ("inner plain size near 2^32", lambda x: inner_of(x, 0, plain_size=(1 << 32) - 2), "BAD_RUNS"),
        ("inner run of nothing", lambda x: inner_of(x, 0, plain_size=0), "BAD_RUNS"),
        ("inner stored size near 2^32", lambda x: inner_of(x, 0, stored_size=(1 << 32) - 1), "BAD_RUNS"),
        ("no whole element", lambda x: Raw(x, b"p", base(x).coded().payload), "BAD_RUNS"),
    )
} | {
    "sparse, second byte": (lambda: but(SPARSE, second=1), "RESERVED_NOT_ZERO"),
    "sparse, bitmap of words": (lambda: inner_of(SPARSE, 1, layout=I16), "BAD_RUNS"),
    "sparse, bitmap too short": (lambda: inner_of(SPARSE, 1, plain_size=62), "BAD_RUNS"),
    "sparse, inner runs to the last byte": (lambda: inner_of(SPARSE, 1, stored_size=70), "BAD_RUNS"),
    "sparse, a bit too few": (lambda: other_bitmap(drop_bit), "BAD_RUNS"),
    "sparse, bits too many": (lambda: other_bitmap(all_bits), "BAD_RUNS"),
    "sparse, an unused bit": (lambda: other_bitmap(set_unused), "RESERVED_NOT_ZERO"),
    "palette, values cut short": (lambda: cut(PALETTE, 4 + 17), "BAD_RUNS"),
}


@pytest.mark.parametrize(("make", "status"), CASES.values(), ids=CASES.keys())
def test_rejects(make, status):
    container = Forged([coded(make().coded(), ZEROS)]).seal()
    assert reference_verdict(container) == status
    assert native_verdict(container) == status


def encoded_layouts(plain: bytes, layout: str, level: int, start: int = 0) -> set[int]:
    """The layouts of the runs that C makes of a chunk; checks that the reference decoder gives it back."""
    segment = struct.pack("<QQII", start, len(plain) - start, _native.LAYOUTS[layout], 0)
    out = bytearray(len(plain))
    ((size, kind, _, _),) = _native.Codec(18).encode(plain, 0, segment, level, out)
    assert decode_chunk(bytes(out[:size]), kind, len(plain)) == plain
    return {r.layout for r in parse_runs(bytes(out[:size]), len(plain))}


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("layout", ["BF16", "F32", "F64", "I64"])
def test_the_encoder_uses_them(layout, level):
    width = {"BF16": 2, "F32": 4, "F64": 8, "I64": 8}[layout]
    rng = np.random.default_rng([SEED, width, level])
    for num in (2, 3, 40, 256):
        assert encoded_layouts(b"x" + few_values(rng, width, num, 20_000), layout, level, 1) == {PALETTE}
    assert encoded_layouts(many_zeros(rng, width, 20_000), layout, level) == {SPARSE}


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_encoder_groups_bytes(level):
    """Skewed bytes of which all 256 occur, as in codebooks and packed codes: within 1 % of their entropy."""
    rng = np.random.default_rng([SEED, level])
    share = rng.exponential(1, 256) ** 1.5
    share /= share.sum()
    plain = rng.choice(256, 1 << 18, p=share).astype(np.uint8).tobytes()
    out = bytearray(len(plain))
    segment = struct.pack("<QQII", 0, len(plain), _native.LAYOUTS["BYTES"], 0)
    ((size, kind, _, _),) = _native.Codec(18).encode(plain, 0, segment, level, out)
    assert [r.layout for r in parse_runs(bytes(out[:size]), len(plain))] == [PALETTE]
    assert size * 8 <= 1.015 * -np.sum(share * np.log2(share)) * len(plain)
    assert decode_chunk(bytes(out[:size]), kind, len(plain)) == plain


def test_the_encoder_joins_bytes_of_few_values():
    """Scales that neighbours share, by fours."""
    rng = np.random.default_rng(SEED)
    plain = (120 + np.repeat(rng.integers(0, 3, 1 << 11), 64) + (rng.random(1 << 17) < 0.1)).astype(np.uint8).tobytes()
    out = bytearray(len(plain))
    segment = struct.pack("<QQII", 0, len(plain), _native.LAYOUTS["BYTES"], 0)
    ((size, kind, _, _),) = _native.Codec(18).encode(plain, 0, segment, 0, out)
    ((layout, _, _, _),) = parse_runs(bytes(out[:size]), len(plain))
    assert (layout, out[16]) == (PALETTE, 4)
    assert decode_chunk(bytes(out[:size]), kind, len(plain)) == plain
