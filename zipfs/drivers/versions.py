"""Keeps versions of one path apart, for drivers whose kernel inodes stand for paths (libfuse's high-level interface).

Such a kernel inode has one page cache, one size and one set of permissions, whatever version of the file is behind
them. So
 - while a handle on a version is open, the path keeps that version's attributes, and another version cannot be opened:
    ESTALE and one log line;
 - a version is opened only if the kernel decided by its attributes who may, and knows its size. That is so when the
   thread that opens has just been told them, or when they were told to anybody long enough ago: an answer that is
   still on its way does not count. Else ESTALE, at which Linux looks the path up anew and tries once more;
 - a file that was given its other form, a container for the plain file or the reverse, is no other version as long as
   one of them is open: whoever opens it then gets the one that is, so that compressing in place disturbs no reader;
 - the kernel may keep its pages from one open to the next if both are of the same version.

Any thread may call any method.
"""

import threading
import time
from dataclasses import dataclass, field

from cachetools import LRUCache

from zipfs import _native
from zipfs.tree import Identity, Node, Stat, Tree, stale

MAX_PATHS = 16_384
"""Paths whose last version is remembered; for others ESTALE and a second look-up cost a moment."""
SETTLED_S = 1.0
"""After this time the kernel has surely taken in what it was told."""
RELEASE_WAIT_S = 0.1
"""The kernel sends the release of a closed file in the background: the next open may arrive before it."""


@dataclass
class Held:
    """The version of a path that is open. `refused` is the newer one that the log knows of."""

    node: Node
    file: _native.File
    num_reads_before: int
    num_handles: int = 0
    refused: Identity | None = None


@dataclass
class Told:
    """The version that the kernel was told last, since when, and through which threads."""

    identity: Identity
    since: float
    callers: set[int] = field(default_factory=set)

    def is_settled(self) -> bool:
        return time.monotonic() - self.since >= SETTLED_S


class PathVersions:
    """Which version of each path the kernel was told, has open, and has pages of."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._changed = threading.Condition()
        self._held: dict[bytes, Held] = {}
        self._told: LRUCache[bytes, Told] = LRUCache(MAX_PATHS)
        self._clean: LRUCache[bytes, Identity] = LRUCache(MAX_PATHS)

    def stat(self, path: bytes, caller: int, is_open: bool = False) -> Stat:
        """Attributes of the version that is open at path, else of the present one.

        caller: the id of the thread that asks, 0 for one that cannot be told from others.
        FileNotFoundError when the path is gone, unless is_open.
        """
        node = None if is_open else self._tree.lookup(path)
        with self._changed:
            held = self._held.get(path)
            node = held.node if held else node
            if node is not None:
                self._tell(path, node.identity, caller)
        return (node or self._tree.lookup(path)).shown

    def open(self, path: bytes, caller: int) -> tuple[int, bool]:
        """(a handle for the C read operation, whether the kernel's pages of this path are of this version).

        Undone by release(). OSError: ESTALE as above, else as Tree.open().
        """
        node, file = self._find(path)
        with self._changed:
            self._changed.wait_for(lambda: self._is_free_for(path, node), RELEASE_WAIT_S)
            told = self._told.get(path)
        if not caller and told and not told.is_settled():
            time.sleep(SETTLED_S)  # the second try will find it settled
            raise stale(path)
        self._check(path, node, caller)
        file = file or self._tree.open(node)
        with self._changed:
            self._check(path, node, caller)
            held = self._held.setdefault(path, Held(node, file, file.num_reads))
            handle = held.file.handle()
            held.num_handles += 1
            return handle, self._is_clean(path, held)

    def release(self, path: bytes, handle: int) -> None:
        with self._changed:
            held = self._held[path]
            self._is_clean(path, held)
            held.num_handles -= 1
            if not held.num_handles:
                del self._held[path]
                self._changed.notify_all()
        _native.release(handle)

    def _find(self, path: bytes) -> tuple[Node, _native.File | None]:
        """The version that is to be opened, and its file where that is open as the other form of the present one."""
        node = self._tree.lookup(path)
        with self._changed:
            held = self._held.get(path)
            if held and _are_forms(held.node, node):
                return held.node, held.file
        return node, None

    def _is_clean(self, path: bytes, held: Held) -> bool:
        """Whether the kernel's pages of the path are all of this version.

        They are once it has dropped those that were there before, which it does when it learns that a version was
        opened whose pages must not be kept. That it has learned this is known from the first read that follows; until
        then another opener could overtake the news and read pages of the old version.
        """
        if held.file.num_reads > held.num_reads_before:
            self._clean[path] = held.node.identity
        return self._clean.get(path) == held.node.identity

    def _is_free_for(self, path: bytes, node: Node) -> bool:
        return path not in self._held or self._held[path].node.identity == node.identity

    def _tell(self, path: bytes, identity: Identity, caller: int) -> None:
        told = self._told.get(path)
        if told is None or told.identity != identity:
            self._told[path] = told = Told(identity, time.monotonic())
        if caller and not told.is_settled():
            told.callers.add(caller)

    def _check(self, path: bytes, node: Node, caller: int) -> None:
        with self._changed:
            told, held = self._told.get(path), self._held.get(path)
            if held is None or held.node.identity == node.identity:
                if told and told.identity == node.identity and (caller in told.callers or told.is_settled()):
                    return
            elif held.refused != node.identity:
                held.refused = node.identity
                _native.log(path + b": replaced, but its old version is still in use; the new one opens after that")
        raise stale(path)


def _are_forms(one: Node, other: Node) -> bool:
    """Whether one is the container of the other, by all that compressing keeps."""
    kept = ("size", "mtime_ns", "mode", "uid", "gid")
    return one.is_container != other.is_container and all(
        getattr(one.shown, name) == getattr(other.shown, name) for name in kept
    )
