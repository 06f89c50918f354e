"""The command's process: its standard streams, the signals that end it, and the kernel that its environment demands."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

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


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the block like Ctrl-C does, so that unfinished files go; one that is ignored stays
    ignored.
    """
    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def check_kernel() -> None:
    """UsageError when ZIPFS_KERNEL demands what cannot be had."""
    try:
        _native.kernel()
    except RuntimeError as error:
        raise UsageError(f"{error}; unset it to have the best of this CPU") from None
