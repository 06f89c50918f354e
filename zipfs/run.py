"""A mount for the length of one command: `zipfs run`.

The command's end is the mount's end. Should this process be killed, its daemon unmounts and removes the mountpoint; the
command is left to itself then.
"""

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from zipfs.errors import CommandError
from zipfs.mount import PathLike, start, stop
from zipfs.names import show

MOUNT_VARIABLE = "ZIPFS_MOUNT"
PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
LOOK_EVERY_S = 0.2
"""Whether the command has ended: another thread of the caller's, which does not block SIGCHLD, may get it instead."""
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def run(src: PathLike, command: Sequence[str], **options: Any) -> int:
    """Runs the command while the plain files of src are mounted at a folder of their own, whose path it finds in
    ZIPFS_MOUNT in its environment.

    Returns its exit code, 128 + n when signal n ended it. options: those of zipfs.mount(). For the main thread: signals
    that other processes send to this one are passed on to the command, which so gets those twice that go to its process
    group as a whole. CommandError when there is no such command. MountError when
    there can be no mount, and the command does not run.
    """
    if shutil.which(command[0]) is None:
        raise CommandError(f"{show(command[0])}: no such command, or it may not be executed")
    mountpoint = os.path.join(tempfile.gettempdir(), f"zipfs-run-{secrets.token_hex(8)}")
    try:  # a signal may end this anywhere: mkdtemp() could have made a folder and not told its name yet
        os.mkdir(mountpoint, 0o700)
        daemon = start(src, mountpoint, foreground=True, removes_mountpoint=True, **options)
        with blocked({*PASSED_ON, signal.SIGCHLD}) as mask:
            try:
                return run_command(command, os.environ | {MOUNT_VARIABLE: mountpoint}, mask)
            finally:
                stop(daemon)
    finally:
        with contextlib.suppress(OSError):  # the daemon has done so, or will at the end of this process
            os.rmdir(mountpoint)


@contextlib.contextmanager
def blocked(signals: Iterable[int]) -> Iterator[set[int]]:
    """Has signals wait for sigwaitinfo() or the end of the block. The target: those that were blocked before."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def run_command(command: Sequence[str], environment: dict[str, str], mask: set[int]) -> int:
    """mask: the signals that the command has blocked. SIGCHLD and PASSED_ON must be blocked here."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, children leave no status
    pid = os.posix_spawnp(command[0], command, environment, setsigmask=mask, setsigdef=IGNORED_BY_PYTHON)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code
        received = signal.sigtimedwait({*PASSED_ON, signal.SIGCHLD}, LOOK_EVERY_S)
        # From a process, not from a terminal, which tells the command too.
        if received and received.si_signo in PASSED_ON and received.si_code <= 0:
            os.kill(pid, received.si_signo)
