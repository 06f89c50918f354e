"""The index of a container (docs/format.md section 3), as a writer builds it.

Pages wait in a spool, so memory does not grow with the file.
"""

import array
import struct
import tempfile
from collections.abc import Iterable
from typing import IO

from zipfs import _native

ENTRIES_PER_PAGE = 127
MAX_ROOT = 64 << 20

_PAGE_HEAD = struct.Struct("<QI12x")
_ENTRY = struct.Struct("<QIB3xQQ")
_SPOOL_IN_MEMORY = 4 << 20
_ROOT_SEED = 1


class IndexWriter:
    """Collects the entries of the chunks of one container, in order. One thread at a time; close() drops the spool.

    directory: where a spool too large for memory goes, as an unnamed file.
    """

    def __init__(self, payloads_offset: int, directory: str):
        self.end = payloads_offset
        """Offset of the end of the payloads so far."""
        self.num_entries = 0
        self._bounds = array.array("Q", [payloads_offset])
        self._page: list[bytes] = []
        self._spool = tempfile.SpooledTemporaryFile(_SPOOL_IN_MEMORY, dir=directory)

    def add(self, stored_size: int, kind: int, stored_hash: int, plain_hash: int) -> None:
        self._page.append(pack_entry(self.end, stored_size, kind, stored_hash, plain_hash))
        self.end += stored_size
        self.num_entries += 1
        if len(self._page) == ENTRIES_PER_PAGE:
            self._finish_page()

    def finish(self) -> tuple[IO[bytes], int, bytes]:
        """Returns the pages (a file to read from its start), their size and the root."""
        if self._page:
            self._finish_page()
        pages_size = self._spool.tell()
        self._spool.seek(0)
        return self._spool, pages_size, pack_root(self._bounds)

    def close(self) -> None:
        self._spool.close()

    def _finish_page(self) -> None:
        self._spool.write(pack_page(len(self._bounds) - 1, self._page))
        self._bounds.append(self.end)
        self._page.clear()


def pack_entry(offset: int, stored_size: int, kind: int, stored_hash: int, plain_hash: int) -> bytes:
    return _ENTRY.pack(offset, stored_size, kind, stored_hash, plain_hash)


def pack_page(number: int, entries: list[bytes]) -> bytes:
    """The page with this number, of up to ENTRIES_PER_PAGE entries."""
    rest = _PAGE_HEAD.pack(number, len(entries)) + b"".join(entries)
    return struct.pack("<Q", _native.hash(rest, number)) + rest


def pack_root(bounds: Iterable[int]) -> bytes:
    """bounds: where the payloads of the first page begin, and where those of each page end."""
    packed = array.array("Q", bounds).tobytes()
    return packed + struct.pack("<Q", _native.hash(packed, _ROOT_SEED))


def index_size(num_chunks: int) -> int:
    """Bytes of the pages and the root for so many chunks."""
    return 32 * num_pages(num_chunks) + 32 * num_chunks + root_size(num_chunks)


def root_size(num_chunks: int) -> int:
    return 8 * (num_pages(num_chunks) + 2)


def num_pages(num_chunks: int) -> int:
    return -(-num_chunks // ENTRIES_PER_PAGE)
