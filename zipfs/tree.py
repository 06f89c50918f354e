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
from collections.abc import Iterator
from typing import NamedTuple

from cachetools import LRUCache, TTLCache

from zipfs import _native, names

SUFFIX = os.fsencode(names.SUFFIX)
MAX_HEADERS = 32_768
"""Parsed headers that are kept, about 600 bytes each."""
MAX_IDLE_FILES = 64
IDLE_FILE_TTL_S = 10
"""Closed files stay open in here for a moment: loaders open a file, read its header and open it again."""
SERVED = {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}


class Identity(NamedTuple):
    """What tells one version of a source file from every other."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Container(NamedTuple):
    """What a container's header says. A header that breaks a rule has the rule's name as damage and says nothing
    else.
    """

    plain_size: int
    chunk_size: int
    damage: str | None = None


class Node(NamedTuple):
    """One version of one file, folder or symlink of the source."""

    path: bytes
    """In the source: with the suffix for a container."""
    stat: os.stat_result
    container: Container | None

    @property
    def identity(self) -> Identity:
        return identity_of(self.stat)

    def attributes(self) -> dict[str, int]:
        """stat(2) of the plain file, times in ns. The blocks are those of the stored bytes, so that `du` shows what is
        saved.
        """
        source = self.stat
        attributes = {name: getattr(source, name) for name in ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid")}
        attributes |= {f"st_{time}": getattr(source, f"st_{time}_ns") for time in ("atime", "mtime", "ctime")}
        attributes |= {"st_size": source.st_size, "st_blocks": source.st_blocks, "st_blksize": source.st_blksize}
        if self.container:
            attributes |= {"st_size": self.container.plain_size, "st_blksize": self.container.chunk_size}
        if stat.S_ISREG(source.st_mode) and attributes["st_size"]:
            attributes["st_blocks"] = max(source.st_blocks, 1)
        return attributes


def identity_of(status: os.stat_result) -> Identity:
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Tree:
    """The plain view of the folder that dir_fd (owned by the caller) holds open. `label` stands for it in log lines.

    Keeps parsed headers by identity, and files for a moment after their last use; both are bounded.
    """

    def __init__(self, dir_fd: int, cache: _native.Cache, label: bytes) -> None:
        self._dir_fd = dir_fd
        self._cache = cache
        self._label = label.rstrip(b"/")
        self._lock = threading.Lock()
        self._headers: LRUCache[Identity, Container | None] = LRUCache(MAX_HEADERS)
        self._files: TTLCache[tuple[Identity, bytes], _native.File] = TTLCache(MAX_IDLE_FILES, IDLE_FILE_TTL_S)
        self._reported: LRUCache[Identity, bool] = LRUCache(MAX_HEADERS)

    def lookup(self, path: bytes) -> Node:
        """The present version of what the mount shows at path. FileNotFoundError where it shows nothing."""
        with contextlib.suppress(FileNotFoundError):
            node = self._find(path)
            if node.container is None:
                return node
        try:
            node = self._find(path + SUFFIX)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
        else:
            if node.container is not None:
                return node
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def listdir(self, path: bytes) -> list[tuple[bytes, int, int]]:
        """(name, type bits of the mode, inode number) of all that the folder shows, unsorted."""
        shown: dict[bytes, tuple[int, int]] = {}
        containers: dict[bytes, tuple[int, int]] = {}
        for name, kind, ino in self._scan(path):
            hidden = kind == stat.S_IFREG and is_suffixed(name) and self._is_container(os.path.join(path, name))
            if hidden:
                containers[name.removesuffix(SUFFIX)] = kind, ino
            else:
                shown[name] = kind, ino
        return [(name, kind, ino) for name, (kind, ino) in (containers | shown).items()]

    def readlink(self, path: bytes) -> bytes:
        fd = _native.open_beneath(self._dir_fd, path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.readlink(b"", dir_fd=fd)
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
            return _native.File(self._cache, fd, self._name(node.path), plain=node.container is None)
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
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), node.path) from error
        if identity_of(os.fstat(fd)) == node.identity:
            return fd
        os.close(fd)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), node.path)

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
        fd = _native.open_beneath(self._dir_fd, path, os.O_PATH | os.O_NOFOLLOW)
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        if stat.S_IFMT(status.st_mode) not in SERVED:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if not stat.S_ISREG(status.st_mode) or not is_suffixed(os.path.basename(path)):
            return Node(path, status, None)
        return self._find_container(path, status)

    def _find_container(self, path: bytes, status: os.stat_result) -> Node:
        identity = identity_of(status)
        with self._lock:
            if identity in self._headers:
                return Node(path, status, self._headers[identity])
        try:
            fd = _native.open_beneath(self._dir_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except PermissionError:
            return Node(path, status, None)  # nobody can read it through us under any name
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):  # swapped since it was found
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            container = parse_header(os.pread(fd, names.HEADER_SIZE, 0), status)
        finally:
            os.close(fd)
        with self._lock:
            self._headers[identity_of(status)] = container
        return Node(path, status, container)

    def _is_container(self, path: bytes) -> bool:
        try:
            return self._find(path).container is not None
        except OSError:
            return False

    def _scan(self, path: bytes) -> Iterator[tuple[bytes, int, int]]:
        fd = _native.open_beneath(self._dir_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    kind = entry_kind(entry)
                    if kind:
                        yield os.fsencode(entry.name), kind, entry.inode()
        finally:
            os.close(fd)


def is_suffixed(name: bytes) -> bool:
    return name.endswith(SUFFIX) and name != SUFFIX


def entry_kind(entry: os.DirEntry) -> int:
    """The type bits of what a listing shows, 0 for what it does not. Reads no inode where the folder itself tells the
    type.
    """
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0


def parse_header(data: bytes, status: os.stat_result) -> Container | None:
    """None when the bytes do not begin with the magic. A header that cannot be trusted leaves only the stored size to
    show.
    """
    try:
        header = _native.header_parse(data, status.st_size)
    except _native.FormatError as error:
        if error.status == "BAD_MAGIC":
            return None
        return Container(status.st_size, 4096, error.status)
    return Container(header["plain_size"], 1 << header["chunk_log2"])
