"""Sums up the facts of files (zipfs/info.py) for the page."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from zipfs.page.kinds import kind_of
from zipfs.tally import COPIED, OTHER

NO_TENSOR = "no tensor"
"""Kind of the bytes of containers that are in no tensor."""


class Bar(NamedTuple):
    """Plain and stored bytes of something; parts: the stored bytes by dtype, most first."""

    name: str
    plain_size: int
    stored_size: int
    parts: tuple[tuple[str, int], ...]

    @property
    def saved(self) -> int:
        return self.plain_size - self.stored_size


class Sums:
    """The bytes of all files, in every way that the page shows. All lists begin with what saves most."""

    def __init__(self, root: str, files: list[dict[str, Any]]):
        self._root = root
        by_dtype: dict[str, _Sum] = {}
        by_kind: dict[str, _Sum] = {}
        by_folder: dict[str, _Sum] = {}
        by_file: dict[str, _Sum] = {}
        tensors = []
        for file in files:
            path = self._shown(file["path"])
            folder = os.path.dirname(path) or "."
            for name, dtype, kind, plain, stored in _parts(file):
                for sums, key in ((by_dtype, dtype), (by_kind, kind), (by_folder, folder), (by_file, path)):
                    sums.setdefault(key, _Sum()).add(dtype, plain, stored)
                if name is not None:
                    tensors.append(Bar(name, plain, stored, ((dtype, stored),)))
        self.total = Bar("", sum(f["plain_size"] for f in files), sum(f["stored_size"] for f in files), ())
        self.num_files = len(files)
        self.by_dtype, self.by_kind = _bars(by_dtype), _bars(by_kind)
        self.by_folder, self.by_file = _bars(by_folder), _bars(by_file)
        self.tensors = sorted(tensors, key=lambda bar: (-bar.saved, bar.name))

    def _shown(self, path: str) -> str:
        return os.path.basename(path) if path == self._root else os.path.relpath(path, self._root)


class _Sum:
    def __init__(self) -> None:
        self.plain_size = 0
        self.stored: dict[str, int] = {}

    def add(self, dtype: str, plain_size: int, stored_size: int) -> None:
        self.plain_size += plain_size
        self.stored[dtype] = self.stored.get(dtype, 0) + stored_size


def _parts(file: dict[str, Any]) -> Iterable[tuple[str | None, str, str, int, int]]:
    """(name of a tensor or None, dtype, kind, plain size, stored size) of all bytes of a file."""
    if not file["chunk_size"]:
        yield None, COPIED, COPIED, file["plain_size"], file["stored_size"]
        return
    plain, stored = file["plain_size"], file["stored_size"]
    for segment in file["segments"]:
        sizes = segment["plain_size"], segment["stored_size"]
        yield segment["name"], segment["dtype"], kind_of(segment["name"]), *sizes
        plain, stored = plain - sizes[0], stored - sizes[1]
    yield None, OTHER, NO_TENSOR, plain, stored


def _bars(sums: dict[str, _Sum]) -> list[Bar]:
    bars = [
        Bar(
            name,
            sums[name].plain_size,
            sum(sums[name].stored.values()),
            tuple(sorted(sums[name].stored.items(), key=lambda part: -part[1])),
        )
        for name in sums
    ]
    return sorted(bars, key=lambda bar: (-bar.saved, bar.name))
