"""Frames of ZipNN: the header and the table of one (docs/import.md tells the layout), and where its pieces lie.

Every number is checked before it is used; nothing is held but a header. Does no I/O but reads of the source.
"""

import math
import struct
from typing import NamedTuple

from zipfs.importers.imported import damaged, read_exactly
from zipfs.source import Source
from zipfs.writer import MAX_PLAIN_SIZE

MAGIC = b"ZN"
HEADER_SIZE = 32
HUFF0_MAX = 128 << 10
"""Plain bytes of the longest piece that ZipNN codes; longer ones are raw."""

_FIELDS = struct.Struct("<2s3B5B3B3BQQ")
_MAX_SHAPE = 1 + 255 * 9
_FORMATS_WITH_SHAPE = (2, 3)
_OLDEST_MINOR = 3
_MIN_CHUNK_LOG2, _MAX_CHUNK_LOG2 = 4, 50


class Grouping(NamedTuple):
    """How ZipNN cuts elements of one dtype: byte `i` of each element goes to group `i`.

    is_turned: the sign was first moved below the exponent, in each whole 32-bit word of a chunk.
    """

    dtype: str
    num_groups: int
    byte_order: int
    bit_order: int

    @property
    def is_turned(self) -> bool:
        return bool(self.bit_order) and self.num_groups > 1


_F32 = Grouping("F32", 4, 220, 1)
_F16 = Grouping("F16", 2, 10, 0)
GROUPINGS = {
    1: _F32,
    2: _F32,
    4: _F16,
    5: _F16,
    6: Grouping("BF16", 2, 10, 1),
    29: Grouping("F8_E4M3", 1, 10, 1),
    30: Grouping("F8_E5M2", 1, 10, 1),
}
"""By ZipNN's dtype code."""


class Frame(NamedTuple):
    """One frame: bytes [offset, end) of the file hold plain_size plain bytes, in chunks of chunk_size.

    table: offset of the table; starts: where the pieces of each group begin, and where the last ends; shape: of the
    tensor, None for bytes; is_delta: the plain bytes are XORed with a base's; is_chained: others may follow.
    """

    offset: int
    end: int
    plain_size: int
    chunk_size: int
    grouping: Grouping
    table: int
    starts: tuple[int, ...]
    shape: tuple[int, ...] | None
    is_delta: bool
    is_chained: bool

    @property
    def num_chunks(self) -> int:
        return -(-self.plain_size // self.chunk_size)

    def chunk_plain(self, chunk: int) -> int:
        """Plain bytes of a chunk."""
        return min(self.chunk_size, self.plain_size - chunk * self.chunk_size)

    def piece_plain(self, chunk: int, group: int) -> int:
        """Plain bytes of a chunk that belong to a group."""
        quotient, rest = divmod(self.chunk_plain(chunk), self.grouping.num_groups)
        return quotient + (group < rest)

    def types_at(self, chunk: int, group: int) -> int:
        """Offset of the byte that says how a piece is coded."""
        return self.table + group * self.num_chunks + chunk

    def ends_at(self, chunk: int, group: int) -> int:
        """Offset of the u64 that says where a piece ends within its group."""
        return self.table + self.grouping.num_groups * self.num_chunks + 8 * (group * self.num_chunks + chunk)


def read_frame(source: Source, offset: int, limit: int) -> Frame:
    """The frame at `offset`, which must end at `limit` or before; ImportedFileError when it breaks a rule."""
    if limit - offset < HEADER_SIZE:
        raise damaged(source, offset, "is cut off in the header of a frame of ZipNN")
    fields = _FIELDS.unpack(read_exactly(source, offset, HEADER_SIZE))
    magic, major, minor, tiny, byte_order, bit_order, method, kind, delta, *lossy, streaming, log2, code = fields[:-2]
    plain_size, size = fields[-2:]
    if magic != MAGIC:
        raise damaged(source, offset, "has no frame of ZipNN where one should begin")
    if major != 0 or minor < _OLDEST_MINOR:
        raise damaged(source, offset + 2, f"is written by ZipNN {major}.{minor}.{tiny}, whose layout is not known")
    grouping = GROUPINGS.get(code)
    if grouping is None or (grouping.byte_order, grouping.bit_order) != (byte_order, bit_order):
        raise damaged(source, offset + 5, f"has the unknown dtype {code} or byte order {byte_order}, {bit_order}")
    if any(lossy):
        raise damaged(source, offset + 10, "was compressed with loss")
    if method > 4 or kind not in (1, 2, 3) or delta > 2 or (streaming and not 128 <= streaming < 192):
        raise damaged(source, offset + 7, "has an unknown method, input format, delta type or streaming mode")
    if not _MIN_CHUNK_LOG2 <= log2 <= _MAX_CHUNK_LOG2 or plain_size > MAX_PLAIN_SIZE:
        raise damaged(source, offset + 14, f"has chunks of 2^{log2} bytes or {plain_size} plain bytes, out of bounds")
    if size > limit - offset:
        raise damaged(source, offset + 24, f"is cut off: a frame of {size} bytes, of which {limit - offset} are there")
    shape, shape_size = None, 0
    if kind in _FORMATS_WITH_SHAPE:
        shape, shape_size = _read_shape(source, offset + HEADER_SIZE, offset + size)
        if math.prod(shape) * grouping.num_groups != plain_size:
            raise damaged(source, offset + HEADER_SIZE, f"has a shape that does not fit its {plain_size} bytes")
    chunk_size = min(1 << log2, HUFF0_MAX) if grouping.num_groups == 1 else 1 << log2
    table = offset + HEADER_SIZE + shape_size
    frame = Frame(offset, offset + size, plain_size, chunk_size, grouping, table, (), shape, delta != 0, streaming != 0)
    return frame._replace(starts=_group_starts(source, frame))


def _group_starts(source: Source, frame: Frame) -> tuple[int, ...]:
    num_groups, last = frame.grouping.num_groups, frame.num_chunks - 1
    starts = [frame.table + 9 * num_groups * frame.num_chunks]
    if starts[0] > frame.end:
        raise damaged(source, frame.table, "has a frame that is too short for its table")
    for group in range(num_groups):
        size = int.from_bytes(read_exactly(source, frame.ends_at(last, group), 8), "little") if last >= 0 else 0
        starts.append(starts[-1] + size)
    if starts[-1] != frame.end:
        raise damaged(source, frame.table, "has groups that do not fill their frame")
    return tuple(starts)


def _read_shape(source: Source, offset: int, limit: int) -> tuple[tuple[int, ...], int]:
    """The packed shape and its bytes: the number of dimensions, then for each the width of a number, and the number."""
    packed = read_exactly(source, offset, max(0, min(_MAX_SHAPE, limit - offset)))
    shape, at = [], 1
    for _ in range(packed[0] if packed else 0):
        width = packed[at] if at < len(packed) else 0
        if width not in (1, 2, 4, 8):
            raise damaged(source, offset + at, "has a shape whose numbers have an unknown width")
        shape.append(int.from_bytes(packed[at + 1 : at + 1 + width], "little"))
        at += 1 + width
    if at > len(packed):
        raise damaged(source, offset, "is cut off in the shape of a tensor")
    return tuple(shape), at
