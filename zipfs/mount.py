"""Mounting and unmounting: `zipfs mount`, `zipfs umount`, and `with zipfs.mount(...)`.

A mount is served by a process of its own (zipfs.daemon), never by a thread of the caller: a process that maps a file
which it serves itself would wait for itself. What is here prepares the mountpoint, starts that process, waits until
the mount answers, and checks it.
"""

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from zipfs import mountpoint as points
from zipfs.daemon import Settings
from zipfs.errors import MountError
from zipfs.mount_options import ALWAYS_ON, MountOptions, choose
from zipfs.names import STATS, show
from zipfs.tune import limit_paths, raise_readahead, read_limit

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 5
PathLike = str | bytes | os.PathLike


class Daemon(NamedTuple):
    """A mount that answers, and the process behind it. `notes`: lines that the user should see."""

    process: subprocess.Popen
    mount: points.Mount
    chosen: MountOptions
    notes: list[str]


def mount_command(
    src: PathLike,
    mnt: PathLike | None = None,
    *,
    foreground: bool = False,
    verbose: bool = False,
    **options: Any,
) -> int:
    """Shows the plain files of src at mnt, None: at src itself; returns 0 when the mount answers, or, in the
    foreground, the exit code once it has ended.

    options: those of zipfs.mount_options.choose(). verbose: tell on stderr what is in force. MountError with the remedy
    when it cannot be done.
    """
    daemon = start(src, mnt, foreground=foreground, **options)
    for note in daemon.notes:
        print(f"zipfs: {note}", file=sys.stderr)
    if verbose:
        print(f"zipfs: {describe(daemon)}", file=sys.stderr)
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

    options: those of zipfs.mount_options.choose(). At the end the mount goes away even if files are still open.
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
    removes_mountpoint: bool = False,
    **options: Any,
) -> Daemon:
    """Starts a daemon and returns when its mount answers.

    foreground: the daemon logs to stderr and ends with this process. removes_mountpoint: at its end the daemon removes
    the folder that it mounted at. options: those of zipfs.mount_options.choose().

    MountError with the remedy, and nothing left behind, when it cannot.
    """
    chosen = choose(**options)
    source, mountpoint = prepare(src, mnt, chosen.flags)
    with contextlib.ExitStack() as files:
        ready, daemon_end = (files.enter_context(end) for end in open_pipe())
        settings = Settings(
            source=source,
            mountpoint=mountpoint,
            cache_size=chosen.cache_size,
            jobs=chosen.jobs,
            ahead_size=chosen.ahead_size,
            drop_source_cache=chosen.drop_source_cache,
            idle_s=chosen.idle_s,
            resident_size=chosen.resident_size,
            options=chosen.flags,
            driver=chosen.driver,
            foreground=foreground,
            owner_pid=os.getpid() if foreground else 0,
            removes_mountpoint=removes_mountpoint,
            ready_fd=daemon_end.fileno(),
            log_fd=log_fd(files, chosen.log_file, foreground),
        )
        process = spawn(settings)
        daemon_end.close()
        with ending(process, mountpoint):
            await_ready(process, ready.fileno())
            return check(process, mountpoint, chosen)


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


def log_fd(files: contextlib.ExitStack, log_file: PathLike | None, foreground: bool) -> int:
    """Where the daemon logs: a file, which is closed with `files`, else stderr or -1 for syslog."""
    if log_file:
        return files.enter_context(open(log_file, "ab")).fileno()
    return 2 if foreground else -1


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


def check(process: subprocess.Popen, mountpoint: str, chosen: MountOptions) -> Daemon:
    try:
        os.statvfs(mountpoint)  # returns when the daemon has answered; the kernel has then taken over its settings
    except OSError as error:
        raise MountError(
            f"{show(mountpoint)}: the mount does not answer: {error.strerror}; try -f to see why"
        ) from None
    mount = points.find_mount(mountpoint)
    points.check_options(mount, ALWAYS_ON | set(chosen.flags))
    note = raise_readahead(mount, chosen.readahead_kb)
    return Daemon(process, mount, chosen, [note] if note else [])


def describe(daemon: Daemon) -> str:
    """The mount and what is in force there, as the kernel and the daemon tell."""
    mount, chosen = daemon.mount, daemon.chosen
    with open(os.path.join(mount.mountpoint, STATS), "rb") as file:
        facts = json.load(file)
    values = {
        "profile": chosen.profile,
        **{limit: read_limit(path) for limit, path in limit_paths(mount).items()},
        **facts["settings"],
        "resident_size": chosen.resident_size,
        "passthrough": facts.get("passthrough", False),
        "idle_s": chosen.idle_s,
        "options": ",".join(sorted(mount.options)),
    }
    effective = ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
    return f"{show(mount.mountpoint)}: device {mount.device}, pid {daemon.process.pid}, {effective}"


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
