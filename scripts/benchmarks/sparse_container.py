"""A container of a huge file of constant chunks, without the file: docs/format.md, where each chunk takes one byte."""

import itertools
from pathlib import Path

import numpy as np

from zipfs import _native
from zipfs.index import ENTRIES_PER_PAGE, index_size, num_pages, root_size

HEADER_SIZE, PAGE_SIZE = 256, 4096
CONSTANT = 2
ROOT_SEED = 1
ENTRY = np.dtype(
    [("offset", "<u8"), ("stored_size", "<u4"), ("kind", "<u4"), ("stored_hash", "<u8"), ("plain_hash", "<u8")]
)
PAGE = np.dtype(
    [("checksum", "<u8"), ("number", "<u8"), ("num_entries", "<u4"), ("reserved", "V12"), ("entries", ENTRY, 127)]
)
VALUE = b"\x5a"


def write(path: Path, num_pages_wanted: int, chunk_log2: int) -> int:
    """Writes it with whole pages; returns the plain size. Every byte of the plain file is VALUE."""
    num_chunks = num_pages_wanted * ENTRIES_PER_PAGE
    entries = np.zeros(num_chunks, dtype=ENTRY)
    entries["offset"] = np.arange(HEADER_SIZE, HEADER_SIZE + num_chunks)
    entries["stored_size"], entries["kind"] = 1, CONSTANT
    hashes = map(_native.hash, itertools.repeat(VALUE), range(num_chunks))
    entries["stored_hash"] = np.fromiter(hashes, dtype="<u8", count=num_chunks)
    entries["plain_hash"] = _native.hash(VALUE * (1 << chunk_log2))
    pages = np.zeros(num_pages(num_chunks), dtype=PAGE)
    pages["number"], pages["num_entries"] = np.arange(len(pages)), ENTRIES_PER_PAGE
    pages["entries"] = entries.reshape(len(pages), ENTRIES_PER_PAGE)
    rows = memoryview(pages).cast("B")
    for number in range(len(pages)):
        pages["checksum"][number] = _native.hash(rows[number * PAGE_SIZE + 8 : (number + 1) * PAGE_SIZE], number)
    bounds = (HEADER_SIZE + ENTRIES_PER_PAGE * np.arange(len(pages) + 1, dtype="<u8")).astype("<u8").tobytes()
    with open(path, "wb") as file:
        file.write(header(num_chunks, chunk_log2))
        file.write(VALUE * num_chunks)
        file.write(rows)
        file.write(bounds + _native.hash(bounds, ROOT_SEED).to_bytes(8, "little"))
    return num_chunks << chunk_log2


def header(num_chunks: int, chunk_log2: int) -> bytes:
    pages_size, root = index_size(num_chunks) - root_size(num_chunks), root_size(num_chunks)
    pages_offset = HEADER_SIZE + num_chunks
    fields = {
        "plain_size": num_chunks << chunk_log2,
        "container_size": pages_offset + pages_size + root,
        "chunk_log2": chunk_log2,
        "level": 1,
        "payloads_offset": HEADER_SIZE,
        "payloads_size": num_chunks,
        "pages_offset": pages_offset,
        "pages_size": pages_size,
        "root_offset": pages_offset + pages_size,
        "root_size": root,
    }
    return _native.header_write(fields)
