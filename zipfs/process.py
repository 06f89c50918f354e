"""The command's process: its standard streams, and the kernel that its environment demands."""

import os
import sys

from zipfs import _native
from zipfs.errors import UsageError


def prepare_streams() -> None:
    """Makes stdin, stdout and stderr usable whatever the caller left of them.

    Where one was closed, the next file to be opened would take its place, and be written to as such.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")


def check_kernel() -> None:
    """UsageError when ZIPFS_KERNEL demands what cannot be had."""
    try:
        _native.kernel()
    except RuntimeError as error:
        raise UsageError(f"{error}; unset it to have the best of this CPU") from None
