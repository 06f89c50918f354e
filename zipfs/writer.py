"""Compresses one file: plain bytes in, a checked container out, under its final name only once it is whole and on disk.

source ──blocks──> threads (read; SHA-256 in turn; encode, decode again, compare; index in turn; write) ──> root,
segments, header ──> every stored byte read back. Tensors that repeat earlier ones become copies of them
(zipfs/duplicates.py). Small files, of which folders hold many, are put together in memory. Deterministic: the same
bytes, level and chunk size give the same container with any number of threads.
"""

import hashlib
import os
from collections.abc import Callable, Collection
from typing import NamedTuple

from zipfs import _native, duplicates, segments
from zipfs.errors import UsageError, ZipfsError, naming
from zipfs.index import MAX_ROOT, IndexWriter, index_size, pack_entry, pack_page, pack_root, root_size
from zipfs.names import HEADER_SIZE, show
from zipfs.output import Output
from zipfs.pipeline import Block, Pipeline
from zipfs.source import SMALL, Source

MAX_PLAIN_SIZE = 1 << 50

HASHING, PLACING = range(2)
"""What blocks take turns for: SHA-256, and a place in the container."""


class Sizes(NamedTuple):
    """Plain and stored bytes of what was written."""

    plain_size: int
    stored_size: int


class Written(NamedTuple):
    """A container that was written; tensors: (dtype, plain bytes, stored bytes) of each."""

    plain_size: int
    stored_size: int
    tensors: list[tuple[str, int, int]]


def write_container(
    source: Source,
    output: Output,
    pipeline: Pipeline,
    level: int,
    *,
    max_size: int | None = None,
    progress: Callable[[int, int], None] = lambda size, stored_size: None,
) -> Written | None:
    """Fills `output` with the container of `source`, checked and with its mode and times, ready to publish.

    source: a file, or what an importer makes of one (zipfs/importers/imported.py).

    Returns None as soon as it is certain that the container would be larger than max_size; `output` then holds rubbish.
    """
    if source.size > MAX_PLAIN_SIZE or root_size(-(-source.size >> pipeline.chunk_log2)) > MAX_ROOT:
        raise UsageError(f"{show(source.path)}: is larger than a container can be")
    if 0 < source.size <= SMALL:
        return _write_small(source, output, pipeline, level, max_size)
    output.create()
    job = _Job(source, output, pipeline, level, progress)
    try:
        if not job.write_payloads(max_size):
            return None
        header = job.write_tail()
    finally:
        job.index.close()
    if max_size is not None and header["container_size"] > max_size:
        return None
    source.check_unchanged()
    check_stored(output, pipeline, source.size, job.copying)
    output.copy_attributes(source)
    return Written(source.size, header["container_size"], _tensors(job.segment_map, job.stored_sizes))


class _TooLargeError(Exception):
    """The container would get too large to be worth it."""


class _Job:
    """One file on its way: what is known so far of its container."""

    def __init__(
        self, source: Source, output: Output, pipeline: Pipeline, level: int, progress: Callable[[int, int], None]
    ):
        self.source = source
        self.output = output
        self.pipeline = pipeline
        self.level = level
        self.progress = progress
        self.segment_map = segments.SegmentMap(source.segments())
        self.duplicates = duplicates.Duplicates(source, self.segment_map.segments, pipeline.chunk_log2)
        self.max_payloads_end: int | None = None
        self.copying: set[int] = set()  # chunks that were encoded with copies
        self.stored_sizes = [0] * len(self.segment_map.segments)
        self.sha256 = hashlib.sha256()
        self.num_chunks = -(-source.size >> pipeline.chunk_log2)
        self.index = IndexWriter(HEADER_SIZE, output.directory)

    def write_payloads(self, max_size: int | None) -> bool:
        """Encodes and writes all chunks; False when the container would get larger than max_size."""
        self.max_payloads_end = None if max_size is None else max_size - index_size(self.num_chunks)
        try:
            self.pipeline.run(self._encode, self.pipeline.num_blocks(self.source.size), num_turnstiles=2)
        except _TooLargeError:
            return False
        return True

    def _encode(self, block: Block) -> None:
        """Reads, hashes, encodes and writes one block. In a pipeline thread."""
        start = block.number * self.pipeline.block_size
        plain = block.plain[: min(self.pipeline.block_size, self.source.size - start)]
        self.source.read_into(plain, start)
        with block.turn(HASHING):
            self.sha256.update(plain)
        records = self.segment_map.packed(start, start + len(plain))
        copies = self.duplicates.copies(start, plain)
        first = block.number * self.pipeline.chunks_per_block
        with self.pipeline.codec() as codec:
            entries = codec.encode(plain, first, records, self.level, block.stored, duplicates.packed(copies))
        shares = self._shares(start, len(plain), entries, block.stored) if records else []
        with block.turn(PLACING):
            offset = self.index.end
            self._place(entries, shares)
            self.copying.update(offset >> self.pipeline.chunk_log2 for offset, _, _ in copies)
            stored_size = self.index.end - offset
            self.progress(len(plain), stored_size)
        self.output.write(block.stored[:stored_size], offset)

    def _place(self, entries: list, shares: list[tuple[int, int]]) -> None:
        for entry in entries:
            self.index.add(*entry)
        if self.max_payloads_end is not None and self.index.end > self.max_payloads_end:
            raise _TooLargeError
        for segment, share in shares:
            self.stored_sizes[segment] += share

    def _shares(self, start: int, plain_size: int, entries: list, stored: memoryview) -> list[tuple[int, int]]:
        result, at, chunk_size = [], 0, 1 << self.pipeline.chunk_log2
        for i, (stored_size, kind, _, _) in enumerate(entries):
            chunk_plain = min(chunk_size, plain_size - i * chunk_size)
            payload = stored[at : at + stored_size]
            result += self.segment_map.shares(start + i * chunk_size, chunk_plain, payload, kind)
            at += stored_size
        return result

    def write_tail(self) -> dict:
        """Writes index, segment table and at last the header, whose fields it returns."""
        pages, pages_size, root = self.index.finish()
        pages_offset = self.index.end
        root_offset = pages_offset + pages_size
        at = pages_offset
        while page := pages.read(1 << 20):
            self.output.write(page, at)
            at += len(page)
        table = segments.pack(self.segment_map.segments, self.stored_sizes)
        self.output.write(root + table, root_offset)
        fields = {
            "plain_size": self.source.size,
            "num_chunks": self.num_chunks,
            "chunk_log2": self.pipeline.chunk_log2,
            "level": self.level,
            "has_copies": bool(self.copying),
            "sha256": self.sha256.digest() if self.source.is_original else None,
        }
        fields |= _places(pages_offset, pages_size, len(root), len(table))
        self.output.write(_native.header_write(fields), 0)
        return fields


def _places(pages_offset: int, pages_size: int, root_size: int, segments_size: int) -> dict[str, int]:
    """The header's fields that tell where the sections lie, which follow each other."""
    root_offset = pages_offset + pages_size
    segments_offset = root_offset + root_size
    return {
        "container_size": segments_offset + segments_size,
        "payloads_offset": HEADER_SIZE,
        "payloads_size": pages_offset - HEADER_SIZE,
        "pages_offset": pages_offset,
        "pages_size": pages_size,
        "root_offset": root_offset,
        "root_size": root_size,
        "segments_offset": segments_offset if segments_size else 0,
        "segments_size": segments_size,
    }


def _tensors(segment_map: segments.SegmentMap, stored_sizes: list[int]) -> list[tuple[str, int, int]]:
    return [(s.dtype, s.size, stored) for s, stored in zip(segment_map.segments, stored_sizes, strict=True)]


def _write_small(
    source: Source, output: Output, pipeline: Pipeline, level: int, max_size: int | None
) -> Written | None:
    """write_container() for a file of one chunk that is too small for copies (duplicates.MIN_TENSOR)."""
    plain = memoryview(bytearray(source.size))
    source.read_into(plain, 0)
    segment_map = segments.SegmentMap(source.segments())
    stored = memoryview(bytearray(source.size))
    with pipeline.codec() as codec:
        [entry] = codec.encode(plain, 0, segment_map.packed(0, source.size), level, stored)
    if max_size is not None and HEADER_SIZE + entry[0] + index_size(1) > max_size:
        return None
    container, stored_sizes = _assemble(source, plain, stored[: entry[0]], entry, segment_map, pipeline, level)
    if max_size is not None and len(container) > max_size:
        return None
    source.check_unchanged()
    output.create()
    output.write(container, 0)
    if os.pread(output.fd, len(container) + 1, 0) != container:
        raise ZipfsError(f"{show(output.path)}: reads back other bytes than were written; check the disk")
    output.copy_attributes(source)
    return Written(source.size, len(container), _tensors(segment_map, stored_sizes))


def _assemble(
    source: Source,
    plain: memoryview,
    payload: memoryview,
    entry: tuple[int, int, int, int],
    segment_map: segments.SegmentMap,
    pipeline: Pipeline,
    level: int,
) -> tuple[bytes, list[int]]:
    """The container of one chunk, and the stored bytes of each segment."""
    stored_sizes = [0] * len(segment_map.segments)
    for segment, share in segment_map.shares(0, len(plain), payload, entry[1]):
        stored_sizes[segment] += share
    end = HEADER_SIZE + len(payload)
    page = pack_page(0, [pack_entry(HEADER_SIZE, *entry)])
    root = pack_root([HEADER_SIZE, end])
    table = segments.pack(segment_map.segments, stored_sizes)
    fields = {
        "plain_size": len(plain),
        "num_chunks": 1,
        "chunk_log2": pipeline.chunk_log2,
        "level": level,
        "has_copies": False,
        "sha256": hashlib.sha256(plain).digest() if source.is_original else None,
    }
    header = _native.header_write(fields | _places(end, len(page), len(root), len(table)))
    return b"".join((header, payload, page, root, table)), stored_sizes


def check_stored(output: Output, pipeline: Pipeline, plain_size: int, copying: Collection[int]) -> None:
    """Reads a finished container back.

    Header, root, every page and every stored hash. Its chunks were decoded when they were encoded; those with copies,
    whose targets were not at hand then, are decoded now.
    """
    with naming(output.path), _native.Reader(output.fd) as reader:

        def check(block: Block) -> None:
            start = block.number * pipeline.block_size
            with pipeline.codec() as codec:
                for at in range(start, min(start + pipeline.block_size, plain_size), 1 << pipeline.chunk_log2):
                    chunk = at >> pipeline.chunk_log2
                    if chunk in copying:
                        size = min(1 << pipeline.chunk_log2, plain_size - at)
                        reader.read_chunk(codec, chunk, block.plain[:size], check_plain=True)
                    else:
                        reader.check_chunk(codec, chunk)

        pipeline.run(check, pipeline.num_blocks(plain_size))
