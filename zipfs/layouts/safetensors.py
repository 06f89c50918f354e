"""Tensors of safetensors files, by a parser as strict as the format's: a header that breaks a rule makes the file
opaque."""

import json
from typing import Any

from zipfs.layouts.segment import DTYPES, Broken, Pread, Segment

MAX_HEADER = 8 << 20
"""Bytes of the longest header that is parsed (about 75,000 tensors).

A file with a longer one is opaque. Bounds memory.
"""

MAX_BRACKETS = 500_000
"""Most brackets in a header that is parsed.

A tensor has 3. Bounds the memory of what json makes of a hostile header.
"""


def find(pread: Pread, size: int) -> list[Segment]:
    """Tensors of a file that may be safetensors, by ascending offset. Broken when it is none."""
    prefix = pread(9, 0)
    if len(prefix) < 9 or prefix[8:] != b"{":
        raise Broken("no header of safetensors")
    header_size = int.from_bytes(prefix[:8], "little")
    if header_size > min(MAX_HEADER, size - 8):
        raise Broken("the header is too long")
    header = pread(header_size, 8)
    if len(header) != header_size:
        raise Broken("the file has become shorter")
    return parse_safetensors(header, size - 8 - header_size)


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
            raise Broken(f"tensor {segment.name!r} does not begin where the one before it ends")
        end += segment.size
    if end != data_start + data_size:
        raise Broken("tensors do not fill the file")
    return segments


def _load_json(header: bytes) -> dict[str, Any]:
    if header.count(b"[") + header.count(b"{") > MAX_BRACKETS:
        raise Broken("too many values")
    try:
        tree = json.loads(header.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        metadata = tree.get("__metadata__", {})
    except (ValueError, RecursionError, AttributeError) as error:
        raise Broken(f"no JSON object: {error}") from None
    if type(metadata) is not dict or not all(type(value) is str for value in metadata.values()):
        raise Broken("__metadata__ is no map of strings")
    return tree


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Broken("a key occurs twice")
    return result


def _no_constant(text: str) -> None:
    raise Broken(f"{text} is no JSON")


def _segment(name: str, value: Any, data_start: int) -> Segment:
    if type(value) is not dict or not value.keys() >= {"dtype", "shape", "data_offsets"}:
        raise Broken(f"tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if type(dtype) is not str or dtype not in DTYPES:
        raise Broken(f"tensor {name!r} has the unknown dtype {dtype!r}")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise Broken(f"tensor {name!r} has a bad shape or bad offsets")
    if not name.isascii() and any("\ud800" <= c <= "\udfff" for c in name):
        raise Broken(f"the name {name!r} is no text")
    bits = DTYPES[dtype][0]
    for length in shape:
        bits = min(bits * length, 1 << 70)
    if bits != 8 * (offsets[1] - offsets[0]):
        raise Broken(f"the shape of tensor {name!r} does not fit its offsets")
    return Segment(name, dtype, tuple(shape), data_start + offsets[0], offsets[1] - offsets[0])


def _counts(value: Any) -> bool:
    return type(value) is list and all(type(item) is int and 0 <= item < 1 << 64 for item in value)
