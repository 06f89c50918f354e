"""The C module of the native mount driver (native/fuse_module.c), on libfuse 3; built where its headers were there.

Loaded by the daemon of a mount alone. It shares the library's state with zipfs._native, which it finds through the
capsule `zipfs._native.api`.
"""

from os import statvfs_result
from typing import Protocol

from zipfs._native import Scan

Version = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int]
"""(dev, ino, mode, nlink, uid, gid, size, blocks, blksize, atime_ns, mtime_ns, ctime_ns, stored_size, is_container)

What the mount shows of one version of a path; stored_size is the size in the source."""
Key = tuple[int, int, int, int, int, int, int, int]
"""(dev, ino, stored_size, mtime_ns, ctime_ns, mode, uid, gid) of the version that is to be opened."""

class Operations(Protocol):
    """What a Session asks, from threads of its own. Paths are relative, b"." for the root.

    An OSError is the answer to the caller; any other exception is EIO and a log line.
    """

    def lookup(self, path: bytes) -> Version: ...
    def list(self, path: bytes) -> Scan:
        """Of what the folder shows."""
    def readlink(self, path: bytes) -> bytes: ...
    def open(self, path: bytes, key: Key) -> int:
        """What zipfs._native.File.handle() gives; ESTALE when the path holds another version."""
    def statfs(self) -> statvfs_result: ...
    def stats(self) -> bytes:
        """What the file zipfs.names.STATS in the mount's root holds when it is opened now."""

class Session:
    """A mount served by threads of its own, which have all signals blocked but SIGUSR1."""

    def __init__(
        self,
        operations: Operations,
        mountpoint: bytes,
        options: bytes,
        num_ready: int,
        max_threads: int,
        resident_size: int = 0,
    ) -> None:
        """options: as after mount's -o; num_ready: threads that wait for requests, of max_threads with those that wait
        for something else; resident_size: bytes of memory for whole files.
        """
    def start(self) -> None:
        """Mounts and serves. OSError when it cannot be; libfuse has then said why on stderr. EOPNOTSUPP: there can be no
        whole files in memory here.
        """
    def fileno(self) -> int:
        """A descriptor that is readable once the session has ended by itself: it was unmounted, or broke."""
    def num_nodes(self) -> int:
        """Inodes that the kernel knows."""
    def passes_through(self) -> bool:
        """Whether the kernel reads by itself what is no container."""
    def residents(self) -> tuple[int, int]:
        """Files that are kept whole in memory, and their bytes."""
    def stop(self) -> bool:
        """Ends the session, whether or not files are open, and unmounts.

        False when a request is stuck: then only the end of the process ends its thread.
        """

LIBFUSE_VERSION: str
