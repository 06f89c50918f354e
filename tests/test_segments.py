"""The segment table: packed bytes, every rule, and the shares of the stored bytes."""

import struct

import pytest
from reference import parse_segments as reference_parse
from reference_common import Rejected

from zipfs import _native, segments
from zipfs.errors import FormatError
from zipfs.layouts.segment import Segment
from zipfs.segments import SegmentMap, StoredSegment

A = Segment("a", "BF16", (2, 3), 100, 12)
B = Segment("bß", "F8_E4M3", (), 112, 1)
BF16 = _native.LAYOUTS["BF16"]


def section_of(table: bytes, size: int | None = None) -> bytes:
    rest = struct.pack("<Q", len(table) if size is None else size) + _native.zstd_compress(table)
    return struct.pack("<Q", _native.hash(rest, 2)) + rest


def record(offset=0, size=1, name=b"x", dtype=b"U8", shape=(1,)) -> bytes:
    head = struct.pack("<QQQHBB", offset, size, 0, len(name), len(dtype), len(shape))
    return head + name + dtype + struct.pack(f"<{len(shape)}Q", *shape)


def table_of(*records: bytes, count: int | None = None, reserved: int = 0) -> bytes:
    return struct.pack("<II", len(records) if count is None else count, reserved) + b"".join(records)


def test_packed_bytes():
    section = segments.pack([A], [7])
    table = bytes.fromhex("01000000 00000000 6400000000000000 0c00000000000000 0700000000000000 0100 04 02") + b"aBF16"
    table += bytes.fromhex("0200000000000000 0300000000000000")
    assert section == section_of(table)


def test_round_trip():
    assert segments.parse(segments.pack([A, B], [5, 1]), 113) == [StoredSegment(A, 5), StoredSegment(B, 1)]


def test_nothing_to_say_is_no_table():
    assert segments.pack([], []) == b""


def test_what_does_not_fit_is_left_out():
    long = A._replace(name="n" * 65536)
    deep = B._replace(shape=(1,) * 65)
    assert segments.pack([long, deep], [1, 1]) == b""
    assert segments.parse(segments.pack([long, B], [1, 1]), 113) == [StoredSegment(B, 1)]


BROKEN = {
    "empty": b"",
    "short": bytes(15),
    "checksum": bytes(8) + section_of(table_of(record()))[8:],
    "table too large": section_of(table_of(record()), size=(64 << 20) + 1),
    "table too small": section_of(bytes(7)),
    "table of another size": section_of(table_of(record()), size=len(table_of(record())) + 1),
    "no frame": struct.pack("<Q", _native.hash(struct.pack("<Q", 8), 2)) + struct.pack("<Q", 8),
    "reserved": section_of(table_of(record(), reserved=1)),
    "more records than said": section_of(table_of(record(), record(1), count=1)),
    "fewer records than said": section_of(table_of(record(), count=2)),
    "torn record": section_of(table_of(record())[:-1]),
    "beyond the file": section_of(table_of(record(offset=112, size=2))),
    "overflow": section_of(table_of(record(offset=2**64 - 1, size=2))),
    "overlap": section_of(table_of(record(0, 2), record(1, 1))),
    "descending": section_of(table_of(record(5, 1), record(1, 1))),
    "long dtype": section_of(table_of(record(dtype=b"U" * 33))),
    "deep shape": section_of(table_of(record(shape=(1,) * 65))),
    "name is no UTF-8": section_of(table_of(record(name=b"\xff"))),
    "dtype is no ASCII": section_of(table_of(record(dtype=b"\xc3\x9f"))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_section_is_rejected(name):
    with pytest.raises(FormatError) as caught:
        segments.parse(BROKEN[name], 113)
    assert caught.value.status == "BAD_SEGMENTS"
    with pytest.raises(Rejected) as rejected:
        reference_parse(BROKEN[name], 113)
    assert rejected.value.status == "BAD_SEGMENTS"


def test_records_for_the_encoder():
    empty = Segment("e", "F32", (0,), 112, 0)
    whole = SegmentMap([A, empty, B])
    both = struct.pack("<QQIIQQII", 100, 12, BF16, 0, 112, 1, _native.LAYOUTS["F8_E4M3"], 0)
    assert whole.packed(0, 1000) == both
    assert whole.packed(111, 113) == both
    assert whole.packed(112, 113) == both[24:]
    assert whole.packed(0, 101) == both[:24]
    assert whole.packed(0, 100) == whole.packed(113, 200) == b""


def test_shares_of_a_stored_chunk_are_the_plain_bytes():
    whole = SegmentMap([A, Segment("e", "F32", (0,), 112, 0), B])
    assert whole.shares(64, 64, memoryview(bytes(64)), 0) == [(0, 12), (2, 1)]
    assert whole.shares(108, 100, memoryview(bytes(100)), 0) == [(0, 4), (2, 1)]
    assert whole.shares(200, 64, memoryview(bytes(64)), 0) == []


def test_shares_are_rounded_down_run_by_run():
    # Runs of 10 and 6 plain bytes, stored as 7 and 5, over tensors [0, 4) [4, 12) [12, 20).
    runs = struct.pack("<B3xBBHIIBBHII", 2, 0, 0, 0, 10, 7, 0, 0, 0, 6, 5)
    payload = memoryview(runs + bytes(12))
    tensors = [Segment(n, "U8", (s,), o, s) for n, o, s in (("a", 0, 4), ("b", 4, 8), ("c", 12, 8))]
    shares = SegmentMap(tensors).shares(0, 16, payload, 1)
    assert shares == [(0, 7 * 4 // 10), (1, 7 * 6 // 10), (1, 5 * 2 // 6), (2, 5 * 4 // 6)]
