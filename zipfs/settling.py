"""Which files of a folder have stopped changing. Knows nothing of what is done with them.

A file is taken up when it has not changed for the settle time and no process has it open for writing. What downloads
are called until they are whole is left alone.
"""

import contextlib
import errno
import fcntl
import fnmatch
import os
import queue
import stat
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from zipfs import names

PARTIAL = ("*.incomplete", "*.part", "*.partial", "*.crdownload", "*.download", "*.aria2", "*.tmp", "*.temp")
"""Names that downloads have until they are whole: those of Hugging Face, browsers, curl, wget, yt-dlp, aria2."""
PARTIAL_BLOBS = ("sha256-*-partial", "sha256-*-partial-*")
"""Those of Ollama."""
CONTROL = ".aria2"
"""A file x is not whole as long as aria2 keeps x.aria2 beside it."""
RESCAN_S = 300
"""inotify drops events when they come too fast, and network file systems tell nothing of what other machines do."""
FUTURE_S = 60
"""A time of change that lies further in the future says nothing."""
Identity = tuple[int, ...]


class Keeper(Protocol):
    """What is done with what is found. One caller at a time; what fails is told, not raised."""

    def entered(self, folder: str) -> None:
        """All of a folder is about to be looked at."""

    def symlink(self, path: str) -> None:
        """There is a symlink."""

    def keep(self, paths: list[str]) -> list[str]:
        """These files have settled. Returns those that are to come again, at their next change or after RESCAN_S."""


def is_partial(name: str) -> bool:
    lower = name.lower()
    if names.temporary_owner(name) is not None:
        return True
    return any(fnmatch.fnmatchcase(lower, pattern) for pattern in (*PARTIAL, *PARTIAL_BLOBS))


class Settling:
    """The files of the folder root, below it, but of no other file system.

    events: takes the paths where something happened, from any thread; step() is one thread's. settle_s: seconds without
    a change after which a file is taken up. check: called before anything is done; what it raises ends the step.
    """

    def __init__(self, root: str, keeper: Keeper, settle_s: float, check: Callable[[], None]):
        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._root = root
        self._device = os.stat(root).st_dev
        self._keeper = keeper
        self._settle_s = settle_s
        self._check = check
        self._due: dict[str, float] = {}
        self._kept: dict[str, Identity] = {}
        self._next_scan = 0.0

    def step(self) -> None:
        """Waits for the next event or the next file that is due, and does what there is to do."""
        if time.monotonic() >= self._next_scan:
            self._check()
            self._meet_all(self._root)
            self._next_scan = time.monotonic() + RESCAN_S
        wake = min([self._next_scan, *self._due.values()])
        with contextlib.suppress(queue.Empty):
            self._meet(self.events.get(timeout=max(0.0, wake - time.monotonic())))
            while True:
                self._meet(self.events.get_nowait())
        for paths in self._take_settled():
            self._check()
            for path in self._keeper.keep(paths):
                self._kept.pop(path, None)

    def _meet(self, path: str) -> None:
        """Something happened at path."""
        try:
            kind = stat.S_IFMT(os.lstat(path).st_mode)
        except OSError:
            self._due.pop(path, None)
            self._kept.pop(path, None)
            if path.endswith(CONTROL) and os.path.lexists(path.removesuffix(CONTROL)):
                self._meet(path.removesuffix(CONTROL))
            return
        if kind == stat.S_IFDIR:
            self._meet_all(path)
        elif kind == stat.S_IFLNK:
            self._keeper.symlink(path)
        elif kind == stat.S_IFREG and not is_partial(os.path.basename(path)):
            self._due.setdefault(path, time.monotonic())

    def _meet_all(self, folder: str) -> None:
        waiting = [folder]
        while waiting:
            path = waiting.pop()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                with os.scandir(path) as scan:
                    entries = sorted(scan, key=lambda entry: entry.name)
                self._keeper.entered(path)
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        self._meet(entry.path)
                waiting += [entry.path for entry in reversed(entries) if self._is_folder_below(entry)]

    def _is_folder_below(self, entry: os.DirEntry) -> bool:
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_dev == self._device

    def _take_settled(self) -> Iterator[list[str]]:
        """Some at a time: small ones share what it takes to put them on disk, and large ones are told of one by one."""
        now, settled, size = time.monotonic(), [], 0
        for path in [path for path, due in self._due.items() if due <= now]:
            del self._due[path]
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if self._kept.get(path) == _identity(status) or not stat.S_ISREG(status.st_mode):
                    continue
                rest = self._rest(status)
                if rest > 0:
                    self._due[path] = now + rest
                elif not os.path.lexists(path + CONTROL) and not _is_written(path):
                    self._kept[path] = _identity(status)
                    settled.append(path)
                    size += status.st_size
            if size >= Batch.MAX_WAITING_BYTES or len(settled) >= Batch.MAX_WAITING:
                yield settled
                settled, size = [], 0
        if settled:
            yield settled

    def _rest(self, status: os.stat_result) -> float:
        """Seconds until the file has settled."""
        age = time.time() - status.st_ctime_ns / 1e9
        return self._settle_s - age if age > -FUTURE_S else 0.0


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_written(path: str) -> bool:
    """Whether a process has the file open for writing, as far as that can be told. Its closing is an event."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(fd)
    return False
from zipfs.batch import Batch
