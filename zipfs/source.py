"""Source files, which must not change while they are read."""

import os
import stat

from zipfs import names
from zipfs.errors import FormatError, SourceChangedError, UsageError
from zipfs.layouts import Aliases, Segment, detect, forced
from zipfs.names import show

SMALL = 64 << 10
"""Bytes of a file that is read in one go and then known."""


class Source:
    """A regular file open for reading. A context manager.

    follow: whether a symlink is followed (for paths that a user named, not for what a folder holds). dtype: of the
    elements of a file that tells none itself. aliases: its names besides `path`.
    """

    is_original = True
    """Whether these are the bytes of a file that somebody has, so that their SHA-256 says something: the container
    tells it. False for what importers make (zipfs/importers)."""

    def __init__(self, path: str, follow: bool = True, dtype: str | None = None, aliases: Aliases | None = None):
        self.path = path
        self._aliases = aliases
        self._dtype = dtype
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        self.fd = os.open(path, flags)
        self.stat = os.fstat(self.fd)
        if not stat.S_ISREG(self.stat.st_mode):
            os.close(self.fd)
            raise UsageError(f"{show(path)}: is no regular file")
        self._bytes: bytes | None = None
        if self.size > SMALL:
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    @property
    def size(self) -> int:
        return self.stat.st_size

    def segments(self) -> list[Segment]:
        """The tensors of the file (zipfs/layouts)."""
        found = detect(self.pread, self.size, self.path, self._aliases)
        return forced(self._dtype, self.size) if self._dtype and not found else found

    def is_container(self) -> bool:
        """Whether name and first bytes say so.

        FormatError BAD_MAGIC for our suffix without our magic: compress leaves no such file, but damage may. Names too
        long to be wrapped are passed over.
        """
        name = os.path.basename(self.path)
        if not names.has_suffix(name):
            return False
        if self.has_magic():
            return True
        if names.takes_suffix(name):
            raise FormatError("BAD_MAGIC", f"is no container in spite of its suffix {names.SUFFIX}", self.path)
        return False

    def refuse_renamed(self) -> None:
        """UsageError for a container that has lost its suffix: in a folder it is a file like others, but who names it
        means it.
        """
        if self.has_magic() and not names.has_suffix(os.path.basename(self.path)):
            raise UsageError(f"{show(self.path)}: is a container without the suffix {names.SUFFIX}; rename it")

    def has_magic(self) -> bool:
        return self.pread(len(names.MAGIC), 0) == names.MAGIC

    def pread(self, count: int, offset: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer at the end."""
        if self.size > SMALL:
            return os.pread(self.fd, count, offset)
        if self._bytes is None:
            self._bytes = os.pread(self.fd, self.size, 0)
        return self._bytes[offset : offset + count]

    def forget(self) -> None:
        """Has what was read before read again."""
        self._bytes = None

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` with the bytes from `offset`; SourceChangedError where the file ends before."""
        if self.size <= SMALL:
            found = self.pread(len(buffer), offset)
            if len(found) < len(buffer):
                raise self._changed()
            buffer[:] = found
            return
        done = 0
        while done < len(buffer):
            count = os.preadv(self.fd, [buffer[done:]], offset + done)
            if count == 0:
                raise self._changed()
            done += count

    def check_unchanged(self) -> None:
        """SourceChangedError when the file is not the version any more that was opened."""
        if not self.is_version(os.fstat(self.fd)):
            raise self._changed()

    def is_version(self, status: os.stat_result) -> bool:
        """Whether `status` is of the version that was opened."""
        return _identity(status) == _identity(self.stat)

    def _changed(self) -> SourceChangedError:
        return SourceChangedError(f"{show(self.path)}: changed while it was read; run again when nothing writes to it")

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _identity(st: os.stat_result) -> tuple[int, ...]:
    return st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns
