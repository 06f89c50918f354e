"""Containers in stores that hand out byte ranges: reads what a request needs, and nothing else.

    ranges of plain bytes -> chunks -> cache | pages of the index -> payloads -> decoded, side by side -> cache

Header and root are fetched and checked once, each page of the index when it is first needed, each payload once for all
who wait for it. What was fetched is as untrusted as a file: every rule that a read depends on is checked.
"""

import array
import itertools
import os
import struct
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from queue import SimpleQueue
from typing import Any, NamedTuple

from zipfs import _native
from zipfs.errors import CorruptError, FormatError, naming
from zipfs.index import ENTRIES_PER_PAGE, num_pages
from zipfs.names import HEADER_SIZE
from zipfs.single_flight import Cache

PAGE_SIZE = 4096
MAX_JOBS = 8
"""Most chunks decoded at one time."""

MAX_FETCH = 8 << 20
"""Bytes of the largest request."""

_PAGE_HEAD = struct.Struct("<QQI12s")
_ENTRY = struct.Struct("<QIB3sQQ")

Fetch = Callable[[Sequence[tuple[int, int]]], list[bytes]]
"""fetch(ranges): the bytes of each [start, end) of the container; fewer where it ends before."""

Entry = tuple[int, tuple[int, int, int, int]]
"""Offset of a payload, and (stored size, kind, stored hash, plain hash)."""


class Chunk(NamedTuple):
    """Decoded bytes but for the copies, (at, size, target) each; is_filled holds one thing when those are there."""

    plain: bytearray
    copies: list[tuple[int, int, int]]
    filled: list[bool]


class RemoteContainer:
    """One version of a container. Any thread.

    fetch: how its bytes are had; key: what tells this version from all others in the cache; path: for messages.
    FormatError, and what fetch raises.
    """

    def __init__(self, fetch: Fetch, header: dict[str, Any], key: Hashable, path: str, cache: Cache):
        self._fetch = fetch
        self._header = header
        self._key = key
        self._path = path
        self._cache = cache
        self._chunk_log2 = header["chunk_log2"]

    @property
    def size(self) -> int:
        """Bytes of the plain file."""
        return self._header["plain_size"]

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The plain bytes of each [start, end), cut off at the end of the file."""
        wanted = [(max(0, start), min(end, self.size)) for start, end in ranges]
        log2 = self._chunk_log2
        numbers = {n for start, end in wanted if start < end for n in range(start >> log2, ((end - 1) >> log2) + 1)}
        chunks = self._chunks(sorted(numbers))
        return [self._cut(chunks, start, end) if start < end else b"" for start, end in wanted]

    def _cut(self, chunks: dict[int, Chunk], start: int, end: int) -> bytes:
        log2 = self._chunk_log2
        parts = []
        for number in range(start >> log2, ((end - 1) >> log2) + 1):
            first = number << log2
            parts.append(memoryview(chunks[number].plain)[max(start - first, 0) : end - first])
        return b"".join(parts)

    def _chunks(self, numbers: list[int]) -> dict[int, Chunk]:
        """The chunks, with their copies."""
        chunks = self._decoded(numbers)
        open_ends = {number: chunk for number, chunk in chunks.items() if chunk.copies and not chunk.filled}
        if open_ends:
            sources = self._sources(open_ends) | chunks
            for number, chunk in open_ends.items():
                self._fill(number, chunk, sources)
        return chunks

    def _sources(self, copying: dict[int, Chunk]) -> dict[int, Chunk]:
        """The chunks that these copy from, all fetched at once; CorruptError BAD_TARGET where one cannot be had."""
        targets = {number: self._targets(number, chunk) for number, chunk in copying.items()}
        try:
            return self._decoded(sorted(set().union(*targets.values())))
        except CorruptError as error:
            number = next(number for number, wanted in targets.items() if error.chunk in wanted)
            raise self._corrupt("BAD_TARGET", number) from None

    def _decoded(self, numbers: list[int]) -> dict[int, Chunk]:
        """The chunks, without their copies."""
        keys = [(self._key, number) for number in numbers]
        return dict(zip(numbers, self._cache.get(keys, self._load), strict=True))

    def _load(self, keys: list[tuple[Hashable, int]]) -> Iterable[Chunk]:
        numbers = [number for _, number in keys]
        entries = self._entries(numbers)
        payloads = _joined(self._fetch, [(offset, offset + entry[0]) for offset, entry in entries])
        return _pool().map(self._decode, numbers, entries, payloads)

    def _decode(self, number: int, entry: Entry, payload: bytes) -> Chunk:
        plain = bytearray(self._plain_size(number))
        codecs = _codecs(self._chunk_log2)
        codec = codecs.get()
        try:
            if len(payload) != entry[1][0]:
                raise self._corrupt("TRUNCATED", number)
            copies = codec.decode(payload, number, entry[1], plain, self._header["has_copies"])
        except _native.FormatError as error:
            raise self._corrupt(error.status, number) from None
        finally:
            codecs.put(codec)
        return Chunk(plain, copies, [])

    def _targets(self, number: int, chunk: Chunk) -> set[int]:
        """The chunks that this one copies from."""
        targets = set()
        for _, size, target in chunk.copies:
            if target + size > number << self._chunk_log2:
                raise self._corrupt("BAD_COPY", number)
            targets.update(range(target >> self._chunk_log2, ((target + size - 1) >> self._chunk_log2) + 1))
        return targets

    def _fill(self, number: int, chunk: Chunk, sources: dict[int, Chunk]) -> None:
        """Fills the copies in. Two threads may do so at once: they write the same."""
        log2 = self._chunk_log2
        for at, size, target in chunk.copies:
            for source in range(target >> log2, ((target + size - 1) >> log2) + 1):
                start, end = max(target, source << log2), min(target + size, (source + 1) << log2)
                first = source << log2
                if any(a + first < end and start < a + s + first for a, s, _ in sources[source].copies):
                    raise self._corrupt("BAD_COPY", number)
                into = at + start - target
                chunk.plain[into : into + end - start] = memoryview(sources[source].plain)[start - first : end - first]
        chunk.filled.append(True)

    def _corrupt(self, status: str, number: int) -> CorruptError:
        start = number << self._chunk_log2
        return CorruptError(status, self._path, number, start, start + self._plain_size(number))

    def _entries(self, numbers: list[int]) -> list[Entry]:
        pages = sorted({number // ENTRIES_PER_PAGE for number in numbers})
        keys = [(self._key, "page", page) for page in pages]
        parsed = dict(zip(pages, self._cache.get(keys, self._load_pages), strict=True))
        return [parsed[number // ENTRIES_PER_PAGE][number % ENTRIES_PER_PAGE] for number in numbers]

    def _load_pages(self, keys: list[tuple[Hashable, str, int]]) -> Iterable[list[Entry]]:
        pages = [page for _, _, page in keys]
        (bounds,) = self._cache.get([(self._key, "root")], self._load_root)
        start, end = self._header["pages_offset"], self._header["pages_offset"] + self._header["pages_size"]
        ranges = [(start + page * PAGE_SIZE, min(start + (page + 1) * PAGE_SIZE, end)) for page in pages]
        return [self._parse_page(page, data, bounds) for page, data in zip(pages, self._fetch(ranges), strict=True)]

    def _parse_page(self, page: int, data: bytes, bounds: array.array) -> list[Entry]:
        """The entries of a page, held to the rules of docs/format.md section 3."""
        count = min(ENTRIES_PER_PAGE, self._header["num_chunks"] - page * ENTRIES_PER_PAGE)
        size = _PAGE_HEAD.size + count * _ENTRY.size
        if len(data) != size or _native.hash(data[8:], page) != int.from_bytes(data[:8], "little"):
            raise FormatError("PAGE_CHECKSUM", f"damaged index page {page}", self._path)
        _, number, num_entries, reserved = _PAGE_HEAD.unpack_from(data)
        entries: list[Entry] = []
        at, fits = bounds[page], (number, num_entries, any(reserved)) == (page, count, False)
        for offset, size, kind, zeros, stored_hash, plain_hash in _ENTRY.iter_unpack(data[_PAGE_HEAD.size :]):
            plain = self._plain_size(page * ENTRIES_PER_PAGE + len(entries))
            fits = fits and offset == at and not any(zeros) and _size_fits(kind, size, plain)
            entries.append((offset, (size, kind, stored_hash, plain_hash)))
            at = offset + size
        if not fits or at != bounds[page + 1]:
            raise FormatError("BAD_PAGE", f"damaged index page {page}", self._path)
        return entries

    def _load_root(self, keys: list[Any]) -> list[array.array]:
        """Where the payloads of each page begin, and end."""
        header = self._header
        (data,) = self._fetch([(header["root_offset"], header["root_offset"] + header["root_size"])])
        if len(data) != header["root_size"] or _native.hash(data[:-8], 1) != int.from_bytes(data[-8:], "little"):
            raise FormatError("ROOT_CHECKSUM", "damaged index root", self._path)
        bounds = array.array("Q", data[:-8])
        ends = header["payloads_offset"], header["payloads_offset"] + header["payloads_size"]
        is_ascending = all(a < b for a, b in itertools.pairwise(bounds))
        if len(bounds) != num_pages(header["num_chunks"]) + 1 or (bounds[0], bounds[-1]) != ends or not is_ascending:
            raise FormatError("BAD_ROOT", "damaged index root", self._path)
        return [bounds]

    def _plain_size(self, number: int) -> int:
        return min(1 << self._chunk_log2, self.size - (number << self._chunk_log2))


def read_header(data: bytes, stored_size: int, path: str) -> dict[str, Any]:
    """The header of a container of stored_size bytes, from its first HEADER_SIZE bytes. FormatError."""
    with naming(path):
        return _native.header_parse(data[:HEADER_SIZE], stored_size)


def charge(value: Any) -> int:
    """Bytes that a value takes in the cache."""
    if isinstance(value, Chunk):
        return len(value.plain) + 500
    return 8 * len(value) if isinstance(value, array.array) else 2000 + 250 * len(value)


def _joined(fetch: Fetch, ranges: list[tuple[int, int]]) -> list[bytes]:
    """fetch() with ranges that follow each other made one, up to MAX_FETCH bytes: each is a request."""
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and joined[-1][1] == start and end - joined[-1][0] <= MAX_FETCH:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    fetched = dict(zip(joined, fetch(joined), strict=True))
    result, owner = [], iter(joined)
    current = next(owner, (0, 0))
    for start, end in ranges:
        while end > current[1]:
            current = next(owner)
        result.append(fetched[current][start - current[0] : end - current[0]])
    return result


def _size_fits(kind: int, stored_size: int, plain_size: int) -> bool:
    if kind == 0:
        return stored_size == plain_size
    return 1 <= stored_size < plain_size if kind == 1 else kind == 2 and stored_size == 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_jobs(), "zipfs-remote")


@cache
def _codecs(chunk_log2: int) -> SimpleQueue:
    codecs: SimpleQueue[_native.Codec] = SimpleQueue()
    for _ in range(_jobs()):
        codecs.put(_native.Codec(chunk_log2))
    return codecs


def _forget_threads() -> None:
    """A forked child has none of them, nor the codecs that they were using."""
    _pool.cache_clear()
    _codecs.cache_clear()


os.register_at_fork(after_in_child=_forget_threads)


def _jobs() -> int:
    return min(MAX_JOBS, len(os.sched_getaffinity(0)))
