"""Plain and stored bytes of many files by dtype: what the report of `compress` tells. Does no I/O."""

from collections.abc import Iterable
from typing import Any, NamedTuple

OTHER = "other"
"""Row of the bytes of containers that no tensor of a known dtype takes: headers, text, what was guessed."""
COPIED = "as it is"
"""Row of the files that are no containers."""


class Row(NamedTuple):
    """Files that have bytes of one dtype, and these bytes."""

    dtype: str
    num_files: int = 0
    plain_size: int = 0
    stored_size: int = 0

    @property
    def saved(self) -> int:
        return self.plain_size - self.stored_size

    def plus(self, plain_size: int, stored_size: int, num_files: int = 1) -> "Row":
        return self._replace(
            num_files=self.num_files + num_files,
            plain_size=self.plain_size + plain_size,
            stored_size=self.stored_size + stored_size,
        )


class Tally:
    """Sums over files. One thread at a time."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def add_container(self, plain_size: int, stored_size: int, tensors: Iterable[tuple[str, int, int]]) -> None:
        """A file that became a container; tensors: (dtype, plain size, stored size) of each."""
        rows: dict[str, Row] = {}
        for dtype, plain, stored in tensors:
            rows[dtype] = rows.get(dtype, Row(dtype)).plus(plain, stored, 0)
            plain_size, stored_size = plain_size - plain, stored_size - stored
        rows[OTHER] = Row(OTHER, 0, plain_size, stored_size)
        for row in rows.values():
            self._add(row.dtype, row.plain_size, row.stored_size)

    def add_copy(self, size: int) -> None:
        """A file that was copied as it is."""
        self._add(COPIED, size, size)

    def rows(self) -> list[Row]:
        """By the bytes saved, most first."""
        return sorted(self._rows.values(), key=lambda row: (-row.saved, row.dtype))

    def _add(self, name: str, plain_size: int, stored_size: int) -> None:
        self._rows[name] = self._rows.get(name, Row(name)).plus(plain_size, stored_size)


def as_facts(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows for JSON."""
    return [row._asdict() | {"saved": row.saved} for row in rows]
