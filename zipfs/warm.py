"""Brings files into the page cache or drops them from it, for `zipfs warm`: files of a mount, and any others.

Bytes go from the page cache to /dev/null by sendfile, which copies none of them. That is the fastest way of those
tried (512 MiB of a mount, 2 cores: 1.4 GB/s; pread into a buffer 1.3, a mapping with MADV_POPULATE_READ 1.15; of a
plain file 2.4, 1.1 and 1.8), and unlike posix_fadvise(WILLNEED) it is not held back by the readahead window, and tells
of bytes that cannot be read. More files at one time were no faster (1, 2 and 4: 1.29, 1.21 and 1.25 GB/s on a mount,
1.9, 1.8 and 1.7 on the plain files), so that jobs are for disks that answer late.
"""

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from zipfs.errors import UsageError
from zipfs.names import show

STEP_SIZE = 8 << 20
"""Bytes between two looks at whether to go on."""
PathLike = str | os.PathLike


class Warmed(NamedTuple):
    """Files that were done, their bytes, and the errors of others, each of which names its file."""

    num_files: int
    size: int
    failures: list[Exception]


def warm(
    paths: Iterable[PathLike],
    *,
    evict: bool = False,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda size: None,
) -> Warmed:
    """Reads all files at the paths into the page cache, or with `evict` drops them from it.

    jobs: files at one time. progress: told bytes as they are done, by one thread at a time. UsageError for a path that
    is neither a file nor a folder.
    """
    failures: list[Exception] = []
    job = _Job(evict, progress)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            results = list(pool.map(job.run, find_files(paths, failures)))
        except BaseException:
            job.is_stopped = True
            pool.shutdown(cancel_futures=True)
            raise
    sizes = [result for result in results if isinstance(result, int)]
    failures += [result for result in results if not isinstance(result, int)]
    return Warmed(len(sizes), sum(sizes), failures)


def find_files(paths: Iterable[PathLike], failures: list[Exception]) -> Iterator[str]:
    """The regular files at the paths and in the folders there, each once whatever its names.

    Symlinks to files are followed: what a hub's snapshot shows are symlinks. The OSError of what cannot be looked at
    goes to `failures`.
    """
    seen: set[tuple[int, int]] = set()
    for path in map(os.fspath, paths):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{show(path)}: is neither a file nor a folder")
        for name in _list_files(path, failures) if stat.S_ISDIR(status.st_mode) else [path]:
            try:
                status = os.stat(name)
            except OSError as error:
                failures.append(error)
                continue
            if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                yield name


def total_size(paths: Iterable[PathLike]) -> int:
    """Bytes that warm() will have done."""
    return sum(os.stat(path).st_size for path in find_files(paths, []))


def _list_files(folder: str, failures: list[Exception]) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=failures.append):
        folders.sort()
        yield from (os.path.join(parent, name) for name in sorted(files))


class _Job:
    """What is done to each file, by several threads at once."""

    def __init__(self, evict: bool, progress: Callable[[int], None]) -> None:
        self.is_stopped = False
        self._function = _evict if evict else _read
        self._progress = progress
        self._lock = threading.Lock()

    def run(self, path: str) -> int | OSError:
        """The bytes of the file, or why it could not be done."""
        size = 0
        try:
            with contextlib.closing(self._function(path)) as steps:
                for step_size in steps:
                    size += step_size
                    with self._lock:
                        self._progress(step_size)
                    if self.is_stopped:
                        break
        except OSError as error:
            error.filename = error.filename or path
            return error
        return size


def _read(path: str) -> Iterator[int]:
    offset = 0
    with open(path, "rb", buffering=0) as file, open(os.devnull, "wb", buffering=0) as null:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while size := os.sendfile(null.fileno(), file.fileno(), offset, STEP_SIZE):
            offset += size
            yield size


def _evict(path: str) -> Iterator[int]:
    with open(path, "rb", buffering=0) as file:
        os.fdatasync(file.fileno())  # pages that are not on disk yet would stay
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        yield os.fstat(file.fileno()).st_size
