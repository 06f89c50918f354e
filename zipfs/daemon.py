"""The process behind a mount: `python -m zipfs.daemon JSON`, started by zipfs.mount in a fresh interpreter.

JSON holds the fields of Settings. The process opens the source before it mounts over the mountpoint, and never touches
the mountpoint afterwards. It writes "ready" to the descriptor `ready_fd` as soon as requests are answered; until then
it tells what goes wrong on stderr. It ends when it is unmounted, or on SIGTERM, SIGINT or SIGHUP, at which libfuse
unmounts whether or not files are open.
"""

import contextlib
import ctypes
import dataclasses
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from typing import Any

from zipfs import _native
from zipfs.drivers import fusepy, native
from zipfs.errors import MountError
from zipfs.tree import Tree

PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a daemon must know. Paths are absolute; sizes are in bytes, ahead_size of the cache's; `options` are those
    of mount(8); driver None is the best there is; log_fd -1 is syslog. owner_pid: the parent if the mount ends when
    that ends, however that comes, else 0.
    """

    source: str
    mountpoint: str
    cache_size: int
    jobs: int
    ahead_size: int
    drop_source_cache: bool
    idle_s: int
    resident_size: int
    options: dict[str, Any]
    driver: str | None
    foreground: bool
    owner_pid: int
    removes_mountpoint: bool
    ready_fd: int
    log_fd: int

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


class NativeHandler(logging.Handler):
    """Sends what the bindings log to where zipfs logs."""

    def emit(self, record: logging.LogRecord) -> None:
        _native.log(self.format(record))


def main() -> int:
    settings = Settings(**json.loads(sys.argv[1]))
    _native.log_to_fd(settings.log_fd)
    logging.basicConfig(handlers=[NativeHandler()], level=logging.WARNING)
    if settings.owner_pid and not end_with(settings.owner_pid):
        return 1
    is_ready = False

    def on_ready() -> None:
        nonlocal is_ready
        is_ready = True
        report_ready(settings)

    try:
        serve(settings, on_ready)
    except (MountError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except (
        RuntimeError
    ):  # how the bindings tell that libfuse returned anything but 0, which after the start is the signal that ended it
        return 0 if is_ready else 1
    finally:
        if settings.removes_mountpoint:
            with contextlib.suppress(OSError):
                os.rmdir(settings.mountpoint)
    return 0


def end_with(owner_pid: int) -> bool:
    """Has the system end this process in order when its parent ends. False when that has ended already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == owner_pid


def serve(settings: Settings, on_ready) -> None:
    source = os.fsencode(settings.source)
    source_fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir("/")
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    _native.tune_malloc()
    cache = _native.Cache(
        settings.cache_size,
        settings.jobs,
        ahead_size=settings.ahead_size,
        drop_source=settings.drop_source_cache,
    )
    tree, mountpoint = Tree(source_fd, cache, source), os.fsencode(settings.mountpoint)
    head = json.dumps({"source": settings.source}).encode().removesuffix(b"}")

    def report() -> bytes:
        """The cache's, and what is mounted."""
        return head + b", " + cache.report().removeprefix(b"{")

    start_thread(lambda: trim_when_idle(cache, settings.idle_s))
    if settings.driver == "native" or (settings.driver is None and is_native_best()):
        native.serve(tree, report, mountpoint, settings.options, settings.jobs, settings.resident_size, on_ready)
    elif settings.resident_size:
        raise MountError(f"--resident: files are kept whole by the native driver alone, not by {settings.driver}")
    else:
        fusepy.serve(settings.driver, tree, report, mountpoint, settings.options, on_ready)


def start_thread(function) -> None:
    """One that lasts as long as the process and gets no signals: those are for the thread that waits for them."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Thread(target=function, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def trim_when_idle(cache: _native.Cache, idle_s: int) -> None:
    """Gives the cache's memory back whenever nobody has read for that long, and sleeps in between."""
    last_reads, trimmed_at = 0, 0
    while True:
        time.sleep(idle_s)
        reads = cache.stats()["reads"]
        if reads == last_reads and reads != trimmed_at:
            cache.trim()
            trimmed_at = reads
        last_reads = reads


def is_native_best() -> bool:
    """Whether the native driver can be had, and nobody asks for a library that it does not use."""
    if fusepy.LIBRARY_VARIABLE in os.environ:
        return False
    try:
        native.load()
    except MountError as error:
        _native.log(f"{error}")
        return False
    return True


def report_ready(settings: Settings) -> None:
    """Tells the parent; a daemon in the background lets go of its stderr.

    From here on no Ctrl-C of a terminal ends it. Not before: while systemd mounts where autofs waits for the mount,
    only its own process group gets there.
    """
    os.setsid()
    if not settings.foreground:
        null_fd = os.open(os.devnull, os.O_RDWR)
        os.dup2(null_fd, sys.stderr.fileno())
        os.close(null_fd)
    os.write(settings.ready_fd, b"ready")
    os.close(settings.ready_fd)


if __name__ == "__main__":
    sys.exit(main())
