"""Which bytes of a plain file are elements of which type.

Reads the header of safetensors files with a parser of its own, as strict as the format's: a header that breaks a rule
makes the file opaque, never refused. Every other file is opaque: the encoder guesses its layout, region by region. Does
no I/O but pread of the header.
"""

import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from zipfs import _native

MAX_HEADER = 8 << 20
"""Bytes of the longest header that is parsed (about 75,000 tensors).

A file with a longer one is opaque. Bounds memory.
"""

MAX_BRACKETS = 500_000
"""Most brackets in a header that is parsed.

A tensor has 3. Bounds the memory of what json makes of a hostile header.
"""

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


class Segment(NamedTuple):
    """Plain bytes [offset, offset + size) are a tensor: elements of `dtype` in C order of `shape`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def layout(self) -> int:
        return _native.LAYOUTS[DTYPES[self.dtype][1]]


class _Broken(ValueError):
    """A header breaks a rule of safetensors."""


def detect(fd: int, size: int) -> list[Segment]:
    """Tensors of the plain file of `size` bytes open at `fd`, by ascending offset; none when it is opaque."""
    return detect_read(lambda count, offset: os.pread(fd, count, offset), size)


def detect_read(pread: Callable[[int, int], bytes], size: int) -> list[Segment]:
    """detect() for a plain file that pread(count, offset) reads: what importers make is open nowhere."""
    prefix = pread(9, 0)
    if len(prefix) < 9 or prefix[8:] != b"{":
        return []
    header_size = int.from_bytes(prefix[:8], "little")
    if header_size > min(MAX_HEADER, size - 8):
        return []
    header = pread(header_size, 8)
    if len(header) != header_size:
        return []
    try:
        return parse_safetensors(header, size - 8 - header_size)
    except _Broken:
        return []


def parse_safetensors(header: bytes, data_size: int) -> list[Segment]:
    """Tensors that the JSON `header` names, for `data_size` bytes behind it.

    ValueError for whatever safetensors itself would refuse.
    """
    data_start = 8 + len(header)
    segments = [
        _segment(name, value, data_start) for name, value in _load_json(header).items() if name != "__metadata__"
    ]
    segments.sort(key=lambda segment: (segment.offset, segment.size))
    end = data_start
    for segment in segments:
        if segment.offset != end:
            raise _Broken(f"tensor {segment.name!r} does not begin where the one before it ends")
        end += segment.size
    if end != data_start + data_size:
        raise _Broken("tensors do not fill the file")
    return segments


def _load_json(header: bytes) -> dict[str, Any]:
    if header.count(b"[") + header.count(b"{") > MAX_BRACKETS:
        raise _Broken("too many values")
    try:
        tree = json.loads(header.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        metadata = tree.get("__metadata__", {})
    except (ValueError, RecursionError, AttributeError) as error:
        raise _Broken(f"no JSON object: {error}") from None
    if type(metadata) is not dict or not all(type(value) is str for value in metadata.values()):
        raise _Broken("__metadata__ is no map of strings")
    return tree


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Broken("a key occurs twice")
    return result


def _no_constant(text: str) -> None:
    raise _Broken(f"{text} is no JSON")


def _segment(name: str, value: Any, data_start: int) -> Segment:
    if type(value) is not dict or not value.keys() >= {"dtype", "shape", "data_offsets"}:
        raise _Broken(f"tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if type(dtype) is not str or dtype not in DTYPES:
        raise _Broken(f"tensor {name!r} has the unknown dtype {dtype!r}")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Broken(f"tensor {name!r} has a bad shape or bad offsets")
    if not name.isascii() and any("\ud800" <= c <= "\udfff" for c in name):
        raise _Broken(f"the name {name!r} is no text")
    bits = DTYPES[dtype][0]
    for length in shape:
        bits = min(bits * length, 1 << 70)
    if bits != 8 * (offsets[1] - offsets[0]):
        raise _Broken(f"the shape of tensor {name!r} does not fit its offsets")
    return Segment(name, dtype, tuple(shape), data_start + offsets[0], offsets[1] - offsets[0])


def _counts(value: Any) -> bool:
    return type(value) is list and all(type(item) is int and 0 <= item < 1 << 64 for item in value)
