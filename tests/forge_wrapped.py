"""Runs that wrap others by hand, from docs/format.md section 4.3: right, or with parts overridden. Part of forge.py."""

from dataclasses import dataclass, field
from itertools import starmap
from typing import Any

import numpy as np
from forge import CodedRun, run, run_record
from reference_chunk import PALETTE, SPARSE


@dataclass
class Inner:
    """An inner run; record: fields to override."""

    coded: CodedRun
    record: dict[str, int] = field(default_factory=dict)

    def pack(self) -> bytes:
        layout, phase = self.coded.record[:2]
        sizes = {"plain_size": len(self.coded.plain), "stored_size": len(self.coded.payload)}
        return run_record(**({"layout": layout, "phase": phase} | sizes | self.record)) + self.coded.payload


@dataclass
class Wrapped:
    """A run of layout PALETTE or SPARSE around n elements of `plain`, which begin at `phase`."""

    layout: int
    plain: bytes
    width: int
    parts: list[bytes | Inner]
    """What stands behind the tail."""
    phase: int = 0
    second: int = 0
    """The second byte: `last` of PALETTE."""
    reserved: bytes = bytes(2)
    extra: bytes = b""
    record: dict[str, int] = field(default_factory=dict)

    def coded(self) -> CodedRun:
        tail = (len(self.plain) - self.phase) % self.width
        ends = self.plain[: self.phase] + self.plain[len(self.plain) - tail :]
        parts = b"".join(part if isinstance(part, bytes) else part.pack() for part in self.parts)
        payload = bytes([self.width, self.second]) + self.reserved + ends + parts + self.extra
        fields = {"layout": self.layout, "phase": self.phase, "plain_size": len(self.plain)}
        return CodedRun(run_record(**(fields | {"stored_size": len(payload)} | self.record)), payload, self.plain)


def elements_of(plain: bytes, width: int, phase: int) -> np.ndarray:
    """A row of `width` bytes for each whole element."""
    n = (len(plain) - phase) // width
    return np.frombuffer(plain[phase : phase + n * width], np.uint8).reshape(n, width)


def palette(plain: bytes, width: int, layout: int, planes: list[Any], phase: int = 0, spare: int = 0) -> Wrapped:
    """Values in ascending order behind `spare` unused ones; one of zeros that would be the last is left out."""
    values, indices = np.unique(elements_of(plain, width, phase), axis=0, return_inverse=True)
    table = b"\xee" * (spare * width) + values.tobytes()
    inner = run(layout, (indices.reshape(-1) + spare).astype(np.uint8).tobytes(), planes)
    return Wrapped(PALETTE, plain, width, [table, Inner(inner)], phase, second=spare + len(values) - 1)


def sparse(plain: bytes, width: int, layout: int, planes: list[Any], bitmap: list[Any], phase: int = 0) -> Wrapped:
    elements = elements_of(plain, width, phase)
    bits = elements.any(axis=1)
    inner = [(layout, elements[bits].tobytes(), planes), (0, np.packbits(bits, bitorder="little").tobytes(), bitmap)]
    return Wrapped(SPARSE, plain, width, [Inner(coded) for coded in starmap(run, inner)], phase)
