"""A file and the other form of it that takes its place in the same folder, with nothing lost on the way.

    hold      nobody else writes to the file, or it is left alone (a lease, and a lock against other runs)
    fill      the other form is made in a temporary file (zipfs/output.py), read back and compared, and synced
    rename    it gets its name beside the file: both are whole now
    settle    after a sync of the folder, the file goes

A kill leaves the file, or both, or the other form; never a half of one under its name.
"""

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Callable, Sequence

from zipfs import attributes, names
from zipfs.errors import LeftAloneError
from zipfs.names import show
from zipfs.output import Output
from zipfs.source import Source

Done = Callable[[int], None]
"""Takes the size of what has taken a file's place."""


def hold(source: Source) -> None:
    """Makes whoever opens the file for writing wait until it is closed here, and notice it. LeftAloneError where
    somebody has it open for writing, or where that cannot be told.

    A process that opens it is kept waiting at most /proc/sys/fs/lease-break-time seconds.
    """
    try:
        fcntl.flock(source.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise left_alone(source.path, "is locked by another process") from None
    except OSError:
        pass  # no locks on this file system
    try:
        fcntl.fcntl(source.fd, fcntl.F_SETSIG, signal.SIGURG)  # which does nothing, where SIGIO would end the process
        fcntl.fcntl(source.fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        raise left_alone(source.path, _WHY_NO_LEASE.get(error.errno, _NO_LEASES)) from None


_NO_LEASES = "lies on a file system that cannot tell who writes to it; compress the folder to another place"
_WHY_NO_LEASE = {
    errno.EAGAIN: "is open for writing",
    errno.EACCES: "belongs to another user, whose processes may write to it; run as its owner or as root",
}


def left_alone(path: str, why: str) -> LeftAloneError:
    return LeftAloneError(f"{show(path)}: {why}; left as it is")


class Replacement(Output):
    """An Output that takes the place of the file `source`, which is held.

    paths: all names of the file, hard links of each other; targets: as many names of the other form; made_fd: the other
    form where it is there already under its first name (owned from now on). done: called when the file is gone.
    Has an open file of its own, and with it the lease, until it is settled or discarded.
    """

    def __init__(
        self, source: Source, paths: Sequence[str], targets: Sequence[str], done: Done, made_fd: int | None = None
    ):
        super().__init__(targets[0], force=made_fd is not None)
        self.directories = sorted({os.path.dirname(path) or "." for path in paths})
        self._before = source.stat
        self._paths = paths
        self._targets = targets
        self._done = done
        self._is_there = made_fd is not None
        self._named: list[str] = []
        self._made_size = 0
        if made_fd is not None:
            self.fd = made_fd
        self._held_fd = os.dup(source.fd)

    def write(self, buffer: memoryview | bytes, offset: int) -> None:
        self._check_lease()
        super().write(buffer, offset)

    def copy_attributes(self, source: Source) -> None:
        try:
            attributes.copy_owner(source.stat, self.fd)
            attributes.copy_xattrs(source.fd, self.fd)
        except OSError as error:
            raise left_alone(self._paths[0], f"its owner or attributes cannot be kept ({error.strerror})") from None
        self.copy_mode_and_times(source.stat)

    def rename(self) -> None:
        self._check_lease()
        now = os.fstat(self._held_fd)
        if now.st_ctime_ns != self._before.st_ctime_ns or not all(map(self._is_ours, self._paths)):
            raise self._changed()
        self._made_size = os.fstat(self.fd).st_size
        if self._is_there:
            self._close()
        else:
            super().rename()
            self._named.append(self.path)
        for target in self._targets[1:]:
            if not (os.path.lexists(target) and os.path.samefile(target, self.path)):
                os.link(self.path, target)
                self._named.append(target)

    def settle(self) -> list[str]:
        """Takes the names away first and looks then whether they were still those of the file, since nothing can do
        both at once.

        What somebody has put in the file's place meanwhile comes back. The folders are not synced again: should a
        removal be lost, both forms are there, and the next run finishes.
        """
        taken: list[tuple[str, str]] = []
        try:
            for path in self._paths:
                aside = os.path.join(os.path.dirname(path), names.temporary_name(os.path.basename(path)))
                os.rename(path, aside)
                taken.append((path, aside))
            self._check_lease()
            if not all(self._is_ours(aside) for _, aside in taken):
                raise self._changed()
        except BaseException as error:
            _put_back(taken)
            if isinstance(error, FileNotFoundError):
                raise left_alone(error.filename, "was moved or removed meanwhile") from None
            raise
        self._named.clear()
        for _, aside in taken:
            os.unlink(aside)
        self._release()
        self._done(self._made_size)
        return []

    def discard(self) -> None:
        super().discard()
        for target in self._named:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
        self._named.clear()
        self._release()

    def _check_lease(self) -> None:
        if fcntl.fcntl(self._held_fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
            raise left_alone(self._paths[0], "somebody began to write to it")

    def _is_ours(self, path: str) -> bool:
        """Whether the file still is at `path`, and under no name that is not to go."""
        with contextlib.suppress(FileNotFoundError):
            now = os.lstat(path)
            same = (now.st_dev, now.st_ino) == (self._before.st_dev, self._before.st_ino)
            return same and now.st_nlink == len(self._paths)
        return False

    def _changed(self) -> LeftAloneError:
        return left_alone(self._paths[0], "changed meanwhile")

    def _release(self) -> None:
        fd, self._held_fd = self._held_fd, -1  # in this sequence: a signal may come right after the closing
        if fd >= 0:
            os.close(fd)


def _put_back(taken: list[tuple[str, str]]) -> None:
    """Gives files back their names, but for those that somebody has taken meanwhile."""
    for path, aside in taken:
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        except OSError:  # no hard links here
            os.rename(aside, path)
            continue
        os.unlink(aside)
