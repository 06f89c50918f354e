"""The segment table (docs/format.md section 6).

Packing, parsing, and each segment's share of the stored bytes. Does no I/O.
"""

import struct
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from zipfs import _native
from zipfs.errors import FormatError
from zipfs.layouts.segment import Segment

MAX_TABLE = 64 << 20
MAX_SECTION = MAX_TABLE + (1 << 20)
"""Bytes of a section beyond which its table cannot be within MAX_TABLE (a frame of incompressible bytes grows by less).
"""

_CHECKSUM_SEED = 2
_SECTION = struct.Struct("<QQ")
_TABLE = struct.Struct("<II")
_RECORD = struct.Struct("<QQQHBB")
_CODEC_RECORD = struct.Struct("<QQII")
_MAX_NAME = 0xFFFF
_MAX_NDIM = 64


class StoredSegment(NamedTuple):
    """A segment with the bytes that it takes in the container."""

    segment: Segment
    stored_size: int


class SegmentMap:
    """The segments of one plain file, ready for the encoder. Threads may share it."""

    def __init__(self, segments: list[Segment]):
        self.segments = segments
        self._filled = [index for index, segment in enumerate(segments) if segment.size]
        self._starts = [segments[index].offset for index in self._filled]
        self._ends = [segments[index].offset + segments[index].size for index in self._filled]
        self._packed = b"".join(
            _CODEC_RECORD.pack(start, end - start, segments[index].layout, 0)
            for index, start, end in zip(self._filled, self._starts, self._ends, strict=True)
        )

    def _overlapping(self, start: int, end: int) -> tuple[int, int]:
        return bisect_right(self._ends, start), bisect_left(self._starts, end)

    def packed(self, start: int, end: int) -> bytes:
        """Records of struct zipfs_segment for the segments that overlap [start, end)."""
        first, stop = self._overlapping(start, end)
        return self._packed[first * _CODEC_RECORD.size : stop * _CODEC_RECORD.size]

    def shares(self, start: int, plain_size: int, payload: memoryview, kind: int) -> list[tuple[int, int]]:
        """(index into segments, stored bytes) for the chunk of plain_size bytes at `start` that was stored as
        `payload`.
        """
        first, stop = self._overlapping(start, start + plain_size)
        if first >= stop:
            return []
        runs = _native.chunk_runs(payload, plain_size) if kind == 1 else [(0, 0, plain_size, len(payload))]
        result = []
        for _, _, run_size, run_stored in runs:
            end = start + run_size
            while first < stop and self._ends[first] <= start:
                first += 1
            for i in range(first, stop):
                common = min(end, self._ends[i]) - max(start, self._starts[i])
                if common <= 0:
                    break
                result.append((self._filled[i], run_stored * common // run_size))
            start = end
        return result


def pack(segments: list[Segment], stored_sizes: list[int]) -> bytes:
    """The section's bytes; b"" when there is nothing to say or no room to say it (the table is optional)."""
    records = []
    for segment, stored_size in zip(segments, stored_sizes, strict=True):
        name, dtype = segment.name.encode("utf-8"), segment.dtype.encode("ascii")
        if len(name) > _MAX_NAME or len(segment.shape) > _MAX_NDIM:
            continue
        ndim = len(segment.shape)
        head = _RECORD.pack(segment.offset, segment.size, stored_size, len(name), len(dtype), ndim)
        records.append(head + name + dtype + struct.pack(f"<{ndim}Q", *segment.shape))
    table = _TABLE.pack(len(records), 0) + b"".join(records)
    if not records or len(table) > MAX_TABLE:
        return b""
    rest = struct.pack("<Q", len(table)) + _native.zstd_compress(table)
    return struct.pack("<Q", _native.hash(rest, _CHECKSUM_SEED)) + rest


def parse(section: bytes, plain_size: int) -> list[StoredSegment]:
    """The inverse, for a plain file of plain_size bytes; FormatError BAD_SEGMENTS when it breaks a rule."""
    if len(section) < _SECTION.size:
        raise _bad("is too short")
    checksum, table_size = _SECTION.unpack_from(section)
    if _native.hash(memoryview(section)[8:], _CHECKSUM_SEED) != checksum:
        raise _bad("has a wrong checksum")
    if not _TABLE.size <= table_size <= MAX_TABLE:
        raise _bad("has a bad size")
    try:
        table = _native.zstd_decompress(memoryview(section)[_SECTION.size :], table_size)
        return _parse_table(table, plain_size)
    except (_native.FormatError, struct.error, UnicodeDecodeError) as error:
        raise _bad(f"does not parse: {error}") from None


def _parse_table(table: bytes, plain_size: int) -> list[StoredSegment]:
    num_segments, reserved = _TABLE.unpack_from(table)
    if reserved:
        raise _bad("has reserved bytes that are not zero")
    result: list[StoredSegment] = []
    at, end = _TABLE.size, 0
    for _ in range(num_segments):
        offset, size, stored_size, name_size, dtype_size, ndim = _RECORD.unpack_from(table, at)
        at += _RECORD.size
        if dtype_size > 32 or ndim > _MAX_NDIM or offset < end or offset + size > plain_size:
            raise _bad("has a record out of bounds")
        end = offset + size
        name, dtype, shape = struct.unpack_from(f"<{name_size}s{dtype_size}s{8 * ndim}s", table, at)
        at += name_size + dtype_size + 8 * ndim
        segment = Segment(name.decode("utf-8"), dtype.decode("ascii"), struct.unpack(f"<{ndim}Q", shape), offset, size)
        result.append(StoredSegment(segment, stored_size))
    if at != len(table):
        raise _bad("is not filled by its records")
    return result


def _bad(what: str) -> FormatError:
    return FormatError("BAD_SEGMENTS", f"the segment table {what}")
