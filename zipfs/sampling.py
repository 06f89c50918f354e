"""Tries chunks spread over a file, to learn what compressing all of it would save. Writes nothing."""

from typing import NamedTuple

from zipfs import _native, duplicates
from zipfs.pipeline import CHUNK_LOG2
from zipfs.segments import SegmentMap
from zipfs.source import Source

SAMPLE_CHUNKS = 64
"""Chunks of a file that are tried."""


class Sample(NamedTuple):
    """Plain and stored bytes of the chunks that were tried, and (dtype, plain size, estimated stored size) of each
    tensor of the file.
    """

    plain_size: int
    stored_size: int
    tensors: list[tuple[str, int, int]]


def sample(source: Source, codec: _native.Codec, level: int) -> Sample:
    """Tries up to SAMPLE_CHUNKS chunks, evenly spread over the file."""
    num_chunks = -(-source.size >> CHUNK_LOG2)
    count = min(num_chunks, SAMPLE_CHUNKS)
    segment_map = SegmentMap(source.segments())
    repeated = duplicates.Duplicates(source, segment_map.segments, CHUNK_LOG2)
    plain, stored = memoryview(bytearray(1 << CHUNK_LOG2)), bytearray(1 << CHUNK_LOG2)
    plain_sample = stored_sample = 0
    tried: dict[str, tuple[int, int]] = {}
    for i in range(count):
        number = (2 * i + 1) * num_chunks // (2 * count)
        start = number << CHUNK_LOG2
        chunk = plain[: min(1 << CHUNK_LOG2, source.size - start)]
        source.read_into(chunk, start)
        records, copies = segment_map.packed(start, start + len(chunk)), repeated.copies(start, chunk)
        entries = codec.encode(chunk, number, records, level, stored, duplicates.packed(copies))
        plain_sample += len(chunk)
        stored_sample += entries[0][0]
        _add_shares(tried, segment_map, start, len(chunk), memoryview(stored)[: entries[0][0]], entries[0][1])
    ratio = stored_sample / max(plain_sample, 1)
    return Sample(plain_sample, stored_sample, _tensors(segment_map, tried, ratio))


def _add_shares(
    tried: dict[str, tuple[int, int]], segment_map: SegmentMap, start: int, size: int, payload: memoryview, kind: int
) -> None:
    """Adds what the chunk's tensors took to the plain and stored bytes that were tried of each dtype."""
    counted: set[int] = set()
    for index, stored in segment_map.shares(start, size, payload, kind):
        segment = segment_map.segments[index]
        common = min(start + size, segment.offset + segment.size) - max(start, segment.offset)
        plain_before, stored_before = tried.get(segment.dtype, (0, 0))
        tried[segment.dtype] = plain_before + (0 if index in counted else common), stored_before + stored
        counted.add(index)


def _tensors(segment_map: SegmentMap, tried: dict[str, tuple[int, int]], ratio: float) -> list[tuple[str, int, int]]:
    """The tensors, at the ratio of what was tried of their dtype, or at that of the file."""
    ratios = {dtype: stored / plain for dtype, (plain, stored) in tried.items()}
    return [(s.dtype, s.size, int(s.size * ratios.get(s.dtype, ratio))) for s in segment_map.segments]
