"""zipfs.open(): a container as a binary file for Python programs, decoded chunk by chunk as it is read."""

import errno
import functools
import io
import operator
import os

from zipfs import _native
from zipfs.errors import CorruptError, naming
from zipfs.source import Source

CACHE_SIZE = 64 << 20
"""Bytes of decoded chunks that all files of the process keep together."""
AHEAD_SIZE = 8 << 20
"""Of these, for chunks decoded while a program is at those before: small reads are 1.3 times as fast when it does
something with the bytes (2 cores, AVX-512).
"""


def open(path: str | os.PathLike) -> "ZipfsFile":
    """Opens the plain file that the container `path` holds.

    A file that is no container is opened as it is. FormatError or OSError.
    """
    return ZipfsFile(path)


class ZipfsFile(io.RawIOBase):
    """A seekable binary file, read-only, of the bytes of the plain file.

    read(), readinto() and seek() share one position, so one thread at a time may use them; pread() has none and any
    number of threads may call it, in forked processes too. Damage is a CorruptError that names chunk and plain byte
    range; other ranges stay readable.
    """

    def __init__(self, path: str | os.PathLike):
        self.name = os.fsdecode(path)
        self._position = 0
        with naming(self.name), Source(self.name) as source:
            plain = not source.is_container()
            fd = os.dup(source.fd)
            try:
                self._file = _native.File(_shared_cache(), fd, os.fsencode(self.name), plain)
            except BaseException:
                os.close(fd)
                raise

    @property
    def size(self) -> int:
        """Bytes of the plain file."""
        return self._open_file().size

    def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end of the file."""
        try:
            return self._open_file().pread(size, offset)
        except OSError as error:
            raise self._explain(error, offset, size) from None

    def pread_into(self, buffer, offset: int) -> int:
        """Fills `buffer` with the bytes from `offset`; returns their count, less only at the end of the file."""
        view = memoryview(buffer).cast("B")
        try:
            return self._open_file().pread_into(view, offset)
        except OSError as error:
            raise self._explain(error, offset, len(view)) from None

    def readinto(self, buffer) -> int:
        count = self.pread_into(buffer, self._position)
        self._position += count
        return count

    def readall(self) -> bytes:
        data = self.pread(max(0, self.size - self._position), self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}
        if whence not in bases:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        position = bases[whence] + operator.index(offset)
        if not 0 <= position < 1 << 63:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        self._position = position
        return position

    def tell(self) -> int:
        self._open_file()
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data) -> int:
        raise io.UnsupportedOperation("write: the file is open for reading only")

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()

    def _open_file(self) -> _native.File:
        self._checkClosed()
        return self._file

    def _explain(self, error: OSError, offset: int, size: int) -> Exception:
        """The CorruptError behind an EIO, when it was damage."""
        if error.errno == errno.EIO and self._file.header is not None:
            return _find_damage(self.name, offset, offset + size) or error
        return error


def _find_damage(path: str, start: int, end: int) -> CorruptError | None:
    with Source(path) as source, _native.Reader(source.fd) as reader:
        log2, plain_size = reader.header["chunk_log2"], reader.header["plain_size"]
        codec, buffer = _native.Codec(log2), memoryview(bytearray(1 << log2))
        for chunk in range(start >> log2, -(-min(end, plain_size) >> log2)):
            chunk_start, chunk_end = chunk << log2, min((chunk + 1) << log2, plain_size)
            try:
                reader.read_chunk(codec, chunk, buffer[: chunk_end - chunk_start])
            except _native.FormatError as error:
                return CorruptError(error.status, path, chunk, chunk_start, chunk_end)
    return None


@functools.cache
def _shared_cache() -> _native.Cache:
    return _native.Cache(CACHE_SIZE, ahead_size=AHEAD_SIZE)
