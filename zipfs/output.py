"""Outputs, which get their name only when they are whole and on disk.

Temporary file beside the target, sync, rename, sync of the folder.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator

from zipfs import attributes, names
from zipfs.errors import OutputExistsError
from zipfs.leftovers import remove_leftover
from zipfs.names import show
from zipfs.source import SMALL, Source
from zipfs.syncing import start_write_back

WRITE_BACK = 16 << 20
"""Bytes after which an output begins to go to disk, so that the last fsync finds little left to write."""

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_REMEDIES = {
    errno.EACCES: "run as somebody who may write there, or write to another place",
    errno.EROFS: "mount it for writing, or write to another place",
}
"""Why a folder takes no new files: what to do."""
_ZEROS = bytes(128 << 10)
"""As long as a hole at least."""


class Output:
    """A file beside `path` that is to become it, once it is created. Lives within discarding(), and from then on in a
    Batch.

    other: the path of the other form of the same file (container or plain), which counts as an existing output and goes
    once this one has come.
    """

    def __init__(self, path: str, force: bool, other: str | None = None):
        self.path = path
        self.other = other
        self.directory, name = os.path.split(path)
        self.directory = self.directory or "."
        self.force = force
        self.directories = [self.directory]
        """Those that its names are in."""
        self._temporary = os.path.join(self.directory, names.temporary_name(name))
        self._written_back = 0
        self._is_made = False
        self.fd = -1

    def create(self) -> None:
        """Makes the file, unless it is there; so late that no file is made for what turns out to be not worth it.
        OutputExistsError when a name is taken and not to be replaced.
        """
        if self.fd >= 0:
            return
        self.check_free()
        self._is_made = True  # before it is true: an interrupt may come right after
        try:
            self.fd = _create(self._temporary, self.path)
        except OSError:
            self._is_made = False
            raise

    def check_free(self) -> None:
        """OutputExistsError when a name is taken and not to be replaced."""
        for path in filter(None, (self.path, self.other)):
            refuse_existing(path, self.force)

    def write(self, buffer: memoryview | bytes, offset: int) -> None:
        view = memoryview(buffer)
        try:
            while len(view):
                count = os.pwrite(self.fd, view, offset)
                view, offset = view[count:], offset + count
        except OSError as error:
            error.filename = self.path
            raise
        if offset - self._written_back >= WRITE_BACK:
            start_write_back(self.fd, self._written_back, offset - self._written_back)
            self._written_back = offset

    def write_sparse(self, buffer: memoryview, offset: int) -> None:
        """As write(), but stretches of zeros become holes; resize() must come last."""
        start = 0
        for at in range(0, len(buffer), len(_ZEROS)):
            part = buffer[at : at + len(_ZEROS)]
            if not part[0] and not part[-1] and bytes(part) == _ZEROS[: len(part)]:
                self.write(buffer[start:at], offset + start)
                start = at + len(part)
        self.write(buffer[start:], offset + start)

    def resize(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def copy_attributes(self, source: Source) -> None:
        """Takes over owner, extended attributes, mode and times, as far as they can be had; the last thing before
        rename().
        """
        attributes.copy_possible(source.fd, source.stat, self.fd)
        self.copy_mode_and_times(source.stat)

    def copy_mode_and_times(self, source: os.stat_result) -> None:
        """Not the right to run as the owner where that is another one now: root would lend his own to somebody's
        program.
        """
        mode, own = stat.S_IMODE(source.st_mode), os.fstat(self.fd)
        if own.st_uid != source.st_uid:
            mode &= ~stat.S_ISUID
        if own.st_gid != source.st_gid:
            mode &= ~stat.S_ISGID
        os.fchmod(self.fd, mode)
        os.utime(self.fd, ns=(source.st_atime_ns, source.st_mtime_ns))

    def rename(self) -> None:
        """Gives the file its name. It must be on disk; the caller syncs the folder."""
        self.check_free()
        os.rename(self._temporary, self.path)
        self._close()

    def settle(self) -> list[str]:
        """The last step, when the name is on disk as well. Returns folders that must be synced once more."""
        if self.other is None or not self.force:
            return []
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.other)
            return [self.directory]
        return []

    def discard(self) -> None:
        """Removes the file, unless it has its name already."""
        if self._is_made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)
        self._close()

    def _close(self) -> None:
        fd, self.fd = self.fd, -1  # in this sequence: a signal may come right after the closing
        if fd >= 0:
            os.close(fd)


def refuse_existing(path: str, force: bool) -> None:
    """OutputExistsError when something is at `path`, with force when it is a folder."""
    try:
        kind = stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if kind == stat.S_IFDIR:
        raise OutputExistsError(f"{show(path)}: is a folder, which nothing replaces; move it away")
    if not force:
        raise OutputExistsError(f"{show(path)}: exists already; --force replaces it")


@contextlib.contextmanager
def discarding(output: Output) -> Iterator[None]:
    """Discards the output when its making fails."""
    try:
        yield
    except BaseException:
        output.discard()
        raise


def copy_file(source: Source, output: Output, progress: Callable[[int], None]) -> None:
    """Fills `output` with the bytes of `source` as they are, ready to be published."""
    output.create()
    at = 0
    if source.size <= SMALL:
        known = source.pread(source.size, 0)
        output.write(known, 0)
        at = len(known)
        progress(at)
    while at < source.size:
        count = os.sendfile(output.fd, source.fd, at, min(source.size - at, 8 << 20))
        if count == 0:
            break
        at += count
        progress(count)
    source.check_unchanged()
    output.copy_attributes(source)


def _create(temporary: str, path: str) -> int:
    """Opens a new file, locked where the file system can: the lock tells other processes that it is in the making."""
    try:
        try:
            fd = os.open(temporary, _CREATE, 0o600)
        except FileExistsError:
            remove_leftover(temporary)
            fd = os.open(temporary, _CREATE, 0o600)
    except OSError as error:
        error.filename = path
        if error.errno in _REMEDIES:
            folder, remedy = show(os.path.dirname(path) or "."), _REMEDIES[error.errno]
            error.strerror = f"cannot be made, as nothing can in the folder {folder} ({error.strerror}); {remedy}"
        raise
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd
