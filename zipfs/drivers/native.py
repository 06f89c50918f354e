"""The driver on libfuse's low-level interface, in C (zipfs/_fuse.pyi): the best there is, where it was built.

Each version of a file is an inode of its own, so that an old one can be read on while a new one is opened. Python is
asked for names, folders and opens; attributes and bytes come from C.
"""

import contextlib
import errno
import importlib
import json
import os
import select
import signal
from collections.abc import Callable, Iterator
from types import ModuleType

from zipfs import _native
from zipfs.errors import MountError
from zipfs.tree import Tree, stale

MAX_THREADS = max(10, 2 * (os.cpu_count() or 1))
"""More than CPUs, since what waits for the disk holds one."""
SPARE_READY = 1
"""Threads that wait for requests beside one per CPU. Without, both of two CPUs' threads were often woken on one, where
Linux leaves what ran less than 0.5 ms ago, and the other CPU idled: O_DIRECT reads took 1.32 times as long (median of 40
pairs, Xeon, Linux 6.18); one more still did no better, buffered reads were the same."""
OPTIONS = ("fsname=zipfs", "subtype=zipfs", "ro", "nosuid", "nodev", "default_permissions")
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Operations:
    """What a session asks of the tree; see zipfs/_fuse.pyi."""

    def __init__(self, tree: Tree, report: Callable[[], bytes]) -> None:
        self._tree = tree
        self._report = report

    def lookup(self, path: bytes) -> tuple[int, ...]:
        """The node as zipfs._fuse takes it."""
        node = self._tree.lookup(path)
        return (*node.shown, node.stat.size, node.is_container)

    def list(self, path: bytes) -> "_native.Scan":
        return self._tree.scan(path)

    def readlink(self, path: bytes) -> bytes:
        return self._tree.readlink(path)

    def open(self, path: bytes, key: tuple[int, ...]) -> int:
        """The kernel has judged by the attributes of one version who may open it: that one is opened, or none."""
        node = self._tree.lookup(path)
        status = node.stat
        if (*status.identity, status.mode, status.uid, status.gid) != key:
            raise stale(path)
        return self._tree.open(node).handle()

    def statfs(self) -> os.statvfs_result:
        return self._tree.statvfs()

    def stats(self) -> bytes:
        return self._report()


def load() -> ModuleType:
    """MountError with the remedy when this build lacks the driver, or this machine its library."""
    try:
        return importlib.import_module("zipfs._fuse")
    except ModuleNotFoundError:
        raise MountError(
            "this build of zipfs has no native driver, as libfuse 3.12 or newer was not there: apt install "
            "libfuse3-dev and install zipfs anew, or use --driver mfusepy"
        ) from None
    except ImportError as error:
        raise MountError(
            f"the native driver cannot be loaded: {error}; install zipfs anew on this machine, or use --driver mfusepy"
        ) from None


def serve(
    tree: Tree,
    report: Callable[[], bytes],
    mountpoint: bytes,
    options: dict[str, bool],
    jobs: int,
    resident_size: int,
    on_ready: Callable[[], None],
) -> None:
    """Mounts, serves and returns once unmounted. report: gives what the file zipfs.names.STATS holds, to which the
    session's own figures are added; `options` are those of mount(8); jobs: threads that are at work at one time, 0: one
    per CPU and SPARE_READY; resident_size: bytes of memory for files that are kept whole. on_ready is called when
    requests are answered.

    For the main thread, which waits for signals while others serve. RuntimeError when libfuse cannot mount; it has
    said why on stderr. MountError when files cannot be kept whole here.
    """
    words = ",".join((*OPTIONS, *options)).encode()
    num_ready = jobs or len(os.sched_getaffinity(0)) + SPARE_READY
    max_threads = max(MAX_THREADS, num_ready)

    def report_all() -> bytes:
        num_files, size = session.residents()
        own = {
            "passthrough": session.passes_through(),
            "resident": {"size_max": resident_size, "files": num_files, "bytes": size},
        }
        return report().rstrip().removesuffix(b"}") + b", " + json.dumps(own).encode().removeprefix(b"{")

    session = load().Session(Operations(tree, report_all), mountpoint, words, num_ready, max_threads, resident_size)
    with noting_signals() as signal_fd:
        try:
            session.start()
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                session.stop()
                raise MountError(
                    "--resident: the kernel reads no files of a mount by itself here, which takes Linux 6.9 or newer and "
                    "root's rights outside of containers; mount without it"
                ) from None
            raise RuntimeError("libfuse cannot mount") from error
        on_ready()
        select.select([signal_fd, session], [], [])
        has_ended = session.stop()
    if not has_ended:
        _native.log("a read is stuck; its thread ends with this process")
        os._exit(1)


@contextlib.contextmanager
def noting_signals() -> Iterator[int]:
    """A descriptor that is readable once a signal came that ends the daemon. Those that are ignored stay so."""
    reading_fd, writing_fd = os.pipe()
    os.set_blocking(writing_fd, False)
    signal.set_wakeup_fd(writing_fd)
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    try:
        yield reading_fd
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reading_fd)
        os.close(writing_fd)
