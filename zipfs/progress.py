"""A progress bar on stderr: bytes, rate, time left and ratio so far; nothing at all where stderr is no terminal."""

import sys
from collections.abc import Callable
from typing import Any


class Progress:
    """Call it with counts of bytes done, and of the bytes that are stored for them. A context manager; leaving it
    clears the bar.

    total: gives the bytes to do; called only when there is a terminal to show the bar on.
    """

    def __init__(self, title: str, total: Callable[[], int]):
        self._bar: Any = None
        self._stored = 0
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total(), desc=title, unit="B", unit_scale=True, unit_divisor=1024, leave=False, file=sys.stderr
            )

    def __call__(self, size: int, stored_size: int = 0) -> None:
        if self._bar is None:
            return
        self._stored += stored_size
        if self._stored:
            self._bar.set_postfix_str(f"stored {self._stored / max(self._bar.n + size, 1):.1%}", refresh=False)
        self._bar.update(size)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
