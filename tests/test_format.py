"""Every rule of docs/format.md that rejects: a right container spoilt in one place, with all checksums made right
again.

Each case is held against the C reader and the reference decoder, and both must give the name of the text. Payloads
are in test_format_chunk.py and test_format_rans.py, the segment table in test_format_segments.py.
"""

import os
from collections.abc import Callable

import pytest
from both import native_verdict, reference_verdict
from forge import Chunk, Forged, SegmentRecord, coded, constant, run, segment_section, stored
from reference_chunk import CONST

from zipfs import _native

CHUNK = 1 << 16
ZERO = coded(run(0, bytes(CHUNK), [CONST]))
ONE = coded(run(0, b"\1" * CHUNK, [CONST]))
LAST = stored(b"the last chunk")
UNKNOWN = 77
"""A kind of section that version 1 does not know."""


def small() -> Forged:
    """Three chunks and a segment table."""
    table = segment_section([SegmentRecord(8, 4096, b"w", b"BF16", (2, 1024))])
    return Forged([ZERO, ONE, LAST], tables=[(4, table)])


def paged() -> Forged:
    """Two pages: 127 chunks and 2."""
    return Forged([ZERO, ONE] + [ZERO] * 126 + [LAST])


def empty() -> Forged:
    return Forged([])


def shift_sections(forged: Forged, first: int, by: int) -> Forged:
    """Moves the offsets of all sections from `first` on, leaving the sizes."""
    for number in range(first, len(forged.sections)):
        forged.section(number, offset=forged.sections[number].offset + by)
    return forged


def swap_kinds(forged: Forged, a: int, b: int) -> Forged:
    kind = forged.sections[a].kind
    return forged.section(a, kind=forged.sections[b].kind).section(b, kind=kind)


def swap_payloads(forged: Forged) -> bytes:
    """Exchanges the payloads of chunks 0 and 1, which have one size; each entry keeps the other's place but its own
    hash.
    """
    a, b = forged.entry_fields(0), forged.entry_fields(1)
    assert a["stored_size"] == b["stored_size"]
    size = a["stored_size"]
    one, two = (bytes(forged.data[at : at + size]) for at in (a["offset"], b["offset"]))
    forged.data[a["offset"] : a["offset"] + size] = two
    forged.data[b["offset"] : b["offset"] + size] = one
    forged.entry(0, stored_hash=b["stored_hash"]).entry(1, stored_hash=a["stored_hash"])
    return forged.seal()


def swap_pages(forged: Forged) -> bytes:
    """Exchanges pages 0 and 1 of a container of 254 chunks, both whole and with their own checksums."""
    data = bytearray(forged.seal())
    start = forged.sections[1].offset
    data[start : start + 8192] = data[start + 4096 : start + 8192] + data[start : start + 4096]
    return bytes(data)


def unsealed(forged: Forged, offset: int) -> bytes:
    """One bit flipped after the checksums were made."""
    data = bytearray(forged.seal())
    data[offset] ^= 1
    return bytes(data)


Case = tuple[str, Callable[[], Forged | bytes], str]

HEADER_CASES: list[Case] = [
    ("empty file", lambda: b"", "BAD_MAGIC"),
    ("file shorter than the magic", lambda: small().seal()[:7], "BAD_MAGIC"),
    ("file of a magic", lambda: small().seal()[:8], "TRUNCATED"),
    ("file shorter than the header", lambda: small().seal()[:255], "TRUNCATED"),
    ("file shorter than the header without magic", lambda: bytes(255), "BAD_MAGIC"),
    ("magic", lambda: small().header(magic=b"\x89ZIPFS\n\n"), "BAD_MAGIC"),
    ("version 0", lambda: small().header(version=0), "BAD_VERSION"),
    ("version 2", lambda: small().header(version=2), "BAD_VERSION"),
    ("magic before version", lambda: small().header(magic=b"\x89ZIPFS\r\r", version=2), "BAD_MAGIC"),
    ("version before checksum", lambda: unsealed(small().header(version=2), 100), "BAD_VERSION"),
    ("checksum before fields", lambda: unsealed(small().header(header_size=257), 100), "HEADER_CHECKSUM"),
    ("checksum", lambda: unsealed(small(), 248), "HEADER_CHECKSUM"),
    ("optional_features are covered", lambda: unsealed(small(), 24), "HEADER_CHECKSUM"),
    ("header_size 255", lambda: small().header(header_size=255), "BAD_HEADER"),
    ("header_size 257", lambda: small().header(header_size=257), "BAD_HEADER"),
    ("header_size before flags", lambda: small().header(header_size=257, flags=2), "BAD_HEADER"),
    ("flags bit 1", lambda: small().header(flags=3), "RESERVED_NOT_ZERO"),
    ("flags bit 31", lambda: small().header(flags=1 << 31 | 1), "RESERVED_NOT_ZERO"),
    ("feature of bases", lambda: small().header(required_features=2), "UNKNOWN_FEATURE"),
    ("required_features bit 63", lambda: small().header(required_features=1 << 63), "UNKNOWN_FEATURE"),
    ("features before sizes", lambda: small().header(required_features=2, plain_size=1 << 60), "UNKNOWN_FEATURE"),
    ("plain_size", lambda: small().header(plain_size=(1 << 50) + 1), "TOO_LARGE"),
    ("plain_size near 2^64", lambda: small().header(plain_size=(1 << 64) - 1), "TOO_LARGE"),
    ("a byte short", lambda: small().seal()[:-1], "TRUNCATED"),
    ("a byte too many", lambda: small().seal() + b"\0", "BAD_HEADER"),
    ("container_size near 2^64", lambda: small().header(container_size=(1 << 64) - 1), "TRUNCATED"),
    ("chunk_log2 0", lambda: small().header(chunk_log2=0), "BAD_HEADER"),
    ("chunk_log2 15", lambda: small().header(chunk_log2=15), "BAD_HEADER"),
    ("chunk_log2 23", lambda: small().header(chunk_log2=23), "BAD_HEADER"),
    ("chunk_log2 255", lambda: small().header(chunk_log2=255), "BAD_HEADER"),
    ("level 3", lambda: small().header(level=3), "BAD_HEADER"),
    ("level 255", lambda: small().header(level=255), "BAD_HEADER"),
    ("reserved", lambda: small().header(reserved=1), "RESERVED_NOT_ZERO"),
    ("reserved, last byte", lambda: small().header(reserved=1 << 63), "RESERVED_NOT_ZERO"),
    ("reserved at the end", lambda: small().header(reserved2=1 << 63), "RESERVED_NOT_ZERO"),
    ("sha256 said to be unknown", lambda: small().header(flags=0), "RESERVED_NOT_ZERO"),
]

SECTION_CASES: list[Case] = [
    ("no sections", lambda: small().header(num_sections=0), "BAD_SECTIONS"),
    ("two sections", lambda: small().header(num_sections=2), "BAD_SECTIONS"),
    ("seven sections", lambda: small().header(num_sections=7), "BAD_SECTIONS"),
    ("65535 sections", lambda: small().header(num_sections=65535), "BAD_SECTIONS"),
    ("entry after num_sections", lambda: small().section(4, kind=1), "RESERVED_NOT_ZERO"),
    ("last entry", lambda: small().section(5, size=1 << 63), "RESERVED_NOT_ZERO"),
    ("section flags", lambda: small().section(3, flags=3), "RESERVED_NOT_ZERO"),
    ("section reserved", lambda: small().section(1, reserved=1), "RESERVED_NOT_ZERO"),
    ("payloads and pages exchanged", lambda: swap_kinds(small(), 0, 1), "BAD_SECTIONS"),
    ("pages and root exchanged", lambda: swap_kinds(small(), 1, 2), "BAD_SECTIONS"),
    (
        "table before the root",
        lambda: swap_kinds(small(), 2, 3).section(2, flags=1).section(3, flags=0),
        "BAD_SECTIONS",
    ),
    (
        "no pages",
        lambda: small().section(1, kind=3).section(2, kind=4, flags=1).section(3, kind=UNKNOWN),
        "BAD_SECTIONS",
    ),
    ("two roots", lambda: small().section(3, kind=3, flags=0), "BAD_SECTIONS"),
    ("two tables", lambda: Forged([LAST], tables=[(4, b""), (4, b"")]), "BAD_SECTIONS"),
    ("table not optional", lambda: small().section(3, flags=0), "BAD_SECTIONS"),
    ("payloads optional", lambda: small().section(0, flags=1), "BAD_SECTIONS"),
    ("root optional", lambda: small().section(2, flags=1), "BAD_SECTIONS"),
    ("bases", lambda: Forged([LAST], tables=[(5, bytes(8))]), "UNKNOWN_FEATURE"),
    ("bases not optional", lambda: Forged([LAST], tables=[(5, bytes(8))]).section(3, flags=0), "UNKNOWN_FEATURE"),
    ("unknown kind", lambda: small().section(3, kind=UNKNOWN, flags=0), "UNKNOWN_FEATURE"),
    ("unknown kind in place of the pages", lambda: small().section(1, kind=UNKNOWN), "UNKNOWN_FEATURE"),
    ("unknown optional kind before the root", lambda: small().section(1, kind=UNKNOWN, flags=1), "BAD_SECTIONS"),
    ("bases in place of the root", lambda: small().section(2, kind=5, flags=1), "UNKNOWN_FEATURE"),
    ("kind 0", lambda: small().section(3, kind=0, flags=0), "UNKNOWN_FEATURE"),
    ("first section late", lambda: shift_sections(small(), 0, 1), "BAD_SECTIONS"),
    ("first section in the header", lambda: shift_sections(small(), 0, -1), "BAD_SECTIONS"),
    ("hole", lambda: shift_sections(small(), 2, 1), "BAD_SECTIONS"),
    ("overlap", lambda: shift_sections(small(), 3, -1), "BAD_SECTIONS"),
    ("last section too short", lambda: small().section(3, size=small().sections[3].size - 1), "BAD_SECTIONS"),
    ("last section too long", lambda: small().section(3, size=small().sections[3].size + 1), "BAD_SECTIONS"),
    ("size near 2^64", lambda: small().section(3, size=(1 << 64) - 1), "BAD_SECTIONS"),
    ("offset and size wrap", lambda: small().section(0, size=(1 << 64) - 8).section(1, offset=248), "BAD_SECTIONS"),
    ("sizes that wrap to the end", lambda: wrapped_sizes(), "BAD_SECTIONS"),
    ("pages too long", lambda: Forged([ZERO, LAST], pad={2: bytes(32)}), "BAD_SECTIONS"),
    ("pages too short", lambda: small().header(plain_size=4 * CHUNK), "BAD_SECTIONS"),
    ("no pages for an empty file", lambda: Forged([], pad={2: bytes(32)}), "BAD_SECTIONS"),
    ("root too long", lambda: Forged([ZERO, LAST], pad={3: bytes(8)}), "BAD_SECTIONS"),
    ("root too short", lambda: root_short(), "BAD_SECTIONS"),
]

INDEX_CASES: list[Case] = [
    ("root checksum", lambda: unsealed(small(), small().sections[2].offset), "ROOT_CHECKSUM"),
    ("root checksum itself", lambda: unsealed(small(), small().sections[3].offset - 1), "ROOT_CHECKSUM"),
    ("first bound", lambda: small().bound(0, 257), "BAD_ROOT"),
    ("last bound", lambda: small().bound(1, small().sections[1].offset - 1), "BAD_ROOT"),
    ("bound of an empty file", lambda: empty().bound(0, 0), "BAD_ROOT"),
    ("bounds equal", lambda: paged().bound(1, 256), "BAD_ROOT"),
    ("bounds descend", lambda: paged().bound(1, 255), "BAD_ROOT"),
    ("bound beyond the last", lambda: paged().bound(1, 1 << 63), "BAD_ROOT"),
    ("page checksum", lambda: unsealed(paged(), paged().sections[1].offset + 4096 + 40), "PAGE_CHECKSUM"),
    ("pages exchanged", lambda: swap_pages(Forged([ZERO] * 254)), "PAGE_CHECKSUM"),
    ("page_number", lambda: paged().page(1, page_number=0), "BAD_PAGE"),
    ("num_entries of a full page", lambda: paged().page(0, num_entries=126), "BAD_PAGE"),
    ("num_entries of the last page", lambda: paged().page(1, num_entries=127), "BAD_PAGE"),
    ("no entries", lambda: small().page(0, num_entries=0), "BAD_PAGE"),
    ("page reserved", lambda: small().page(0, reserved=b"\1" + bytes(11)), "RESERVED_NOT_ZERO"),
    ("page reserved, last byte", lambda: small().page(0, reserved=bytes(11) + b"\1"), "RESERVED_NOT_ZERO"),
    ("first offset of a page", lambda: small().entry(0, offset=257), "BAD_PAGE"),
    (
        "offset beyond the end before",
        lambda: small().entry(1, offset=small().entry_fields(1)["offset"] + 1),
        "BAD_PAGE",
    ),
    ("offset before the end before", lambda: small().entry(1, offset=256), "BAD_PAGE"),
    ("offset near 2^64", lambda: small().entry(2, offset=(1 << 64) - 1), "BAD_PAGE"),
    ("inner bound", lambda: paged().bound(1, paged().bound_value(1) + 1), "BAD_PAGE"),
    ("stored_size 0", lambda: Forged([ZERO, Chunk(b"", 1, bytes(CHUNK))]), "BAD_PAGE"),
    ("last stored_size", lambda: small().entry(1, stored_size=ZERO_SIZE - 1), "BAD_PAGE"),
    ("last stored_size of the last page", lambda: Forged([ZERO]).entry(0, stored_size=ZERO_SIZE - 1), "BAD_PAGE"),
    ("stored_size beyond the payloads", lambda: Forged([ZERO]).entry(0, stored_size=ZERO_SIZE + 1), "BAD_PAGE"),
    ("kind 3", lambda: small().entry(1, kind=3), "BAD_PAGE"),
    ("constant of two bytes", lambda: Forged([Chunk(bytes(2), 2, bytes(CHUNK))]), "BAD_PAGE"),
    ("constant of no byte", lambda: Forged([ZERO, Chunk(b"", 2, bytes(CHUNK))]), "BAD_PAGE"),
    ("kind 255", lambda: small().entry(1, kind=255), "BAD_PAGE"),
    ("stored chunk too short", lambda: small().entry(0, kind=0), "BAD_PAGE"),
    ("stored chunk too long", lambda: Forged([Chunk(b"abc", 0, b"ab")]), "BAD_PAGE"),
    ("runs as long as the chunk", lambda: Forged([Chunk(bytes(CHUNK), 1, bytes(CHUNK))]), "BAD_PAGE"),
    ("entry reserved", lambda: small().entry(2, reserved=b"\1\0\0"), "RESERVED_NOT_ZERO"),
    ("entry reserved, last byte", lambda: small().entry(2, reserved=b"\0\0\1"), "RESERVED_NOT_ZERO"),
    ("payload damaged", lambda: unsealed(small(), 256), "CHUNK_CHECKSUM"),
    ("payloads exchanged", lambda: swap_payloads(small()), "CHUNK_CHECKSUM"),
    ("plain_hash", lambda: small().entry(1, plain_hash=0), "PLAIN_CHECKSUM"),
]
ZERO_SIZE = len(ZERO.payload)


def root_short() -> Forged:
    """The root's last 8 bytes go to the segment table after it."""
    forged = small()
    size = forged.sections[3].size
    forged.section(2, size=forged.sections[2].size - 8)
    return forged.section(3, offset=forged.sections[3].offset - 8, size=size + 8)


def wrapped_sizes() -> Forged:
    """A section of 2^64 - 8 bytes and one that begins 8 bytes before it: contiguous, and right at the end, modulo
    2^64.
    """
    forged = Forged([LAST], tables=[(UNKNOWN, bytes(16)), (UNKNOWN, b"")])
    forged.section(3, size=(1 << 64) - 8)
    return forged.section(4, offset=forged.sections[3].offset - 8, size=24)


@pytest.mark.parametrize(
    ("make", "status"), [pytest.param(*case[1:], id=case[0]) for case in HEADER_CASES + SECTION_CASES + INDEX_CASES]
)
def test_rejects(make, status):
    container = make()
    if isinstance(container, Forged):
        container = container.seal()
    assert (reference_verdict(container), native_verdict(container)) == (status, status)


ACCEPTED = {
    "as it is": small,
    "two pages": paged,
    "empty": empty,
    "unknown optional features": lambda: small().header(optional_features=(1 << 64) - 1),
    "any zstd": lambda: small().header(zstd_version=0xFFFFFFFF),
    "level fast": lambda: small().header(level=0),
    "level max": lambda: small().header(level=2),
    "unknown SHA-256": lambda: small().header(flags=0, sha256=bytes(32)),
    "unknown optional sections": lambda: Forged([LAST], tables=[(UNKNOWN, b"?"), (4, b""), (UNKNOWN, b"")]),
    "constants": lambda: Forged([constant(255, CHUNK), constant(0, CHUNK), constant(7, 1)]),
    "damaged segment table": lambda: Forged([LAST], tables=[(4, b"damaged")]),
}


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepts(make):
    forged = make()
    container, plain = forged.seal(), b"".join(chunk.plain for chunk in forged.chunks)
    assert reference_verdict(container) == plain
    assert native_verdict(container) == plain


def test_check_chunk():
    """`verify --fast` sees a damaged payload without decoding it."""
    fd = os.memfd_create("container")
    os.write(fd, unsealed(small(), 256))
    with _native.Reader(fd) as reader:
        codec = _native.Codec(16)
        reader.check_chunk(codec, 1)
        with pytest.raises(_native.FormatError, check=lambda error: error.status == "CHUNK_CHECKSUM"):
            reader.check_chunk(codec, 0)
    os.close(fd)


def test_header_write():
    """The C writer of headers makes the bytes that the hand encoder makes."""
    for forged in (small(), paged(), empty()):
        header = forged.seal()[:256]
        assert _native.header_write(_native.header_parse(header, len(forged.data))) == header


def test_sha256_of_another_file():
    """Only the whole plain file can be held against it, so that the C reader leaves it to `verify`."""
    assert reference_verdict(small().header(sha256=b"\1" * 32).seal()) == "PLAIN_CHECKSUM"
