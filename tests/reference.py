"""A second decoder: slow, clear, written from docs/format.md alone and laid out in its order. Tests hold the C code
against it.

It checks every rule of the text and raises `Rejected` with the name that the text gives. It trusts nothing in a
container and does no I/O: a container is any bytes-like object (an mmap for large ones). Nothing here may be imported
by `zipfs`. This part holds sections 2, 3, 6 and the targets of 8 (header, index, segment table, copies);
reference_common.py has 1 (conventions), reference_chunk.py 4 and the rest of 8 (payloads, COPY runs), reference_rans.py
5.
"""

import functools
import hashlib
import struct
from typing import Any, NamedTuple

import numpy as np
from reference_chunk import CONSTANT, RUNS, STORED, copied_ranges, decode_chunk, decode_zstd
from reference_common import Rejected, ceil_div, reject, require, require_zero, xxh3

# ---- 2. header ---------------------------------------------------------------------------------------------------

MAGIC = b"\x89ZIPFS\r\n"
HEADER_SIZE = 256
PAYLOADS, PAGES, ROOT, SEGMENTS = 1, 2, 3, 4
MAX_PLAIN_SIZE, MAX_ROOT_SIZE, MAX_TABLE_SIZE = 1 << 50, 64 << 20, 64 << 20


class Header(NamedTuple):
    plain_size: int
    chunk_log2: int
    level: int
    sha256: bytes | None
    has_copies: bool
    sections: dict[int, tuple[int, int]]
    """kind -> (offset, size); unknown optional ones are left out."""

    @property
    def num_chunks(self) -> int:
        return ceil_div(self.plain_size, 1 << self.chunk_log2)

    @property
    def num_pages(self) -> int:
        return ceil_div(self.num_chunks, PAGE_ENTRIES)

    def chunk_plain_size(self, number: int) -> int:
        return min(1 << self.chunk_log2, self.plain_size - (number << self.chunk_log2))


def parse_header(data: bytes, file_size: int) -> Header:
    require(data[:8] == MAGIC, "BAD_MAGIC", "no container")
    require(len(data) >= HEADER_SIZE, "TRUNCATED", f"{len(data)} bytes do not hold a header")
    data = data[:HEADER_SIZE]
    (
        version,
        header_size,
        flags,
        required,
        _optional,
        plain_size,
        container_size,
        chunk_log2,
        level,
        num_sections,
        _zstd,
    ) = struct.unpack_from("<HHIQQQQBBHI", data, 8)
    require(version == 1, "BAD_VERSION", f"version {version}")
    require(xxh3(data[:248], 0) == struct.unpack_from("<Q", data, 248)[0], "HEADER_CHECKSUM", "header is damaged")
    require(header_size == HEADER_SIZE, "BAD_HEADER", f"header_size {header_size}")
    require(flags <= 1, "RESERVED_NOT_ZERO", f"flags {flags:#x}")
    require(required <= 1, "UNKNOWN_FEATURE", f"required_features {required:#x}")
    require(plain_size <= MAX_PLAIN_SIZE, "TOO_LARGE", f"plain_size {plain_size}")
    require(file_size >= container_size, "TRUNCATED", f"{file_size} of {container_size} bytes")
    require(file_size == container_size, "BAD_HEADER", f"{file_size} bytes instead of {container_size}")
    require(16 <= chunk_log2 <= 22, "BAD_HEADER", f"chunk_log2 {chunk_log2}")
    require(level <= 2, "BAD_HEADER", f"level {level}")
    require(3 <= num_sections <= 6, "BAD_SECTIONS", f"num_sections {num_sections}")
    require_zero(data[56:64], "header")
    sha256 = data[64:96]
    require(bool(flags) or not any(sha256), "RESERVED_NOT_ZERO", "a SHA-256 that is said to be unknown")
    sections = parse_sections(data, num_sections, container_size)
    require_zero(data[96 + 24 * num_sections : 248], "header")
    header = Header(plain_size, chunk_log2, level, sha256 if flags else None, required == 1, sections)
    check_index_sizes(header)
    return header


def parse_sections(data: bytes, num_sections: int, container_size: int) -> dict[int, tuple[int, int]]:
    sections: dict[int, tuple[int, int]] = {}
    end = HEADER_SIZE
    for number in range(num_sections):
        kind, flags, reserved, offset, size = struct.unpack_from("<HHIQQ", data, 96 + 24 * number)
        require(flags <= 1 and reserved == 0, "RESERVED_NOT_ZERO", f"section {number}")
        if number < 3:
            known = kind in (PAYLOADS, PAGES, ROOT, SEGMENTS)
            require(known or (kind != 5 and flags == 1), "UNKNOWN_FEATURE", f"section of kind {kind}")
            require(kind == number + 1 and flags == 0, "BAD_SECTIONS", f"section {number} of kind {kind}")
        elif kind in (PAYLOADS, PAGES, ROOT, SEGMENTS):
            require(kind == SEGMENTS and kind not in sections and flags == 1, "BAD_SECTIONS", f"section of kind {kind}")
        else:
            require(kind != 5 and flags == 1, "UNKNOWN_FEATURE", f"section of kind {kind}")
        require(offset == end, "BAD_SECTIONS", f"section {number} begins at {offset} instead of {end}")
        end += size
        if kind in (PAYLOADS, PAGES, ROOT, SEGMENTS):
            sections[kind] = (offset, size)
    require(end == container_size, "BAD_SECTIONS", f"sections end at {end}, the container at {container_size}")
    return sections


# ---- 3. index ----------------------------------------------------------------------------------------------------

PAGE_SIZE = 4096
PAGE_ENTRIES = 127


class Entry(NamedTuple):
    offset: int
    stored_size: int
    kind: int
    stored_hash: int
    plain_hash: int


def check_index_sizes(header: Header) -> None:
    pages_size, root_size = header.sections[PAGES][1], header.sections[ROOT][1]
    require(
        pages_size == 32 * header.num_pages + 32 * header.num_chunks, "BAD_SECTIONS", f"pages of {pages_size} bytes"
    )
    require(root_size == 8 * (header.num_pages + 2), "BAD_SECTIONS", f"a root of {root_size} bytes")
    require(root_size <= MAX_ROOT_SIZE, "TOO_LARGE", f"a root of {root_size} bytes")


def parse_root(data: bytes, header: Header) -> np.ndarray:
    """Returns num_pages + 1 bounds, uint64."""
    require(
        xxh3(data[:-8], 1) == struct.unpack_from("<Q", data, len(data) - 8)[0], "ROOT_CHECKSUM", "index root is damaged"
    )
    bounds = np.frombuffer(data[:-8], "<u8")
    start, size = header.sections[PAYLOADS]
    require(bounds[0] == start and bounds[-1] == start + size, "BAD_ROOT", "bounds do not span the payloads")
    require(bool(np.all(bounds[:-1] < bounds[1:])), "BAD_ROOT", "bounds do not ascend")
    return bounds


def parse_page(data: bytes, number: int, header: Header, bounds: np.ndarray) -> list[Entry]:
    checksum, page_number, num_entries, reserved = struct.unpack_from("<QQI12s", data)
    require(xxh3(data[8:], number) == checksum, "PAGE_CHECKSUM", f"page {number} is damaged")
    require(page_number == number, "BAD_PAGE", f"page {page_number} in place of {number}")
    first = number * PAGE_ENTRIES
    require(num_entries == min(PAGE_ENTRIES, header.num_chunks - first), "BAD_PAGE", f"{num_entries} entries")
    require_zero(reserved, "page")
    end = int(bounds[number])
    entries = []
    for i in range(num_entries):
        offset, stored_size, kind, zero, stored_hash, plain_hash = struct.unpack_from("<QIB3sQQ", data, 32 + 32 * i)
        plain_size = header.chunk_plain_size(first + i)
        require(offset == end, "BAD_PAGE", f"payload {first + i} at {offset} instead of {end}")
        require(stored_size >= 1, "BAD_PAGE", f"payload {first + i} is empty")
        require(kind in (STORED, RUNS, CONSTANT), "BAD_PAGE", f"payload of kind {kind}")
        fits = {STORED: stored_size == plain_size, RUNS: stored_size < plain_size, CONSTANT: stored_size == 1}
        require(fits[kind], "BAD_PAGE", f"stored_size {stored_size}")
        require_zero(zero, "entry")
        end += stored_size
        entries.append(Entry(offset, stored_size, kind, stored_hash, plain_hash))
    require(end == int(bounds[number + 1]), "BAD_PAGE", f"page {number} ends at {end}, not at its bound")
    return entries


# ---- 6. segment table --------------------------------------------------------------------------------------------


class Segment(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    plain_size: int
    stored_size: int


def parse_segments(section: bytes, plain_size: int) -> list[Segment]:
    """Every breach is BAD_SEGMENTS."""
    try:
        require(len(section) >= 16, "BAD_SEGMENTS", "no header")
        checksum, table_size = struct.unpack_from("<QQ", section)
        require(xxh3(section[8:], 2) == checksum, "BAD_SEGMENTS", "segment table is damaged")
        require(table_size <= MAX_TABLE_SIZE, "BAD_SEGMENTS", f"a table of {table_size} bytes")
        return parse_table(decode_zstd(section[16:], table_size), plain_size)
    except (Rejected, struct.error, UnicodeDecodeError) as error:
        raise Rejected("BAD_SEGMENTS", str(error)) from error


def parse_table(table: bytes, plain_size: int) -> list[Segment]:
    num_segments, reserved = struct.unpack_from("<II", table)
    require(reserved == 0, "BAD_SEGMENTS", "reserved bytes are not 0")
    segments: list[Segment] = []
    position, end = 8, 0
    for _ in range(num_segments):
        offset, size, stored_size, name_size, dtype_size, ndim = struct.unpack_from("<QQQHBB", table, position)
        position += 28
        require(dtype_size <= 32 and ndim <= 64, "BAD_SEGMENTS", "dtype or shape too long")
        require(end <= offset and offset + size <= plain_size, "BAD_SEGMENTS", f"segment at {offset}")
        name, dtype = struct.unpack_from(f"<{name_size}s{dtype_size}s", table, position)
        position += name_size + dtype_size
        shape = struct.unpack_from(f"<{ndim}Q", table, position)
        position += 8 * ndim
        segments.append(Segment(name.decode(), dtype.decode("ascii"), shape, offset, size, stored_size))
        end = offset + size
    require(position == len(table), "BAD_SEGMENTS", "records do not fill the table")
    return segments


# ---- the whole ---------------------------------------------------------------------------------------------------


class Container:
    """A checked header and root; pages and chunks are checked when they are asked for. `data` is bytes or an mmap."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.header = parse_header(bytes(data[:HEADER_SIZE]), len(data))
        self.bounds = parse_root(self.section(ROOT), self.header)
        self.page = functools.lru_cache(maxsize=1)(self.page)  # chunks come in order; one page at a time is enough

    def section(self, kind: int) -> bytes:
        offset, size = self.header.sections[kind]
        return bytes(self.data[offset : offset + size])

    def page(self, number: int) -> list[Entry]:
        start, size = self.header.sections[PAGES]
        end = min(start + PAGE_SIZE * (number + 1), start + size)
        return parse_page(bytes(self.data[start + PAGE_SIZE * number : end]), number, self.header, self.bounds)

    def entry(self, number: int) -> Entry:
        return self.page(number // PAGE_ENTRIES)[number % PAGE_ENTRIES]

    def payload(self, number: int) -> tuple[bytes, int, int]:
        """Payload, kind and plain size of a chunk."""
        entry = self.entry(number)
        payload = bytes(self.data[entry.offset : entry.offset + entry.stored_size])
        require(xxh3(payload, number) == entry.stored_hash, "CHUNK_CHECKSUM", f"chunk {number} is damaged")
        return payload, entry.kind, self.header.chunk_plain_size(number)

    def chunk(self, number: int, check_plain: bool = True) -> bytes:
        def fetch(target: int, size: int) -> bytes:
            require(target + size <= number << self.header.chunk_log2, "BAD_COPY", f"target {target} of {size} bytes")
            return self.uncopied(target, size)

        plain = decode_chunk(*self.payload(number), fetch if self.header.has_copies else None)
        entry = self.entry(number)
        require(not check_plain or xxh3(plain, 0) == entry.plain_hash, "PLAIN_CHECKSUM", f"chunk {number}")
        return plain

    def uncopied(self, start: int, size: int) -> bytes:
        """Section 8.1: plain bytes that no COPY run holds."""
        log2, plain = self.header.chunk_log2, b""
        for number in range(start >> log2, (start + size - 1 >> log2) + 1):
            at = number << log2
            first, last = max(start, at) - at, min(start + size, at + (1 << log2)) - at
            try:
                chunk = self.payload(number)
                decoded = decode_chunk(*chunk, lambda _, size: bytes(size))
            except Rejected as error:
                reject("BAD_TARGET", str(error))
            overlaps = any(a < last and first < b for a, b in copied_ranges(*chunk))
            require(not overlaps, "BAD_COPY", f"a copy of a copy in chunk {number}")
            plain += decoded[first:last]
        return plain

    def plain(self) -> bytes:
        """The whole plain file, every hash checked."""
        plain = b"".join(self.chunk(number) for number in range(self.header.num_chunks))
        sha256 = self.header.sha256
        require(sha256 in (None, hashlib.sha256(plain).digest()), "PLAIN_CHECKSUM", "SHA-256 differs")
        return plain

    def segments(self) -> list[Segment]:
        if SEGMENTS not in self.header.sections:
            return []
        return parse_segments(self.section(SEGMENTS), self.header.plain_size)


def decode(data: Any) -> bytes:
    """Returns the plain bytes of a container; raises Rejected."""
    return Container(data).plain()
