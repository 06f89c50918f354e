"""Tensors of GGUF files, versions 2 and 3, little-endian. Others are opaque.

magic, version, counts ── metadata (skipped but for the alignment) ── tensor infos ── padding ── data
"""

import math
import struct

from zipfs.layouts.cursor import Cursor
from zipfs.layouts.segment import MAX_SEGMENTS, Broken, Pread, Segment, arrange

MAGIC = b"GGUF"
MAX_HEADER = 64 << 20
"""Bytes of the longest header that is parsed; vocabularies of 250,000 tokens take about 16 MiB."""

TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
"""Name, elements of a block and bytes of a block by ggml's number of the type. A name of ours is that dtype."""

_MAX_NAME = 0xFFFF
_MAX_VALUES = 0xFFFF
_MAX_DIMENSIONS = 8
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_U32_VALUE, _STRING, _ARRAY = 4, 8, 9
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_HEAD = struct.Struct("<4sIQQ")
_ARRAY_HEAD = struct.Struct("<IQ")
_TENSOR_TAIL = struct.Struct("<IQ")


def find(pread: Pread, size: int) -> list[Segment]:
    """Tensors of a file that may be GGUF, by ascending offset; those of unknown types are left out. Broken when it is
    none."""
    cursor = Cursor(pread, size, MAX_HEADER)
    magic, version, num_tensors, num_values = cursor.unpack(_HEAD)
    if magic != MAGIC or version not in (2, 3):
        raise Broken("no header of GGUF 2 or 3")
    if num_tensors > MAX_SEGMENTS or num_values > _MAX_VALUES:
        raise Broken("too many tensors or values")
    alignment = _read_alignment(cursor, num_values)
    infos = [_read_info(cursor) for _ in range(num_tensors)]
    data_start = -(-cursor.at // alignment) * alignment
    segments = (_segment(data_start, *info) for info in infos)
    return arrange((segment for segment in segments if segment), size)


def _read_alignment(cursor: Cursor, num_values: int) -> int:
    """Walks the metadata; the alignment that it names."""
    alignment = 32
    for _ in range(num_values):
        key = _read_string(cursor)
        (kind,) = cursor.unpack(_U32)
        if key == b"general.alignment" and kind == _U32_VALUE:
            (alignment,) = cursor.unpack(_U32)
        elif kind == _ARRAY:
            _skip(cursor, *cursor.unpack(_ARRAY_HEAD))
        else:
            _skip(cursor, kind, 1)
    if alignment == 0:
        raise Broken("the alignment is zero")
    return alignment


def _skip(cursor: Cursor, kind: int, count: int) -> None:
    """Skips `count` values. Arrays of arrays, which ggml refuses, are none."""
    if kind in _WIDTHS:
        cursor.skip(_WIDTHS[kind] * count)
    elif kind == _STRING:
        _skip_strings(cursor, count)
    else:
        raise Broken("a value of an unknown type")


def _skip_strings(cursor: Cursor, count: int) -> None:
    unpack = _U64.unpack_from
    while count:
        data, index = cursor.buffered(8)
        start, last = index, len(data) - 8
        while count and index <= last:
            index += 8 + unpack(data, index)[0]
            count -= 1
        cursor.skip(index - start)


def _read_string(cursor: Cursor) -> bytes:
    (length,) = cursor.unpack(_U64)
    if length > _MAX_NAME:
        raise Broken("a name is too long")
    return cursor.take(length)


def _read_info(cursor: Cursor) -> tuple[bytes, tuple[int, ...], int, int]:
    """Name, shape, type and offset of a tensor."""
    name = _read_string(cursor)
    (num_dimensions,) = cursor.unpack(_U32)
    if num_dimensions > _MAX_DIMENSIONS:
        raise Broken("a tensor has too many dimensions")
    lengths = struct.unpack(f"<{num_dimensions}Q", cursor.take(8 * num_dimensions))
    kind, offset = cursor.unpack(_TENSOR_TAIL)
    return name, lengths[::-1], kind, offset


def _segment(data_start: int, name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> Segment | None:
    if kind not in TYPES:
        return None
    dtype, block_length, block_size = TYPES[kind]
    size = math.prod(shape) // block_length * block_size
    return Segment(name.decode("utf-8", "replace"), dtype, shape, data_start + offset, size)
