"""Tries chunks spread over a file, to learn what compressing all of it would save. Writes nothing."""

from zipfs import _native, duplicates
from zipfs.pipeline import CHUNK_LOG2
from zipfs.segments import SegmentMap
from zipfs.source import Source

SAMPLE_CHUNKS = 64
"""Chunks of a file that are tried."""


def sample(source: Source, codec: _native.Codec, level: int) -> tuple[int, int]:
    """Plain and stored bytes of up to SAMPLE_CHUNKS chunks, evenly spread over the file."""
    num_chunks = -(-source.size >> CHUNK_LOG2)
    count = min(num_chunks, SAMPLE_CHUNKS)
    segment_map = SegmentMap(source.segments())
    repeated = duplicates.Duplicates(source, segment_map.segments, CHUNK_LOG2)
    plain, stored = memoryview(bytearray(1 << CHUNK_LOG2)), bytearray(1 << CHUNK_LOG2)
    plain_sample = stored_sample = 0
    for i in range(count):
        number = (2 * i + 1) * num_chunks // (2 * count)
        start = number << CHUNK_LOG2
        chunk = plain[: min(1 << CHUNK_LOG2, source.size - start)]
        source.read_into(chunk, start)
        records, copies = segment_map.packed(start, start + len(chunk)), repeated.copies(start, chunk)
        entries = codec.encode(chunk, number, records, level, stored, duplicates.packed(copies))
        plain_sample += len(chunk)
        stored_sample += entries[0][0]
    return plain_sample, stored_sample
