"""Ctrl-C, SIGTERM and SIGHUP end a command by an exception in its main thread, but never while names change on disk."""

import contextlib
import signal
from collections.abc import Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_held = 0
_came: list[int] = []


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the block like Ctrl-C does, so that unfinished files go; one that is ignored stays
    ignored.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    usual = (signal.SIG_DFL, signal.default_int_handler)
    taken = {number: action for number, action in before.items() if action in usual}
    for number in taken:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, action in taken.items():
            signal.signal(number, action)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Lets a signal that would end the block wait until it has ended. For moments; one thread at a time."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if _came and not _held:
            _end(_came.pop(), None)


def _end(number: int, _: object) -> None:
    if _held:
        _came[:] = [number]
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise SystemExit(128 + number)
