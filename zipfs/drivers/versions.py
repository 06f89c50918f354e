"""Keeps versions of one path apart, for drivers whose kernel inodes stand for paths (libfuse's high-level interface).

Such a kernel inode has one page cache, one size and one set of permissions, whatever version of the file is behind
them. So
 - while a handle on a version is open, the path keeps that version's attributes, and another version cannot be opened:
    ESTALE and one log line;
 - a version is opened only if its attributes are the last that the kernel was told, for by these it decided who may.
    Else ESTALE, at which Linux looks the path up once more, decides again, and tries once more;
 - the kernel may keep its pages from one open to the next if both are of the same version.

Any thread may call any method.
"""

import errno
import os
import threading
from dataclasses import dataclass

from cachetools import LRUCache

from zipfs import _native
from zipfs.tree import Identity, Node, Tree

MAX_PATHS = 16_384
"""Paths whose last version is remembered; for others ESTALE and a second look-up cost a moment."""
RELEASE_WAIT_S = 0.1
"""The kernel sends the release of a closed file in the background: the next open may arrive before it."""


@dataclass
class Held:
    """The version of a path that is open. `refused` is the newer one that the log knows of."""

    node: Node
    file: _native.File
    num_handles: int = 0
    refused: Identity | None = None


class PathVersions:
    """Which version of each path the kernel was told, has open, and has pages of."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._changed = threading.Condition()
        self._held: dict[bytes, Held] = {}
        self._told: LRUCache[bytes, Identity] = LRUCache(MAX_PATHS)
        self._opened: LRUCache[bytes, Identity] = LRUCache(MAX_PATHS)

    def stat(self, path: bytes, is_open: bool = False) -> dict[str, int]:
        """Attributes of the version that is open at path, else of the present one.

        FileNotFoundError when the path is gone, unless is_open.
        """
        node = None if is_open else self._tree.lookup(path)
        with self._changed:
            held = self._held.get(path)
            node = held.node if held else node
            if node is not None:
                self._told[path] = node.identity
        return (node or self._tree.lookup(path)).attributes()

    def open(self, path: bytes) -> tuple[int, bool]:
        """(a handle for the C read operation, whether the kernel's pages of this path are of this version).

        Undone by release(). OSError: ESTALE as above, else as Tree.open().
        """
        node = self._tree.lookup(path)
        with self._changed:
            self._changed.wait_for(lambda: self._is_free_for(path, node), RELEASE_WAIT_S)
            self._check(path, node)
        file = self._tree.open(node)
        with self._changed:
            self._check(path, node)
            held = self._held.setdefault(path, Held(node, file))
            handle = held.file.handle()
            held.num_handles += 1
            keep = self._opened.get(path) == node.identity
            self._opened[path] = node.identity
        return handle, keep

    def release(self, path: bytes, handle: int) -> None:
        with self._changed:
            held = self._held[path]
            held.num_handles -= 1
            if not held.num_handles:
                del self._held[path]
                self._changed.notify_all()
        _native.release(handle)

    def _is_free_for(self, path: bytes, node: Node) -> bool:
        return path not in self._held or self._held[path].node.identity == node.identity

    def _check(self, path: bytes, node: Node) -> None:
        if self._is_free_for(path, node):
            if self._told.get(path) == node.identity:
                return
        elif self._held[path].refused != node.identity:
            self._held[path].refused = node.identity
            _native.log(path + b": replaced, but its old version is still in use; the new one can be opened after that")
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
