"""Mounting and unmounting: `zipfs mount`, `zipfs umount`, and `with zipfs.mount(...)`.

A mount is served by a process of its own (zipfs.daemon), never by a thread of the caller: a process that maps a file
which it serves itself would wait for itself. What is here prepares the mountpoint, starts that process, waits until
the mount answers, and checks it.
"""

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from zipfs import drivers
from zipfs import mountpoint as points
from zipfs.daemon import Settings
from zipfs.errors import MountError, UsageError
from zipfs.names import show

DEFAULT_CACHE_SIZE = 256 << 20
DEFAULT_AHEAD_SIZE = 0
DEFAULT_READAHEAD_KB = 2048
"""Measured on 2 cores, 1 GiB of BF16, 9 interleaved runs: over 1024, reading is 1.11 times as fast (quartiles 0.97 to
1.51) and mapping 1.07 times (0.94 to 1.18); on busy cores 1.16 to 1.31 and 1.16. 4096 maps slower. A random page fault,
which reads that much, takes 1.1 ms instead of 0.7.
"""
MAX_JOBS = 1024
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 5
ALWAYS_ON = {"ro", "nosuid", "nodev", "default_permissions"}
FLAGS = {"allow_other", "noexec"}
LOG_FD = {False: -1, True: 2}
"""Where a daemon logs unless told otherwise, by whether it is in the foreground: syslog, stderr."""
PathLike = str | bytes | os.PathLike


class Daemon(NamedTuple):
    """A mount that answers, and the process behind it. `notes`: lines that the user should see."""

    process: subprocess.Popen
    mount: points.Mount
    notes: list[str]


def mount_command(
    src: PathLike,
    mnt: PathLike | None = None,
    *,
    foreground: bool = False,
    cache_size: int | None = None,
    jobs: int | None = None,
    ahead_size: int | None = None,
    drop_source_cache: bool = False,
    options: str | Iterable[str] = (),
    driver: str | None = None,
    log_file: PathLike | None = None,
    verbose: bool = False,
) -> int:
    """Shows the plain files of src at mnt, None: at src itself; returns 0 when the mount answers, or, in the
    foreground, the exit code once it has ended.

    cache_size: bytes of decoded chunks to keep; ahead_size: of these, for chunks decoded ahead of sequential readers;
    drop_source_cache: drop containers from the page cache behind sequential readers; jobs: chunks decoded at one time,
    None: one per CPU; options: as after mount's `-o`, of those in parse_options(); driver: one of zipfs.drivers.NAMES,
    None for the best there is.
    MountError with the remedy when it cannot be done.
    """
    daemon = start(
        src,
        mnt,
        foreground=foreground,
        cache_size=cache_size,
        jobs=jobs,
        ahead_size=ahead_size,
        drop_source_cache=drop_source_cache,
        options=options,
        driver=driver,
        log_file=log_file,
    )
    for note in daemon.notes:
        print(f"zipfs: {note}", file=sys.stderr)
    if verbose:
        mount = daemon.mount
        print(f"zipfs: {show(mount.mountpoint)}: device {mount.device}, pid {daemon.process.pid}", file=sys.stderr)
    return wait(daemon.process) if foreground else 0


def umount_command(mnt: PathLike) -> int:
    """Takes a mount away, dead ones too. MountError when nothing of ours is there, or when it is in use: by whom."""
    mountpoint = points.find_ours(mnt).mountpoint
    try:
        points.unmount(mountpoint)
    except OSError as error:
        if error.errno == errno.EBUSY:
            holders = ", ".join(points.find_holders(mountpoint)) or "a process of another user"
            raise MountError(f"{show(mountpoint)}: in use by {holders}; end that and try again") from None
        raise MountError(
            f"{show(mountpoint)}: cannot be unmounted: {error.strerror}; run as who mounted it, or as root"
        ) from None
    return 0


@contextlib.contextmanager
def mount(src: PathLike, mnt: PathLike | None = None, **options: Any) -> Iterator[Path]:
    """Shows the plain files of src at mnt (None: at src itself) for the length of a `with` block, whose target is the
    mountpoint.

    Options: cache_size, jobs, ahead_size, drop_source_cache, options, driver, log_file of mount_command(). At the end
    the mount goes away even if files are still open.
    """
    daemon = start(src, mnt, **options)
    try:
        yield Path(daemon.mount.mountpoint)
    finally:
        stop(daemon)


def start(
    src: PathLike,
    mnt: PathLike | None = None,
    *,
    foreground: bool = False,
    cache_size: int | None = None,
    jobs: int | None = None,
    ahead_size: int | None = None,
    drop_source_cache: bool = False,
    options: str | Iterable[str] = (),
    driver: str | None = None,
    log_file: PathLike | None = None,
    removes_mountpoint: bool = False,
) -> Daemon:
    """Starts a daemon and returns when its mount answers; for the parameters see mount_command().

    foreground: the daemon logs to stderr and ends with this process. removes_mountpoint: at its end the daemon removes
    the folder that it mounted at.

    MountError with the remedy, and nothing left behind, when it cannot.
    """
    flags, readahead_kb = parse_options(options)
    if driver not in (None, *drivers.NAMES):
        raise UsageError(f"driver {driver!r}: unknown; known are {', '.join(drivers.NAMES)}")
    if jobs is not None and not 1 <= jobs <= MAX_JOBS:
        raise UsageError(f"jobs {jobs}: must be 1 to {MAX_JOBS}")
    if cache_size is not None and not 0 <= cache_size < 1 << 63:
        raise UsageError(f"cache size {cache_size}: must be 0 bytes or more, and below 2**63")
    if ahead_size is not None and not 0 <= ahead_size < 1 << 63:
        raise UsageError(f"ahead size {ahead_size}: must be 0 bytes or more, and below 2**63")
    source, mountpoint = prepare(src, mnt, flags)
    with contextlib.ExitStack() as files:
        ready, daemon_end = (files.enter_context(end) for end in open_pipe())
        settings = Settings(
            source=source,
            mountpoint=mountpoint,
            cache_size=DEFAULT_CACHE_SIZE if cache_size is None else cache_size,
            jobs=jobs or 0,
            ahead_size=DEFAULT_AHEAD_SIZE if ahead_size is None else ahead_size,
            drop_source_cache=drop_source_cache,
            options=flags,
            driver=driver,
            foreground=foreground,
            owner_pid=os.getpid() if foreground else 0,
            removes_mountpoint=removes_mountpoint,
            ready_fd=daemon_end.fileno(),
            log_fd=files.enter_context(open(log_file, "ab")).fileno() if log_file else LOG_FD[foreground],
        )
        process = spawn(settings)
        daemon_end.close()
        with ending(process, mountpoint):
            await_ready(process, ready.fileno())
            return check(process, mountpoint, ALWAYS_ON | set(flags), readahead_kb)


def prepare(src: PathLike, mnt: PathLike | None, flags: dict[str, bool]) -> tuple[str, str]:
    """(source, mountpoint), absolute, after dead mounts were taken away. MountError when they cannot be used."""
    mountpoint = os.path.realpath(os.fsdecode(src if mnt is None else mnt))
    points.recover(mountpoint)
    source = os.path.realpath(os.fsdecode(src))
    points.check_usable(source, mountpoint)
    points.check_fuse()
    if "allow_other" in flags:
        points.check_allow_other()
    return source, mountpoint


def open_pipe() -> tuple[BinaryIO, BinaryIO]:
    reading_fd, writing_fd = os.pipe()
    return open(reading_fd, "rb", buffering=0), open(writing_fd, "wb", buffering=0)


def parse_options(options: str | Iterable[str]) -> tuple[dict[str, bool], int]:
    """(flags for the driver, readahead in KiB) from `allow_other,readahead_kb=4096`. UsageError names what is not
    known.

    Known are allow_other, noexec, readahead_kb=N, and what always holds: ro, nosuid, nodev, default_permissions.
    """
    flags: dict[str, bool] = {}
    readahead_kb = DEFAULT_READAHEAD_KB
    words = options.split(",") if isinstance(options, str) else [word for part in options for word in part.split(",")]
    for word in filter(None, words):
        name, _, value = word.partition("=")
        if name == "readahead_kb" and value.isascii() and value.isdigit():
            readahead_kb = int(value)
        elif word in FLAGS:
            flags[word] = True
        elif word not in ALWAYS_ON:
            known = ", ".join(sorted(FLAGS | ALWAYS_ON))
            raise UsageError(f"-o {word}: unknown mount option; known are {known}, readahead_kb=N")
    return flags, readahead_kb


def spawn(settings: Settings) -> subprocess.Popen:
    # -P: a daemon of root must not import what lies in the working folder.
    command = [sys.executable, "-P", "-m", "zipfs.daemon", settings.to_json()]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if settings.foreground else subprocess.PIPE,
        pass_fds=[fd for fd in (settings.ready_fd, settings.log_fd) if fd >= 0],
        env=environment(),
        start_new_session=True,  # no Ctrl-C of a terminal ends it; wait() passes signals on
    )


def environment() -> dict[str, str]:
    """One in which a new interpreter finds this very package, installed or not."""
    home = str(Path(__file__).resolve().parent.parent)
    if home in sysconfig.get_paths().values():
        return dict(os.environ)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


@contextlib.contextmanager
def ending(process: subprocess.Popen, mountpoint: str) -> Iterator[None]:
    """Ends the process and what it mounted if the block fails."""
    try:
        yield
    except BaseException:
        process.kill()
        process.wait()
        if points.is_dead(mountpoint):
            points.unmount(mountpoint, lazy=True)
        raise


def await_ready(process: subprocess.Popen, ready_fd: int) -> None:
    readable, _, _ = select.select([ready_fd], [], [], START_TIMEOUT_S)
    if not readable:
        raise MountError(f"the mount did not answer within {START_TIMEOUT_S} s; try -f to see why")
    is_ready = os.read(ready_fd, 16)
    with process.stderr or contextlib.nullcontext() as stderr:
        if is_ready:
            return
        process.wait()
        lines = stderr.read().decode(errors="replace").strip().splitlines() if stderr else []
    raise MountError(explain(lines[-1] if lines else f"the daemon ended with status {process.returncode}; see above"))


def explain(line: str) -> str:
    """A line of libfuse with the remedy."""
    if "not permitted" in line or "Permission denied" in line:
        return f"{line}; mount as root, in a container started with --cap-add SYS_ADMIN --device /dev/fuse"
    return line


def check(process: subprocess.Popen, mountpoint: str, wanted: set[str], readahead_kb: int) -> Daemon:
    try:
        os.statvfs(mountpoint)  # returns when the daemon has answered; the kernel has then taken over its settings
    except OSError as error:
        raise MountError(
            f"{show(mountpoint)}: the mount does not answer: {error.strerror}; try -f to see why"
        ) from None
    mount = points.find_mount(mountpoint)
    points.check_options(mount, wanted)
    note = points.raise_readahead(mount, readahead_kb)
    return Daemon(process, mount, [note] if note else [])


def wait(process: subprocess.Popen) -> int:
    """Passes signals on to the daemon until it has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: process.send_signal(received))
    return 1 if process.wait() else 0


def stop(daemon: Daemon) -> None:
    """Unmounts and waits for the daemon's end: at once when nothing is in use, else against the will of who uses it."""
    mountpoint = daemon.mount.mountpoint
    present = points.find_mount(mountpoint)
    try:
        if present and present.device == daemon.mount.device:
            points.unmount(mountpoint)
    except OSError:
        daemon.process.terminate()
    try:
        daemon.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        daemon.process.kill()
        daemon.process.wait()
        if points.is_dead(mountpoint):
            points.unmount(mountpoint, lazy=True)
