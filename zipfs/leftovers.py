"""Temporary files that runs which were killed have left behind."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Collection

from zipfs import names


def remove_leftover(path: str) -> bool:
    """Removes the temporary file `path` of a run that was killed.

    Returns whether it did. One that a live process writes stays.
    """
    owner = names.temporary_owner(os.path.basename(path))
    if owner is None or (owner != os.getpid() and _is_alive(owner)):
        return False
    if os.path.islink(path):
        os.unlink(path)
        return True
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def remove_leftovers(directory: str, outputs: Collection[str] = ()) -> None:
    """Removes the temporary files of killed runs from a folder, where it may be listed.

    outputs: names that are about to be made there; only what would have become one of them goes (none: all).
    """
    beginnings = {names.temporary_name(name).rsplit(".", 2)[0] for name in outputs}
    with contextlib.suppress(OSError), os.scandir(directory) as scan:
        for entry in scan:
            if not outputs or entry.name.rsplit(".", 2)[0] in beginnings:
                remove_leftover(entry.path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
