"""Is anything slow that is no large aligned tensor of a common dtype? F64 and complex, data at odd offsets, and tensors
that begin and end inside chunks, each beside an aligned case in the same run: on one core, memory to memory.

The aligned case: the same values as one tensor for each dtype, from offset 0, so that each chunk is one run of whole
elements; for F64 and complex, a tensor of F32 of the same size. Chunks have the size that zipfs compress would choose.
"""

import os
import sys
from typing import NamedTuple

import numpy as np

from zipfs.chunk_size import chunk_log2_for
from zipfs.layouts import Segment
from zipfs.layouts.safetensors import parse_safetensors
from zipfs.segments import SegmentMap

from . import corpus, peers, rows, speeds, table

DIRECTIONS = ("compress", "decompress")
SMALLEST, LARGEST = 100 << 10, 700 << 10
"""Bytes of the tensors that many make up."""
DTYPES = ("bf16", "f16", "f32", "f64", "f8_e4m3")


class File(NamedTuple):
    """A file in memory, as much of a zipfs.source.Source as is needed to choose its chunk size."""

    plain: memoryview
    tensors: list[Segment]
    is_original = True

    @property
    def size(self) -> int:
        return len(self.plain)

    def segments(self) -> list[Segment]:
        return self.tensors

    def read_into(self, buffer: memoryview, offset: int) -> None:
        buffer[:] = self.plain[offset : offset + len(buffer)]


class Case(NamedTuple):
    """What is measured, beside the aligned case named `base`; an aligned case has none."""

    name: str
    base: str
    file: File


class Laid(peers.Zipfs):
    """zipfs on a file of tensors, wherever they lie."""

    def __init__(self, case: Case) -> None:
        super().__init__("BYTES", case.file.plain, chunk_log2_for(case.file, self.level))
        self.name = case.name
        self.segments = SegmentMap(case.file.tensors).packed(0, case.file.size)


def aligned(parts: list[rows.Tensor]) -> File:
    """The tensors one after another, without a header."""
    found, at = [], 0
    for dtype, plain in parts:
        found.append(Segment("", dtype, (), at, len(plain)))
        at += len(plain)
    return File(memoryview(b"".join(part.plain for part in parts)), found)


def at_odd_offset(parts: list[rows.Tensor]) -> File:
    """A safetensors file whose data begins at an odd offset."""
    whole = rows.as_file(parts, past=1)
    start = 8 + int.from_bytes(whole[:8], "little")
    return File(memoryview(whole), parse_safetensors(whole[8:start], len(whole) - start))


def pieces(rng: np.random.Generator, dtype: str, plain: bytes) -> list[rows.Tensor]:
    """A tensor cut into smaller ones of an odd number of elements each."""
    width, found, at = rows.DTYPES[dtype][0] // 8, [], 0
    while at < len(plain):
        size = (int(rng.integers(SMALLEST, LARGEST)) // width | 1) * width
        found.append(rows.Tensor(dtype, plain[at : at + size]))
        at += size
    return found


def apart(rng: np.random.Generator, tensors: list[rows.Tensor]) -> list[rows.Tensor]:
    """The tensors with a few bytes between them, so that none continues the grid of the one before it."""
    found = []
    for tensor in tensors:
        found += [tensor, rows.Tensor("U8", rng.bytes(2 * int(rng.integers(0, 4)) + 1))]
    return found


def in_turn(first: list[rows.Tensor], second: list[rows.Tensor]) -> list[rows.Tensor]:
    """The tensors of two lists alternately, then those that are left of the longer one."""
    common = min(len(first), len(second))
    pairs = [tensor for pair in zip(first, second, strict=False) for tensor in pair]
    return pairs + first[common:] + second[common:]


def wide_cases(size: int) -> list[Case]:
    """F64 and complex beside F32. The parts of complex numbers have a scale each."""
    f32, f64 = corpus.synthetic("f32", size), corpus.synthetic("f64", size)
    scales = np.array([1, 0.1])
    c64 = (np.frombuffer(f32, "<f4").reshape(-1, 2) * scales.astype("<f4")).tobytes()
    c128 = (np.frombuffer(f64, "<f8").reshape(-1, 2) * scales).tobytes()
    plain = {"F32": f32, "F64": f64, "C64": c64, "C128": c128}
    return [Case(name, "" if name == "F32" else "F32", aligned([rows.Tensor(name, plain[name])])) for name in plain]


def cut_cases(rng: np.random.Generator, name: str, size: int) -> list[Case]:
    """One dtype, as one tensor and as many, beside one aligned tensor."""
    dtype = corpus.LAYOUTS[name]
    whole = [rows.Tensor(dtype, corpus.synthetic(name, size))]
    many = pieces(rng, dtype, whole[0].plain)
    return [
        Case(dtype, "", aligned(whole)),
        Case(f"{dtype}, at an odd offset", dtype, at_odd_offset(whole)),
        Case(f"{dtype}, many tensors", dtype, at_odd_offset(many)),
        Case(f"{dtype}, many tensors, odd bytes between", dtype, at_odd_offset(apart(rng, many))),
    ]


def mixed_cases(rng: np.random.Generator, size: int) -> list[Case]:
    """Tensors of two dtypes in turn beside two large ones."""
    whole = [rows.Tensor(corpus.LAYOUTS[name], corpus.synthetic(name, size // 2)) for name in ("bf16", "f32")]
    mixed = in_turn(*(pieces(rng, *tensor) for tensor in whole))
    base = "BF16, then F32"
    return [
        Case(base, "", aligned(whole)),
        Case("BF16 and F32 in turn, odd bytes between", base, at_odd_offset(apart(rng, mixed))),
    ]


def measure_group(cases: list[Case], runs: int) -> list[dict]:
    """[{case, base, chunk_size, compress, decompress and their _ratio}]; aligned cases have no ratios."""
    print(f"scripts/bench: {cases[0].name} beside what is not aligned", file=sys.stderr)
    measured = {case.name: speeds.Measured(Laid(case)) for case in cases}
    for run in range(runs):
        for one in measured.values() if run % 2 == 0 else reversed(measured.values()):
            one.run()
    found = []
    for case in cases:
        own, base = measured[case.name], measured.get(case.base)
        row = {"case": case.name, "base": case.base, "chunk_size": 1 << own.peer.chunk_log2}
        for direction in DIRECTIONS:
            row[direction] = table.summary(getattr(own, direction))
            if base:
                row[f"{direction}_ratio"] = speeds.ratios(getattr(own, direction), getattr(base, direction))
        found.append(row)
    return found


def measure(size: int, runs: int) -> list[dict]:
    """The rows of measure_group() for all cases."""
    rng = np.random.default_rng(corpus.SEED)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    found = measure_group(wide_cases(size), runs)
    for name in DTYPES:
        found += measure_group(cut_cases(rng, name, size), runs)
    found += measure_group(mixed_cases(rng, size), runs)
    os.sched_setaffinity(0, allowed)
    return found


def markdown(results: list[dict]) -> str:
    lines = []
    for row in results:
        cells = [row["case"], row["base"] or "aligned", f"{row['chunk_size'] >> 10}"]
        for direction in DIRECTIONS:
            ratio = row.get(f"{direction}_ratio")
            cells += [table.spread(row[direction]), table.spread(ratio) if ratio else "1"]
        lines.append(cells)
    header = ["tensors", "beside", "chunks, KiB"]
    for direction in DIRECTIONS:
        header += [f"{direction} GB/s", "over aligned"]
    return table.markdown(header, lines)
