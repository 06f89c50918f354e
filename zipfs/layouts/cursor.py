"""Walks a header by pread, block by block, within a budget of bytes read."""

import struct

from zipfs.layouts.segment import Broken, Pread


class Cursor:
    """A position in the first `end` bytes of a file. One caller at a time.

    Broken where the header goes beyond them, or where more than `budget` bytes would be read, `block` at a time: that
    bounds the time a hostile header takes.
    """

    def __init__(self, pread: Pread, end: int, budget: int, block: int = 64 << 10):
        self.at = 0
        self.end = end
        self._pread = pread
        self._budget = budget
        self._block = block
        self._data = b""
        self._start = 0

    def buffered(self, count: int) -> tuple[bytes, int]:
        """Bytes and the index in them of the position, with `count` bytes or more behind it. Does not move."""
        index = self.at - self._start
        if index < 0 or index + count > len(self._data):
            self._fill(count)
            index = 0
        return self._data, index

    def take(self, count: int) -> bytes:
        data, index = self.buffered(count)
        self.at += count
        return data[index : index + count]

    def unpack(self, form: struct.Struct) -> tuple:
        data, index = self.buffered(form.size)
        self.at += form.size
        return form.unpack_from(data, index)

    def skip(self, count: int) -> None:
        if count > self.end - self.at:
            raise Broken("the header ends early")
        self.at += count

    def _fill(self, count: int) -> None:
        if count > self.end - self.at:
            raise Broken("the header ends early")
        size = min(max(count, self._block), self.end - self.at)
        self._budget -= size
        if self._budget < 0:
            raise Broken("the header is too long")
        self._data, self._start = self._pread(size, self.at), self.at
        if len(self._data) < count:
            raise Broken("the file has become shorter")
