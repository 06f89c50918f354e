"""What an importer hands to the writer: the plain file that a file of another tool holds, read like a Source."""

import os
from abc import ABC, abstractmethod

from zipfs.errors import ImportedFileError
from zipfs.layouts import Segment, detect
from zipfs.source import Source


class Imported(ABC):
    """The plain file `name` of `size` bytes inside `source`, made as it is read.

    Takes the place of a Source (zipfs/source.py): threads may share it, `path` and `stat` are those of `source`, whose
    open file it uses but does not own.
    """

    is_original = False

    def __init__(self, source: Source, name: str, size: int):
        self.source = source
        self.name = name
        self.size = size

    @property
    def path(self) -> str:
        return self.source.path

    @property
    def fd(self) -> int:
        return self.source.fd

    @property
    def stat(self) -> os.stat_result:
        return self.source.stat

    def segments(self) -> list[Segment]:
        return detect(self.pread, self.size)

    def pread(self, count: int, offset: int) -> bytes:
        """Up to `count` plain bytes from `offset`; fewer only at the end."""
        buffer = bytearray(max(0, min(count, self.size - offset)))
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    @abstractmethod
    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` with the plain bytes from `offset`; ImportedFileError where the file is damaged."""

    def check_unchanged(self) -> None:
        self.source.check_unchanged()


class Rewritten(Imported):
    """A small file of which every byte is known."""

    def __init__(self, source: Source, name: str, plain: bytes):
        super().__init__(source, name, len(plain))
        self._plain = plain

    def read_into(self, buffer: memoryview, offset: int) -> None:
        buffer[:] = self._plain[offset : offset + len(buffer)]


def read_exactly(source: Source, offset: int, size: int) -> bytearray:
    """The `size` bytes from `offset`, which the caller found to be within the file."""
    buffer = bytearray(size)
    source.read_into(memoryview(buffer), offset)
    return buffer


def damaged(source: Source, offset: int, what: str) -> ImportedFileError:
    """The error for a file that breaks its format at the byte `offset`."""
    return ImportedFileError(f"{what}, at byte {offset}", source.path)
