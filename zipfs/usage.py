"""What folders take on disk and what their plain files would, as du counts: in blocks, each hard link once.

Of a mount as of the folder behind it, since a mount shows plain sizes and stored blocks. Reads headers alone.
"""

import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from zipfs import _native
from zipfs import mountpoint as points
from zipfs.info import ratio
from zipfs.tree import SUFFIX, Node, to_node

BLOCK = 512
"""Unit of st_blocks."""


class Usage(NamedTuple):
    """Of a file, or of a folder with all beneath it. Bytes; depth 0 is what was asked for."""

    path: str
    plain_size: int
    stored_size: int
    depth: int
    is_folder: bool

    def facts(self) -> dict[str, Any]:
        """For JSON; ratio is stored by plain."""
        return {
            "path": self.path,
            "plain_size": self.plain_size,
            "stored_size": self.stored_size,
            "saved_size": self.plain_size - self.stored_size,
            "ratio": ratio(self.plain_size, self.stored_size),
        }


class _Folder:
    """A folder under way: sums over what was met, and what is still to be met."""

    def __init__(self, path: str, own: int, depth: int, waiting: list[tuple[bytes, Node]]):
        self.path, self.depth, self.waiting = path, depth, waiting
        self.plain = self.stored = own

    def usage(self) -> Usage:
        return Usage(self.path, self.plain, self.stored, self.depth, True)


def usage(path: str, failures: list[Exception]) -> Iterator[Usage]:
    """Yields the usage of every file and folder, a folder after what is in it, the last one `path` itself.

    A file of several names counts where it is met first. The OSError of a folder that cannot be listed goes to
    `failures`; the other folders count.
    """
    walk = _Walk(path, failures)
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        yield walk.of_file(path, walk.look(path), 0)
        return
    stack = [walk.enter(path, status.st_blocks * BLOCK, 0)]
    while stack:
        folder = stack[-1]
        if folder.waiting:
            name, node = folder.waiting.pop()
            there = os.path.join(folder.path, os.fsdecode(name))
            if stat.S_ISDIR(node.stat.mode):
                stack.append(walk.enter(there, node.stat.blocks * BLOCK, folder.depth + 1))
                continue
            done = walk.of_file(there, node, folder.depth + 1)
        else:
            done = stack.pop().usage()
        if stack:
            stack[-1].plain += done.plain_size
            stack[-1].stored += done.stored_size
        yield done


class _Walk:
    """What usage() must remember on its way through one tree."""

    def __init__(self, path: str, failures: list[Exception]):
        self._failures = failures
        self._headers = _native.Headers()
        is_mount = os.stat(path).st_dev in points.devices()
        self._suffix = (
            b"/" if is_mount else SUFFIX
        )  # no name ends in b"/", and no file of a mount counts as a container
        self._unit = os.statvfs(path).f_frsize
        self._seen: set[tuple[int, int]] = set()

    def look(self, path: str) -> Node:
        """What is at path, which a user named."""
        raw = os.path.realpath(os.fsencode(path))
        fd = os.open(os.path.dirname(raw), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        name = os.path.basename(raw)
        try:
            return to_node(name, self._headers.find(fd, name, self._suffix))
        finally:
            os.close(fd)

    def enter(self, path: str, own: int, depth: int) -> _Folder:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW * (depth > 0) | os.O_CLOEXEC)
            try:
                found = _native.entries(self._headers.scan(fd, b".", self._suffix))
            finally:
                os.close(fd)
        except OSError as error:
            self._failures.append(OSError(error.errno, error.strerror, path))
            found = []
        nodes = [(name, to_node(name, facts)) for name, facts in found]
        return _Folder(path, own, depth, sorted(nodes, key=lambda node: node[0], reverse=True))

    def of_file(self, path: str, node: Node, depth: int) -> Usage:
        shown, key = node.shown, (node.stat.dev, node.stat.ino)
        if node.stat.nlink > 1 and key in self._seen:
            return Usage(path, 0, 0, depth, False)
        self._seen.add(key)
        plain = -(-shown.size // self._unit) * self._unit if stat.S_ISREG(shown.mode) else node.stat.blocks * BLOCK
        return Usage(path, plain, node.stat.blocks * BLOCK, depth, False)
