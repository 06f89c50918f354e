"""A progress bar on stderr: bytes, rate, time left and ratio so far; nothing at all where stderr is no terminal."""

import os
import sys
from collections.abc import Callable
from typing import Any

UNKNOWN_SIZE = {"ncols": 80, "nrows": 24}
"""Of a terminal that tells none, as those of containers and serial lines may: tqdm would show nothing there."""


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

            units = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
            size = {} if all(os.get_terminal_size(sys.stderr.fileno())) else UNKNOWN_SIZE
            self._bar = tqdm(total=total(), desc=title, leave=False, file=sys.stderr, **units, **size)

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
