"""Section 4.4 of docs/format.md: blocks, right ones and every rule that rejects them, with right hashes, by the C decoder
and the reference decoder; and that the encoder uses them where they pay.
"""

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from both import native_verdict, reference_verdict
from forge import CodedRun, Forged, coded, run, run_record
from forge_wrapped import Inner, palette, sparse
from reference_chunk import BLOCKS, CONST, PALETTE, RAW, SPARSE, decode_chunk, parse_runs

from zipfs import _native
from zipfs.layouts import gguf

SEED = 20261122
BYTES, F16, BF16 = 0, 2, 1
ZEROS = run(BYTES, bytes(30_000), [CONST])
"""Goes with every run, so that the payload is smaller than its chunk."""


@dataclass
class Blocks:
    """A run of blocks with parts of `sizes` bytes, which begin at `phase`. Fields to override are those of the payload."""

    plain: bytes
    sizes: list[int]
    inner: list[Inner]
    phase: int = 0
    width: int | None = None
    num_parts: int | None = None
    reserved: bytes = bytes(2)
    extra: bytes = b""
    size: int | None = None
    record: dict[str, int] = field(default_factory=dict)

    def coded(self) -> CodedRun:
        width = sum(self.sizes)
        tail = (len(self.plain) - self.phase) % width
        ends = self.plain[: self.phase] + self.plain[len(self.plain) - tail :]
        fixed = [(self.width or width) - 1, len(self.sizes) if self.num_parts is None else self.num_parts]
        payload = bytes(fixed) + self.reserved + bytes(size - 1 for size in self.sizes) + ends
        payload = (payload + b"".join(part.pack() for part in self.inner) + self.extra)[: self.size]
        fields = {"layout": BLOCKS, "phase": self.phase, "plain_size": len(self.plain)}
        return CodedRun(run_record(**(fields | {"stored_size": len(payload)} | self.record)), payload, self.plain)


def blocks(n: int, sizes: list[int], layouts: list[int], phase: int = 0, tail: int = 0) -> Blocks:
    """n blocks whose parts are RAW runs of these layouts, palettes or sparse ones."""
    rng = np.random.default_rng([SEED, n, *sizes])
    body = rng.integers(0, 5, (n, sum(sizes))).astype(np.uint8)
    starts = np.cumsum([0, *sizes])
    inner = []
    for start, size, layout in zip(starts, sizes, layouts, strict=False):
        part = np.ascontiguousarray(body[:, start : start + size]).tobytes()
        if layout == PALETTE:
            inner.append(Inner(palette(part, 1, BYTES, [RAW]).coded()))
        elif layout == SPARSE:
            inner.append(Inner(sparse(part, 2, F16, [RAW] * 3, [RAW]).coded()))
        else:
            inner.append(Inner(run(layout, part, [RAW] * {BYTES: 1, F16: 3, BF16: 2}[layout])))
    return Blocks(bytes(range(phase)) + body.tobytes() + bytes(range(tail)), sizes, inner, phase)


def verdicts(made: Blocks) -> set[bytes | str]:
    container = Forged([coded(made.coded(), ZEROS)]).seal()
    return {reference_verdict(container), native_verdict(container)}


@pytest.mark.parametrize("n", [1, 2, 33, 130])
@pytest.mark.parametrize(
    ("sizes", "layouts"),
    [
        ([1], [BYTES]),
        ([256], [BYTES]),
        ([2, 32], [F16, BYTES]),
        ([2, 1, 3, 4, 5, 6, 7, 9], [BF16, BYTES, BYTES, F16, BYTES, BF16, BYTES, BYTES]),
        ([4, 12, 128], [F16, PALETTE, BYTES]),
        ([6, 17], [SPARSE, PALETTE]),
    ],
)
def test_right_ones(sizes, layouts, n):
    width = sum(sizes)
    for phase, tail in {(0, 0), (width - 1, width - 1), (0, width // 2), (1 % width, 0)}:
        made = blocks(n, sizes, layouts, phase, tail)
        assert verdicts(made) == {coded(made.coded(), ZEROS).plain}


def base() -> Blocks:
    return blocks(20, [2, 6, 3], [F16, BYTES, PALETTE], phase=5, tail=4)


def but(**fields) -> Blocks:
    return dataclasses.replace(base(), **fields)


def inner_of(number: int, **record: int) -> Blocks:
    made = base()
    made.inner[number].record = record
    return made


CASES: dict[str, tuple[Callable[[], Blocks], str]] = {
    "empty": (lambda: but(size=0), "BAD_RUNS"),
    "three bytes": (lambda: but(size=3), "BAD_RUNS"),
    "nothing behind the fixed part": (lambda: but(size=4), "BAD_RUNS"),
    "no head": (lambda: but(size=4 + 3 + 5), "BAD_RUNS"),
    "half an inner record": (lambda: but(size=4 + 3 + 9 + 11), "BAD_RUNS"),
    "a byte short": (lambda: but(size=len(base().coded().payload) - 1), "BAD_RUNS"),
    "a byte more": (lambda: but(extra=b"\0"), "BAD_RUNS"),
    "no parts": (lambda: but(num_parts=0), "BAD_RUNS"),
    "nine parts": (lambda: blocks(9, [1] * 9, [BYTES] * 9), "BAD_RUNS"),
    "255 parts": (lambda: but(num_parts=255), "BAD_RUNS"),
    "width too small": (lambda: but(width=10), "BAD_RUNS"),
    "width too large": (lambda: but(width=12), "BAD_RUNS"),
    "a part too large": (lambda: but(sizes=[2, 6, 4], width=11), "BAD_RUNS"),
    "phase of the width": (lambda: but(record={"phase": 11}), "BAD_RUNS"),
    "no whole block": (lambda: but(plain=bytes(15)), "BAD_RUNS"),
    "reserved 0": (lambda: but(reserved=b"\1\0"), "RESERVED_NOT_ZERO"),
    "reserved 1": (lambda: but(reserved=b"\0\x80"), "RESERVED_NOT_ZERO"),
    "inner reserved": (lambda: inner_of(1, reserved=1 << 15), "RESERVED_NOT_ZERO"),
    "inner phase": (lambda: inner_of(0, phase=1), "BAD_RUNS"),
    "inner layout 15": (lambda: inner_of(0, layout=15), "UNKNOWN_LAYOUT"),
    "inner COPY": (lambda: inner_of(0, layout=240), "UNKNOWN_LAYOUT"),
    "inner XOR": (lambda: inner_of(0, layout=241), "UNKNOWN_LAYOUT"),
    "inner blocks": (lambda: inner_of(0, layout=BLOCKS), "UNKNOWN_LAYOUT"),
    "inner plain size": (lambda: inner_of(1, plain_size=119), "BAD_RUNS"),
    "inner plain size near 2^32": (lambda: inner_of(1, plain_size=(1 << 32) - 1), "BAD_RUNS"),
    "inner stored size near 2^32": (lambda: inner_of(1, stored_size=(1 << 32) - 1), "BAD_RUNS"),
    "inner stored size too small": (lambda: inner_of(1, stored_size=127), "BAD_RUNS"),
    "an element wider than its part": (
        lambda: blocks_with(Inner(run(BYTES, b"\1", [RAW]), {"layout": F16})),
        "BAD_RUNS",
    ),
}


def blocks_with(inner: Inner) -> Blocks:
    """One block of one byte."""
    return Blocks(b"\1", [1], [inner])


@pytest.mark.parametrize(("make", "status"), CASES.values(), ids=CASES.keys())
def test_rejects(make, status):
    assert verdicts(make()) == {status}


# ---- the encoder ----

FORMATS = sorted(set(_native.LAYOUTS) & {name for name, _, _ in gguf.TYPES.values()} - {"F16", "F32", "F64", "BF16"})
BLOCK_FORMATS = [name for name in FORMATS if _native.LAYOUTS[name] >= 256]
WIDTHS = {name: size for name, _, size in gguf.TYPES.values()}


def encoded(plain: bytes, dtype: str, level: int = 1, start: int = 0) -> tuple[int, list[int], bytes]:
    """(stored size, layouts of the runs, payload) of a chunk; both decoders must give it back."""
    out, codec = bytearray(len(plain)), _native.Codec(18)
    segment = struct.pack("<QQII", start, len(plain) - start, _native.LAYOUTS[dtype], 0)
    (entry,) = codec.encode(plain, 0, segment, level, out)
    payload = bytes(out[: entry[0]])
    back = bytearray(len(plain))
    codec.decode(payload, 0, entry, back)
    assert back == plain == decode_chunk(payload, entry[1], len(plain))
    layouts = [r.layout for r in parse_runs(payload, len(plain))] if entry[1] == 1 else []
    return entry[0], layouts, payload


def quantised(rng: np.random.Generator, width: int, size: int) -> bytes:
    """Blocks of a scale that hardly varies, codes of few values and codes that are nearly noise."""
    deviation = np.where(np.arange(width) < width // 3, 4, 50)
    body = np.clip(rng.normal(0, deviation, (size // width + 1, width)), -128, 127).astype(np.int8).view(np.uint8)
    body[:, :2] = body[:, -2:] = rng.normal(0.01, 0.001, (len(body), 1)).astype("<f2").view(np.uint8)
    return body.tobytes()[:size]


def test_all_types_of_blocks_have_a_format():
    """But those that no file holds, and blocks of more than 256 bytes."""
    blocks_of_gguf = {name for name, length, _ in gguf.TYPES.values() if length > 1}
    assert blocks_of_gguf - set(BLOCK_FORMATS) == {"Q8_1", "Q8_K", "Q1_0"}


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("dtype", BLOCK_FORMATS)
def test_the_encoder_uses_them(dtype, level):
    """The width of each format is that of gguf: with another one, nothing would line up."""
    width = WIDTHS[dtype]
    rng = np.random.default_rng([SEED, width, level])
    for start, size in ((0, 1 << 18), (width - 1, 100_001), (7, 50 * width + 7)):
        plain = rng.bytes(start) + quantised(rng, width, size - start)
        _, layouts, payload = encoded(plain, dtype, level, start)
        if size > 1 << 16:
            assert BLOCKS in layouts
            place = (
                4
                + 12 * len(layouts)
                + sum(struct.unpack("<I", payload[12 + 12 * i : 16 + 12 * i])[0] for i in range(layouts.index(BLOCKS)))
            )
            assert payload[place] == width - 1


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_K"])
def test_the_slowest_level_is_no_larger(dtype):
    plain = quantised(np.random.default_rng(SEED), WIDTHS[dtype], 50_000)
    assert encoded(plain, dtype, 2)[0] <= encoded(plain, dtype, 1)[0]


@pytest.mark.parametrize("dtype", BLOCK_FORMATS)
def test_noise_is_stored_as_it_is(dtype):
    plain = np.random.default_rng(SEED).bytes(1 << 18)
    assert encoded(plain, dtype)[:2] == (1 << 18, [])


def test_blocks_that_repeat_are_no_blocks():
    rng = np.random.default_rng(SEED)
    assert encoded(bytes(1 << 18), "Q4_K")[0] == 1
    plain = rng.bytes(144 * 20) * 91
    assert encoded(plain, "Q4_K")[0] < 10_000


def test_blocks_beside_other_tensors():
    rng = np.random.default_rng(SEED)
    parts = [("F32", rng.normal(0, 0.02, 1000).astype("<f4").tobytes()), ("Q8_0", quantised(rng, 34, 34 * 1000))]
    parts += [("Q6_K", quantised(rng, 210, 210 * 200)), ("BF16", rng.bytes(20)), ("Q6_K", quantised(rng, 210, 210 * 3))]
    plain, records = b"", b""
    for dtype, data in parts:
        records += struct.pack("<QQII", len(plain), len(data), _native.LAYOUTS[dtype], 0)
        plain += data
    out, codec = bytearray(len(plain)), _native.Codec(16)
    entries = codec.encode(plain, 0, records, 1, out)
    at, found = 0, set()
    for number, entry in enumerate(entries):
        expected = plain[number << 16 : (number + 1) << 16]
        payload = bytes(out[at : at + entry[0]])
        assert decode_chunk(payload, entry[1], len(expected)) == expected
        found |= {r.layout for r in parse_runs(payload, len(expected))} if entry[1] == 1 else set()
        at += entry[0]
    assert BLOCKS in found
