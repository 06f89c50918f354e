"""Plain and stored bytes of many files by dtype: what the report of `compress` tells. Does no I/O."""

from collections.abc import Iterable
from typing import Any, NamedTuple

OTHER = "other"
"""Row of the bytes of containers that no tensor of a known dtype takes: headers, text, what was guessed."""
COPIED = "as it is"
"""Row of the files that became no containers."""


class Row(NamedTuple):
    """Files that have bytes of one dtype, and these bytes."""

    dtype: str
    num_files: int = 0
    plain_size: int = 0
    stored_size: int = 0

    @property
    def saved(self) -> int:
        return self.plain_size - self.stored_size


class Tally:
    """Sums over files. One thread at a time."""

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = {}

    def add_container(self, plain_size: int, stored_size: int, tensors: Iterable[tuple[str, int, int]]) -> None:
        """A file that became a container; tensors: (dtype, plain size, stored size) of each."""
        sums: dict[str, list[int]] = {}
        for dtype, plain, stored in tensors:
            found = sums.setdefault(dtype, [0, 0])
            found[0] += plain
            found[1] += stored
            plain_size, stored_size = plain_size - plain, stored_size - stored
        sums[OTHER] = [plain_size, stored_size]
        for dtype, (plain, stored) in sums.items():
            self._add(dtype, plain, stored)

    def add_copy(self, size: int) -> None:
        """A file that was copied, or in place left, as it is."""
        self._add(COPIED, size, size)

    def rows(self) -> list[Row]:
        """By the bytes saved, most first."""
        rows = [Row(dtype, *sums) for dtype, sums in self._sums.items()]
        return sorted(rows, key=lambda row: (-row.saved, row.dtype))

    def _add(self, name: str, plain_size: int, stored_size: int) -> None:
        sums = self._sums.setdefault(name, [0, 0, 0])
        for i, value in enumerate((1, plain_size, stored_size)):
            sums[i] += value


def as_facts(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows for JSON."""
    return [row._asdict() | {"saved": row.saved} for row in rows]
