"""Tensors of one plain file that are equal, such as tied embeddings: the first of them is stored, the others copy it.

Candidates are found by size and a sample; what is copied is compared in full, part by part, when it is encoded. So two
tensors that differ somewhere still share the parts that are equal. No state: the same bytes give the same copies
with any number of threads.
"""

import struct
from bisect import bisect_right
from collections import Counter
from typing import NamedTuple

from zipfs import _native
from zipfs.layouts.segment import Segment
from zipfs.source import Source

MIN_TENSOR = 64 << 10
"""Bytes of the smallest tensor that is looked at."""

MIN_PART = 16 << 10
"""Bytes of a chunk that are worth a copy: whoever reads it decodes up to two chunks more."""

_MAX_COPIES = 8  # in a chunk, docs/format.md section 8
_SAMPLE = 4096
_RECORD = struct.Struct("<QQQ")


class _Repeat(NamedTuple):
    """Plain bytes [start, end) are likely those `distance` bytes before."""

    start: int
    end: int
    distance: int


class Duplicates:
    """The repeated tensors of one plain file, for the encoder. Threads may share it."""

    def __init__(self, source: Source, segments: list[Segment], chunk_log2: int):
        self._source = source
        self._chunk_size = 1 << chunk_log2
        self._repeats = _join(_find(source, segments))
        self._ends = [repeat.end for repeat in self._repeats]

    def copies(self, start: int, plain: memoryview) -> list[tuple[int, int, int]]:
        """(offset, size, target) of what can be copied of `plain`, the bytes from `start`, a multiple of the chunk
        size.

        Ascending, at most 8 in a chunk, none across two chunks. SourceChangedError where the file has become shorter.
        """
        if not self._repeats:
            return []
        result = []
        for at in range(start, start + len(plain), self._chunk_size):
            end = min(at + self._chunk_size, start + len(plain))
            for part in self._parts(at, end)[:_MAX_COPIES]:
                if self._is_equal(plain[part.start - start : part.end - start], part):
                    result.append((part.start, part.end - part.start, part.start - part.distance))
        return result

    def _parts(self, start: int, end: int) -> list[_Repeat]:
        """What the chunk [start, end) may copy: the targets must lie before it."""
        parts = []
        for index in range(bisect_right(self._ends, start), len(self._repeats)):
            repeat = self._repeats[index]
            if repeat.start >= end:
                break
            part = _Repeat(max(start, repeat.start), min(end, repeat.end, start + repeat.distance), repeat.distance)
            if part.end - part.start >= MIN_PART:
                parts.append(part)
        return parts

    def _is_equal(self, plain: memoryview, part: _Repeat) -> bool:
        target = bytearray(len(plain))
        self._source.read_into(memoryview(target), part.start - part.distance)
        return target == plain


def packed(copies: list[tuple[int, int, int]]) -> bytes:
    """Records for Codec.encode."""
    return b"".join(_RECORD.pack(*copy) for copy in copies)


def _find(source: Source, segments: list[Segment]) -> list[_Repeat]:
    """Tensors that have the size and the sample of one before them, ascending."""
    segments = [segment for segment in segments if segment.size >= MIN_TENSOR]
    sizes = Counter(segment.size for segment in segments)
    first: dict[tuple[int, int], int] = {}
    repeats = []
    for segment in segments:
        if sizes[segment.size] == 1:
            continue
        sample = bytearray(_SAMPLE)
        source.read_into(memoryview(sample), segment.offset + (segment.size - _SAMPLE) // 2)
        if sample == sample[:1] * _SAMPLE:
            continue  # constants take no room without copies
        offset = first.setdefault((segment.size, _native.hash(sample)), segment.offset)
        if offset != segment.offset:
            repeats.append(_Repeat(segment.offset, segment.offset + segment.size, segment.offset - offset))
    return repeats


def _join(repeats: list[_Repeat]) -> list[_Repeat]:
    """Neighbours whose targets are neighbours as well become one."""
    result: list[_Repeat] = []
    for repeat in repeats:
        if result and result[-1].end == repeat.start and result[-1].distance == repeat.distance:
            result[-1] = result[-1]._replace(end=repeat.end)
        else:
            result.append(repeat)
    return result
