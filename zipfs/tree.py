"""What the mounted folder looks like: a source folder of containers and other files, shown as plain files.

Finds names, attributes and open files of the source, and reaches it only beneath one directory descriptor: no path of
the machine is ever followed, no symlink either. Knows nothing of mounts and moves no file's bytes.

A container `x.zipfs` (suffix and magic) is shown as `x`, unless the source has an `x` that can be shown. Files,
folders and symlinks are shown; FIFOs, sockets and devices do not exist here. A container that breaks a rule of the
format keeps its place in listings and cannot be opened.

Paths are bytes, relative to the source, `.` for its root. Any thread may call any method; no lock is held while the
source is read.
"""

import contextlib
import errno
import os
import stat
import threading
from typing import NamedTuple

from cachetools import LRUCache, TTLCache

from zipfs import _native, names

SUFFIX = os.fsencode(names.SUFFIX)
STATS = os.fsencode(names.STATS)
"""In the root it is the driver's, which hides a file of the source of that name."""
MAX_IDLE_FILES = 64
IDLE_FILE_TTL_S = 10
"""Closed files stay open in here for a moment: loaders open a file, read its header and open it again."""
MAX_REPORTED = 4096
"""Damaged containers that the log knows of."""
SERVED = {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}


class Identity(NamedTuple):
    """What tells one version of a source file from every other."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Stat(NamedTuple):
    """stat(2), times in ns."""

    dev: int
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    blksize: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int

    @property
    def identity(self) -> Identity:
        return Identity(self.dev, self.ino, self.size, self.mtime_ns, self.ctime_ns)


class Node(NamedTuple):
    """One version of one file, folder or symlink of the source."""

    path: bytes
    """In the source: with the suffix for a container."""
    stat: Stat
    """Of the source."""
    shown: Stat
    """Of the plain file; of a container whose header breaks a rule, with the stored size."""
    is_container: bool

    @property
    def identity(self) -> Identity:
        return self.stat.identity


class Tree:
    """The plain view of the folder that dir_fd (owned by the caller) holds open. `label` stands for it in log lines.

    Keeps parsed headers by identity, and files for a moment after their last use; both are bounded.
    """

    def __init__(self, dir_fd: int, cache: _native.Cache, label: bytes) -> None:
        self._dir_fd = dir_fd
        self._cache = cache
        self._label = label.rstrip(b"/")
        self._lock = threading.Lock()
        self._headers = _native.Headers()
        self._files: TTLCache[tuple[Identity, bytes], _native.File] = TTLCache(MAX_IDLE_FILES, IDLE_FILE_TTL_S)
        self._reported: LRUCache[Identity, bool] = LRUCache(MAX_REPORTED)

    def lookup(self, path: bytes) -> Node:
        """The present version of what the mount shows at path. FileNotFoundError where it shows nothing."""
        with contextlib.suppress(FileNotFoundError):
            node = self._find(path)
            if not node.is_container:
                return node
        try:
            node = self._find(path + SUFFIX)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
        else:
            if node.is_container:
                return node
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def scan(self, path: bytes) -> "_native.Scan":
        """All that the folder shows, for _native.entries() or for the native driver."""
        return self._headers.scan(self._dir_fd, path, SUFFIX, STATS if path == b"." else b"")

    def listdir(self, path: bytes) -> list[tuple[bytes, Node]]:
        """The same by name, unsorted."""
        folder = b"" if path == b"." else path + b"/"
        nodes = []
        for name, found in _native.entries(self.scan(path)):
            node = to_node(folder + name, found)
            nodes.append((name, node._replace(path=node.path + SUFFIX) if node.is_container else node))
        return nodes

    def readlink(self, path: bytes) -> bytes:
        """OSError: ESTALE when path is no symlink by now."""
        fd = _native.open_beneath(self._dir_fd, path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.readlink(b"", dir_fd=fd)
        except FileNotFoundError:
            raise stale(path) from None
        finally:
            os.close(fd)

    def statvfs(self) -> os.statvfs_result:
        with self._lock:
            self._files.expire()
        return os.fstatvfs(self._dir_fd)

    def open(self, node: Node) -> _native.File:
        """The node's bytes. One File serves all who open one version; close() would take it from them, so drop it
        instead.

        OSError: EIO for a damaged container (told once in the log), ESTALE when the source no longer holds that
        version.
        """
        key = node.identity, node.path
        with self._lock:
            file = self._files.get(key)
        if file is None:
            file = self._open_file(node)
        with self._lock:
            return self._files.setdefault(key, file)

    def _open_file(self, node: Node) -> _native.File:
        fd = self._open_version(node)
        try:
            return _native.File(self._cache, fd, self._name(node.path), plain=not node.is_container)
        except _native.FormatError as error:
            os.close(fd)
            self._report(node, error)
            raise OSError(errno.EIO, os.strerror(errno.EIO), node.path) from error
        except BaseException:
            os.close(fd)
            raise

    def _open_version(self, node: Node) -> int:
        try:
            fd = _native.open_beneath(self._dir_fd, node.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                raise
            raise stale(node.path) from error
        status = os.fstat(fd)
        if node.identity == (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns):
            return fd
        os.close(fd)
        raise stale(node.path)

    def _report(self, node: Node, error: _native.FormatError) -> None:
        with self._lock:
            known = self._reported.setdefault(node.identity, False)
            self._reported[node.identity] = True
        if not known:
            _native.log(self._name(node.path) + f": not opened: {error.args[-1]}: {error.status}".encode())

    def _name(self, path: bytes) -> bytes:
        return self._label + b"/" + path

    def _find(self, path: bytes) -> Node:
        """The node at this path of the source, its own name taken literally."""
        node = to_node(path, self._headers.find(self._dir_fd, path, SUFFIX))
        if stat.S_IFMT(node.stat.mode) not in SERVED:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node


def to_node(path: bytes, found: "_native.Found") -> Node:
    status, shown, is_container = found
    return Node(path, Stat._make(status), Stat._make(shown), is_container)


def stale(path: bytes) -> OSError:
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
