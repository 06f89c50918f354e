"""Files that ZipNN made of whole files (`x.znn`): one frame, or a chain of them; or, of deltas, with the base beside."""

from array import array
from bisect import bisect_right

import numpy as np

from zipfs.errors import UsageError
from zipfs.importers.imported import Imported, damaged
from zipfs.importers.znn_frame import MAGIC, Frame, read_frame
from zipfs.importers.znn_planes import read_plain
from zipfs.names import show
from zipfs.source import Source

_STRIDE = 1 << 20
"""Plain bytes after which the place of a frame is remembered: 16 bytes of memory a MiB at most, however short frames
are."""


def is_znn(source: Source) -> bool:
    """Whether the file begins as a frame does; with ZipNN's suffix that is enough to be taken for one."""
    return source.size >= len(MAGIC) and source.pread(len(MAGIC), 0) == MAGIC


def is_delta(source: Source) -> bool:
    return read_frame(source, 0, source.size).is_delta


class Chain(Imported):
    """The plain file of a `.znn` file. base: what a delta was made against."""

    def __init__(self, source: Source, name: str, base: Source | None = None):
        self._starts, self._offsets = array("Q"), array("Q")
        super().__init__(source, name, 0)
        self.size = self._walk()
        self._base = base
        if base is not None and base.size != self.size:
            raise UsageError(
                f"{show(self.path)}: is a delta of {self.size} bytes, but its base {show(base.path)} has {base.size};"
                " give the file that it was made against"
            )

    def _walk(self) -> int:
        """Notes where frames begin, after checks of all headers; returns their plain bytes."""
        start = offset = 0
        first: Frame | None = None
        while offset < self.source.size:
            frame = read_frame(self.source, offset, self.source.size)
            first = first or frame
            if offset and not (first.is_chained and frame.is_chained and frame.is_delta == first.is_delta):
                raise damaged(self.source, offset, "goes on behind its last frame")
            if not self._starts or start >= self._starts[-1] + _STRIDE:
                self._starts.append(start)
                self._offsets.append(offset)
            start, offset = start + frame.plain_size, frame.end
        return start

    def read_into(self, buffer: memoryview, offset: int) -> None:
        whole, at = buffer, offset
        index = bisect_right(self._starts, at) - 1
        start, place = self._starts[index], self._offsets[index]
        while len(buffer):
            frame = read_frame(self.source, place, self.source.size)
            count = min(len(buffer), start + frame.plain_size - at)
            if count > 0:
                read_plain(self.source, frame, buffer[:count], at - start)
                buffer, at = buffer[count:], at + count
            start, place = start + frame.plain_size, frame.end
        if self._base is not None:
            self._apply_base(whole, offset)

    def _apply_base(self, buffer: memoryview, offset: int) -> None:
        base = bytearray(len(buffer))
        self._base.read_into(memoryview(base), offset)
        plain = np.frombuffer(buffer, np.uint8)
        np.bitwise_xor(plain, np.frombuffer(base, np.uint8), out=plain)

    def check_unchanged(self) -> None:
        super().check_unchanged()
        if self._base is not None:
            self._base.check_unchanged()
