"""Every rule of docs/format.md section 6, the segment table: the parser of `zipfs` and the reference parser, which
both say BAD_SEGMENTS.
"""

import struct

import pytest
from forge import SegmentRecord, sealed_table, segment_section
from forge_plane import zstd_frame
from reference import parse_segments
from reference_common import Rejected, xxh3

from zipfs import segments
from zipfs.errors import FormatError

RECORD = SegmentRecord(0, 100, b"weight", b"F32", (5, 5))


def with_checksum(checksum: int) -> bytes:
    """A right table under another checksum."""
    return struct.pack("<Q", checksum) + segment_section([RECORD])[8:]


SEGMENT_CASES = {
    "checksum": lambda: with_checksum(xxh3(segment_section([RECORD])[8:], 2) ^ 1),
    "nothing": lambda: b"",
    "shorter than its head": lambda: segment_section([RECORD])[:15],
    "checksum with another seed": lambda: with_checksum(xxh3(segment_section([RECORD])[8:], 0)),
    "table_size over 64 MiB": lambda: segment_section([SegmentRecord(0, 0, bytes(65_535))] * 1025),
    "table_size near 2^64": lambda: sealed_table(b"", (1 << 64) - 1),
    "table_size is not the frame's": lambda: sealed_table(bytes(8), table_size=9),
    "no frame": lambda: sealed_table(bytes(8), frame=b"no frame"),
    "bytes after the frame": lambda: sealed_table(bytes(8), frame=zstd_frame(bytes(8)) + b"\0"),
    "frame with a checksum": lambda: sealed_table(bytes(8), frame=zstd_frame(bytes(8), descriptor=0xA4)),
    "shorter than a count": lambda: sealed_table(bytes(7)),
    "reserved": lambda: segment_section([RECORD], reserved=1),
    "record missing": lambda: segment_section([RECORD], num_segments=2),
    "record too many": lambda: segment_section([RECORD, RECORD._replace(offset=100)], num_segments=1),
    "2^32 - 1 records": lambda: segment_section([], num_segments=(1 << 32) - 1),
    "byte after the records": lambda: segment_section([RECORD], extra=b"\0"),
    "beyond the file": lambda: segment_section([RECORD._replace(plain_size=1001)]),
    "offset wraps": lambda: segment_section([RECORD._replace(offset=(1 << 64) - 50)]),
    "descending": lambda: segment_section([RECORD._replace(offset=500), RECORD]),
    "overlap": lambda: segment_section([RECORD, RECORD._replace(offset=99)]),
    "dtype of 33 bytes": lambda: segment_section([RECORD._replace(dtype=b"F" * 33)]),
    "65 dimensions": lambda: segment_section([RECORD._replace(shape=(1,) * 65)]),
    "name no UTF-8": lambda: segment_section([RECORD._replace(name=b"\xff")]),
    "dtype no ASCII": lambda: segment_section([RECORD._replace(dtype=b"F\xc3\xa9")]),
    "name beyond the table": lambda: sealed_table(struct.pack("<II", 1, 0) + RECORD.pack()[:30]),
}


@pytest.mark.parametrize("make", SEGMENT_CASES.values(), ids=SEGMENT_CASES.keys())
def test_rejects_segments(make):
    section = make()
    with pytest.raises(Rejected, check=lambda error: error.status == "BAD_SEGMENTS"):
        parse_segments(section, 1000)
    with pytest.raises(FormatError, check=lambda error: error.status == "BAD_SEGMENTS"):
        segments.parse(section, 1000)


def test_accepts_segments():
    records = [
        RECORD,
        SegmentRecord(100, 0, b"empty", b"BF16", (0, 4)),
        SegmentRecord(100, 900, "\N{GREEK SMALL LETTER ALPHA}".encode() * 1000, b"D" * 32, (1,) * 64, 7),
        SegmentRecord(1000, 0, b"", b""),
    ]
    section = segment_section(records)
    expected = [tuple(record) for record in records]
    found = [
        (s.offset, s.plain_size, s.name.encode(), s.dtype.encode(), s.shape, s.stored_size)
        for s in parse_segments(section, 1000)
    ]
    assert found == expected
    native = [
        (s.offset, s.size, s.name.encode(), s.dtype.encode(), tuple(s.shape), size)
        for s, size in segments.parse(section, 1000)
    ]
    assert native == expected
