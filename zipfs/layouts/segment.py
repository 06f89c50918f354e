"""Segments: which bytes of a plain file are elements of which dtype."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from zipfs import _native
from zipfs.errors import UsageError

Pread = Callable[[int, int], bytes]
"""pread(count, offset): up to `count` bytes of the plain file from `offset`; fewer only at its end."""

MAX_SEGMENTS = 100_000
"""Most tensors of a file that are looked at. Bounds memory."""

# Bits of an element and the layout (docs/format.md section 4.1) that its bytes are cut by. A C64 is two F32. Eight-bit
# integers often carry something else (packed nibbles, FP8 of older tools), which the encoder finds out.
DTYPES: dict[str, tuple[int, str]] = {
    "BOOL": (8, "BYTES"),
    "F4": (4, "BYTES"),
    "F6_E2M3": (6, "BYTES"),
    "F6_E3M2": (6, "BYTES"),
    "U8": (8, "GUESS"),
    "I8": (8, "GUESS"),
    "F8_E5M2": (8, "F8_E5M2"),
    "F8_E4M3": (8, "F8_E4M3"),
    "F8_E8M0": (8, "BYTES"),
    "F8_E4M3FNUZ": (8, "F8_E4M3"),
    "F8_E5M2FNUZ": (8, "F8_E5M2"),
    "I16": (16, "I16"),
    "U16": (16, "I16"),
    "F16": (16, "F16"),
    "BF16": (16, "BF16"),
    "I32": (32, "I32"),
    "U32": (32, "I32"),
    "F32": (32, "F32"),
    "C64": (64, "F32"),
    "F64": (64, "F64"),
    "I64": (64, "I64"),
    "U64": (64, "I64"),
}
"""The dtypes of safetensors, in its order."""

MORE_DTYPES: dict[str, tuple[int, str]] = {
    "C32": (32, "F16"),
    "C128": (128, "F64"),
    "V2": (16, "BF16"),  # what numpy writes for the bfloat16 of ml_dtypes, and for hardly anything else
    "I2": (2, "GUESS"),
    "U2": (2, "GUESS"),
    "I4": (4, "GUESS"),
    "U4": (4, "GUESS"),
}
"""Dtypes that only other formats have. Those in neither table (Q4_K of GGUF, V1 of numpy) are left to the guess."""


class Segment(NamedTuple):
    """Plain bytes [offset, offset + size) are a tensor: elements of `dtype` in C order of `shape`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def layout(self) -> int:
        known = DTYPES.get(self.dtype) or MORE_DTYPES.get(self.dtype)
        if known is not None:
            return _native.LAYOUTS[known[1]]
        return _native.LAYOUTS[self.dtype if self.dtype in _native.LAYOUTS else "GUESS"]


class Broken(ValueError):
    """A header breaks a rule of its format."""


def bits_of(dtype: str) -> int | None:
    """Bits of an element, None where the dtype is in none of the tables above."""
    known = DTYPES.get(dtype) or MORE_DTYPES.get(dtype)
    return known[0] if known else None


def size_of(dtype: str, shape: Iterable[int]) -> int:
    """Bytes of a tensor of a dtype of the tables above; a last byte that is not full counts."""
    return -(-math.prod(shape, start=bits_of(dtype) or 0) // 8)


def arrange(segments: Iterable[Segment], size: int) -> list[Segment]:
    """Those that a segment table can hold and a file of `size` bytes has room for, by ascending offset.

    Of two that overlap the first stays, of two with one offset the longer. Names that are no text are made text.
    """
    result: list[Segment] = []
    end = 0
    for segment in sorted(segments, key=lambda segment: (segment.offset, segment.size > 0, -segment.size)):
        if segment.offset < end or segment.offset + segment.size > size or len(result) == MAX_SEGMENTS:
            continue
        if not all(0 <= length < 1 << 63 for length in segment.shape):
            continue
        name = segment.name if segment.name.isascii() else segment.name.encode("utf-8", "replace").decode()
        result.append(segment._replace(name=name))
        end = segment.offset + segment.size
    return result


def forced(dtype: str, size: int) -> list[Segment]:
    """The segment of a raw file of `size` bytes that the user says holds elements of `dtype`, without a header.

    UsageError for an unknown dtype. Bytes behind the last whole element are in no segment.
    """
    bits = bits_of(dtype)
    if bits is None:
        raise UsageError(f"{dtype!r} is no dtype; use one of {', '.join(DTYPES | MORE_DTYPES)}")
    count = size * 8 // bits
    return [Segment("", dtype, (count,), 0, count * bits // 8)] if count else []
