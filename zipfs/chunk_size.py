"""How large a container's chunks are: decided by the level, and for large files by what is in them.

What a chunk costs besides its data (an entry of the index, records, tables, states) is some 300 bytes whatever its
size, and a random read costs the decoding of a chunk.
"""

from zipfs import _native
from zipfs.importers.imported import Imported
from zipfs.pipeline import CHUNK_LOG2
from zipfs.segments import SegmentMap
from zipfs.selection import LEVELS
from zipfs.source import Source

LARGE = 8 << 20
"""Bytes from which on a file is looked at: in smaller ones there is little to win."""

DENSE_LOG2 = 21
"""Where little is left of the data, its chunks are quick to decode, and their costs weigh most."""

_DENSE_PERCENT = 30
_SAMPLE_LOG2 = 16
_MAX_SAMPLES = 8
_F64 = _native.LAYOUTS["F64"]


def chunk_log2_of(level: int) -> int:
    """The size of the chunks that a level makes. Half as many have half as many tables and states, which takes 0.03 % of
    BF16 away, and cost a random read twice the time.
    """
    return CHUNK_LOG2 + 1 if level == LEVELS["max"] else CHUNK_LOG2


def chunk_log2_for(source: Source | Imported, level: int) -> int:
    """The size of the chunks for one file: that of its level, but larger where a sample shrinks below 30 %,
    and where most of it is F64, so that a chunk holds as many elements as one of F32.
    """
    log2 = chunk_log2_of(level)
    if source.size < LARGE or not source.is_original:
        return log2
    segment_map = SegmentMap(source.segments())
    if _is_dense(source, segment_map):
        return max(log2, DENSE_LOG2)
    wide = sum(segment.size for segment in segment_map.segments if segment.layout == _F64)
    return max(log2, CHUNK_LOG2 + 1) if 2 * wide >= source.size else log2


def _is_dense(source: Source | Imported, segment_map: SegmentMap) -> bool:
    """Whether pieces spread over the file shrink to less than _DENSE_PERCENT."""
    codec, size = _native.Codec(_SAMPLE_LOG2), 1 << _SAMPLE_LOG2
    plain, stored = memoryview(bytearray(size)), bytearray(size)
    count = min(source.size // (LARGE // 4), _MAX_SAMPLES)
    num_pieces = source.size >> _SAMPLE_LOG2
    stored_size = 0
    for i in range(count):
        number = (2 * i + 1) * num_pieces // (2 * count)
        start = number << _SAMPLE_LOG2
        source.read_into(plain, start)
        entries = codec.encode(plain, number, segment_map.packed(start, start + size), LEVELS["default"], stored)
        stored_size += entries[0][0]
        if 100 * stored_size >= _DENSE_PERCENT * count * size:
            return False
    return True
