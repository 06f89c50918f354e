"""Putting on disk what was written: folders, whole file systems, and the beginning of a file that grows."""

import ctypes
import errno
import functools
import os
from collections.abc import Iterable

SYNC_FILE_RANGE_WRITE = 2
NO_FOLDER_SYNC = {errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
"""Answers where a folder may not be read, or its file system syncs no folders: then everything is synced."""


def sync_directories(paths: Iterable[str]) -> list[OSError]:
    """Puts the names in these folders on disk; returns the failures."""
    failures: list[OSError] = []
    for path in paths:
        try:
            _sync_directory(path)
        except OSError as error:
            failures.append(OSError(error.errno, error.strerror, path))
    return failures


def _sync_directory(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
        os.sync()


def start_write_back(fd: int, offset: int, size: int) -> None:
    """sync_file_range(2): has the disk write these bytes while more are made. A hint, so failures do not count."""
    _libc().sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), SYNC_FILE_RANGE_WRITE)


def sync_file_system(fd: int) -> None:
    """syncfs(2): puts everything of the file system of `fd` on disk."""
    if _libc().syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
