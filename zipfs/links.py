"""Hard links in a mirror: what was made of the first name of a file gets the names that it would have been given for
the others. So their bytes are read and stored once.
"""

import contextlib
import os
from collections.abc import Collection
from typing import NamedTuple

from zipfs import names
from zipfs.batch import Batch
from zipfs.output import Output, refuse_existing

_CHANGES = (lambda name: name + names.SUFFIX, lambda name: name, names.plain_name)
"""What converters do to names."""


class _Link(NamedTuple):
    """A name to be made: of the file at `made`, at `path`, in place of the file's other form there."""

    made: str
    path: str
    other: str | None


class HardLinks:
    """The files with several names of one run."""

    def __init__(self, force: bool):
        self._force = force
        self._first: dict[tuple[int, int], tuple[str, Output]] = {}
        self._waiting: list[_Link] = []

    def note(self, status: os.stat_result, name: str, output: Output | None) -> None:
        """A file was converted under this name."""
        if status.st_nlink > 1 and output is not None:
            self._first.setdefault((status.st_dev, status.st_ino), (name, output))

    def takes(self, status: os.stat_result, path: str, target: str, kept: Collection[str]) -> bool:
        """Whether `path` is another name of a file that was noted, and gets a link in the folder `target` instead of a
        conversion.
        """
        found = self._first.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        link = found and _link(*found, path, target, kept)
        if link:
            self._waiting.append(link)
        return bool(link)

    def make(self, batch: Batch) -> None:
        """Makes the links, after the batch was flushed; failures go to it."""
        for link in self._waiting:
            try:
                self._make(link)
                batch.touched(os.path.dirname(link.path))
            except OSError as error:
                batch.failures.append(error)

    def _make(self, link: _Link) -> None:
        for path in filter(None, (link.path, link.other)):
            refuse_existing(path, self._force)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link.path)
        os.link(link.made, link.path)
        if link.other is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link.other)


def _link(first: str, output: Output, path: str, target: str, kept: Collection[str]) -> _Link | None:
    """None where another name leads to something else: to a name that is taken or too long, or that must be wrapped."""
    name, made = os.path.basename(path), os.path.basename(output.path)
    change = next((change for change in _CHANGES if change(first) == made), None)
    if change is None or names.has_suffix(name) != names.has_suffix(first) or names.temporary_owner(name) is not None:
        return None
    new = change(name)
    is_hidden = len(new) < len(name) and names.is_shown(os.path.join(os.path.dirname(path), new))
    if is_hidden or new in kept or not names.takes_suffix(name):
        return None
    other = None
    if output.other is not None:
        other = next(change(new) for change in _CHANGES if change(made) == os.path.basename(output.other))
    return _Link(output.path, os.path.join(target, new), other and os.path.join(target, other))
