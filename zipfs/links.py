"""Hard links in a mirror: what was made of the first name of a file gets the names that it would have been given for
the others. So their bytes are read and stored once.

The blobs of caches are called by what they hold, so equal ones of several repositories have equal names: where a
comparison of all their bytes agrees, the output of the first is the others' as well. Its mtime is the first's.
"""

import contextlib
import os
from collections.abc import Collection, Hashable
from typing import NamedTuple

from zipfs import attributes, digests, names
from zipfs.batch import Batch
from zipfs.errors import ZipfsError
from zipfs.output import Output, refuse_existing
from zipfs.source import Source

_BLOCK = 1 << 20
"""Bytes that are compared at one time."""

_CHANGES = (lambda name: name + names.SUFFIX, lambda name: name, names.plain_name)
"""What converters do to names."""


class _Link(NamedTuple):
    """A name to be made: of the file at `made`, at `path`, in place of the file's other form there.

    blob: the source, where it is a file of its own; kept: as for its conversion.
    """

    made: str
    path: str
    other: str | None
    blob: str | None
    kept: Collection[str]


class _First(NamedTuple):
    """A file that was converted, and what was made of it."""

    path: str
    status: os.stat_result
    output: Output


class HardLinks:
    """The files with several names of one run, and the equal blobs, which get one."""

    def __init__(self, force: bool):
        self._force = force
        self._first: dict[tuple, _First] = {}
        self._waiting: list[_Link] = []

    def note(self, status: os.stat_result, path: str, sharing: Hashable | None, output: Output | None) -> None:
        """A file was converted; sharing as in keys()."""
        if output is not None:
            for key in keys(path, status, sharing):
                self._first.setdefault(key, _First(path, status, output))

    def takes(
        self, status: os.stat_result, path: str, sharing: Hashable | None, target: str, kept: Collection[str]
    ) -> bool:
        """Whether `path` is another name of a file that was noted, or a blob equal to one, and gets a link in the
        folder `target` instead of a conversion.
        """
        found = keys(path, status, sharing)
        for key in found:
            first = self._first.get(key)
            link = first and _link(first, path, target, kept, status)
            if not link or (link.blob is not None and not _are_equal(first, path, status)):
                continue
            self._waiting.append(link)
            for other in found:
                self._first.setdefault(other, first)
            return True
        return False

    def make(self, batch: Batch) -> list[tuple[str, str, Collection[str]]]:
        """Makes the links, after the batch was flushed; failures go to it. Returns the blobs (path, folder of the
        output, kept) that must be converted after all, as where the file system has no hard links.
        """
        refused = []
        for link in self._waiting:
            try:
                self._make(link)
                batch.touched(os.path.dirname(link.path))
            except OSError as error:
                if link.blob is None:
                    batch.failures.append(error)
                else:
                    refused.append((link.blob, os.path.dirname(link.path), link.kept))
        return refused

    def _make(self, link: _Link) -> None:
        for path in filter(None, (link.path, link.other)):
            refuse_existing(path, self._force)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link.path)
        os.link(link.made, link.path)
        if link.other is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link.other)


def keys(path: str, status: os.stat_result, sharing: Hashable | None) -> list[tuple]:
    """What two files have in common that may share an output: the inode, or digest, size, mode and owner of a blob.

    sharing: what else blobs must have in common, None where they share nothing.
    """
    found: list[tuple] = []
    if status.st_nlink > 1:
        found.append((status.st_dev, status.st_ino))
    promise = None if sharing is None else digests.promised(path)
    if promise is not None:
        found.append((promise, status.st_size, status.st_mode, status.st_uid, status.st_gid, sharing))
    return found


def _is_same(first: _First, status: os.stat_result) -> bool:
    return os.path.samestat(first.status, status)


def _are_equal(first: _First, path: str, status: os.stat_result) -> bool:
    """Whether the blob at `path` has the bytes and extended attributes that were converted. A digest in a name is
    believed by nobody: what does not read, or changes meanwhile, is not equal.
    """
    try:
        with Source(first.path, follow=False) as one, Source(path, follow=False) as other:
            if not one.is_version(first.status) or not other.is_version(status):
                return False
            if attributes.read(one.fd) != attributes.read(other.fd):
                return False
            for at in range(0, one.size, _BLOCK):
                if one.pread(_BLOCK, at) != other.pread(_BLOCK, at):
                    return False
            one.check_unchanged()
            other.check_unchanged()
    except (OSError, ZipfsError):
        return False
    return True


def _link(first: _First, path: str, target: str, kept: Collection[str], status: os.stat_result) -> _Link | None:
    """None where another name leads to something else: to a name that is taken or too long, or that must be wrapped."""
    output, old = first.output, os.path.basename(first.path)
    name, made = os.path.basename(path), os.path.basename(output.path)
    change = next((change for change in _CHANGES if change(old) == made), None)
    if change is None or names.has_suffix(name) != names.has_suffix(old) or names.temporary_owner(name) is not None:
        return None
    new = change(name)
    is_hidden = len(new) < len(name) and names.is_shown(os.path.join(os.path.dirname(path), new))
    if is_hidden or new in kept or not names.takes_suffix(name):
        return None
    other = None
    if output.other is not None:
        other = next(change(new) for change in _CHANGES if change(made) == os.path.basename(output.other))
    blob = None if _is_same(first, status) else path
    return _Link(output.path, os.path.join(target, new), other and os.path.join(target, other), blob, kept)
