"""Mountpoints: what is mounted on them, whether one can be used, who holds one, and the kernel's settings of a mount.

Everything here reads /proc and /sys where it can: touching a mount whose daemon hangs would hang as well.
"""

import ctypes
import errno
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from zipfs.errors import MountError
from zipfs.names import show, word

FSTYPE = "fuse.zipfs"
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
DEAD = {errno.ENOTCONN, errno.ECONNABORTED}
"""What a mount without its daemon answers."""


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo."""

    mountpoint: str
    device: str
    """major:minor"""
    fstype: str
    source: str
    options: set[str]
    """Those of the mount and those of the file system."""


def find_mount(mountpoint: str) -> Mount | None:
    """What is mounted there, topmost; None when nothing is."""
    found = None
    for mount in list_mounts():
        if mount.mountpoint == mountpoint:
            found = mount
    return found


def list_mounts() -> list[Mount]:
    """All that this process sees, one that hides another after it."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return [parse_mount(os.fsdecode(line)) for line in lines]


def devices() -> set[int]:
    """st_dev of whatever a mount of ours shows."""
    return {_device(mount) for mount in list_mounts() if mount.fstype == FSTYPE}


def _device(mount: Mount) -> int:
    major, minor = mount.device.split(":")
    return os.makedev(int(major), int(minor))


def refuse_mounted(path: str) -> None:
    """MountError with the remedy when a mount of ours shows `path`, or the folder that it would be in: nothing can be
    changed there.
    """
    try:
        device = os.stat(path).st_dev
    except FileNotFoundError:
        return refuse_mounted(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        if error.errno not in DEAD:
            raise
        raise MountError(f"{show(path)}: a dead mount is here; first: zipfs umount {word(path)}") from None
    for mount in list_mounts():
        if mount.fstype == FSTYPE and _device(mount) == device:
            where = word(mount.mountpoint)
            raise MountError(f"{show(path)}: is shown by a mount, which is read-only; first: zipfs umount {where}")


def find_ours(mnt: str | bytes | os.PathLike) -> Mount:
    """The zipfs mount at mnt, dead or alive. MountError when there is none."""
    mountpoint = os.path.realpath(os.fsdecode(mnt))
    mount = find_mount(mountpoint)
    if mount is None or mount.fstype != FSTYPE:
        raise MountError(f"{show(mountpoint)}: no zipfs mount is here; see: findmnt -t {FSTYPE}")
    return mount


def parse_mount(line: str) -> Mount:
    head, tail = line.split(" - ", 1)
    _, _, device, _, mountpoint, options, *_ = head.split(" ")
    fstype, source, *super_options = tail.split(" ")
    all_options = set(options.split(",")).union(*(part.split(",") for part in super_options))
    return Mount(unescape(mountpoint), device, fstype, unescape(source), all_options)


def unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def is_dead(mountpoint: str) -> bool:
    """Whether a daemon is gone and has left its mount behind."""
    try:
        os.statvfs(mountpoint)  # not stat, which the kernel may answer from memory
    except OSError as error:
        return error.errno in DEAD
    return False


def recover(mountpoint: str) -> None:
    """Takes away zipfs mounts whose daemon is gone. MountError when one that lives, or a dead one of others, is
    there.
    """
    while is_dead(mountpoint):
        mount = find_mount(mountpoint)
        if mount is None or mount.fstype != FSTYPE:
            raise MountError(
                f"{show(mountpoint)}: a dead mount that is not ours; remove it: umount -l {word(mountpoint)}"
            )
        unmount(mountpoint, lazy=True)
    mount = find_mount(mountpoint)
    if mount and mount.fstype == FSTYPE:
        raise MountError(f"{show(mountpoint)}: zipfs is mounted here already; first: zipfs umount {word(mountpoint)}")


def check_usable(source: str, mountpoint: str) -> None:
    """MountError with the remedy when the one cannot be mounted on the other."""
    if not os.path.isdir(source):
        what = "is not a folder" if os.path.lexists(source) else "does not exist"
        raise MountError(f"{show(source)}: the source {what}; name a folder of compressed files")
    if not os.path.lexists(mountpoint):
        raise MountError(f"{show(mountpoint)}: the mountpoint does not exist; first: mkdir -p {word(mountpoint)}")
    if not os.path.isdir(mountpoint):
        raise MountError(f"{show(mountpoint)}: the mountpoint is not a folder; name an empty folder")
    if not os.access(source, os.R_OK | os.X_OK):
        raise MountError(f"{show(source)}: no permission to read the source; run as its owner or as root")
    if os.geteuid() and not os.access(mountpoint, os.W_OK):
        raise MountError(f"{show(mountpoint)}: no permission to write to the mountpoint; use a folder of your own")
    if mountpoint.startswith(source.rstrip("/") + "/"):
        raise MountError(f"{show(mountpoint)}: the mountpoint lies inside the source; use a folder outside it")


def check_fuse() -> None:
    """MountError with the remedy when this machine or container has no FUSE for us."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise MountError(
            "/dev/fuse is missing; modprobe fuse, or start the container with --device /dev/fuse --cap-add SYS_ADMIN"
        ) from None
    except PermissionError:
        raise MountError("/dev/fuse: no permission; sudo chmod 666 /dev/fuse, or mount as root") from None
    except OSError as error:
        raise MountError(
            f"/dev/fuse: {error.strerror}; start the container with --device /dev/fuse --cap-add SYS_ADMIN"
        ) from None
    if os.geteuid() and not find_fusermount():
        raise MountError("fusermount3 is missing, which users need to mount; apt install fuse3, or mount as root")


def check_allow_other(path: str = "/etc/fuse.conf") -> None:
    """MountError when a user asks for allow_other and the machine does not let users do so."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if os.geteuid() and "user_allow_other" not in (line.strip() for line in lines):
        raise MountError(f"allow_other: users may not; add a line user_allow_other to {path}, or mount as root")


def find_fusermount() -> str | None:
    return shutil.which("fusermount3") or shutil.which("fusermount")


def unmount(mountpoint: str, lazy: bool = False) -> None:
    """OSError: EBUSY when it is in use, and not lazy."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mountpoint), UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), mountpoint)
        return
    program = find_fusermount()
    if program is None:
        raise MountError("fusermount3 is missing, which users need to unmount; apt install fuse3")
    command = [program, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}
    )
    if result.returncode:
        code = errno.EBUSY if "busy" in result.stderr.lower() else errno.EPERM
        raise OSError(code, result.stderr.strip() or os.strerror(code), mountpoint)


def find_holders(mountpoint: str) -> list[str]:
    """`name (pid)` of each process, of those that we may look at, with an open file, a mapping or a working folder
    beneath. Not the daemon, whose source may lie there; this process, which may have inherited a file, if alone.
    """
    holders, own = [], []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(target == mountpoint or target.startswith(mountpoint + "/") for target in list_paths(process)):
                name = f"{(process / 'comm').read_text().strip()} ({process.name})"
                if b"\0zipfs.daemon\0" not in (process / "cmdline").read_bytes():
                    (own if process.name == str(os.getpid()) else holders).append(name)
        except OSError:
            continue
    return holders or own


def list_paths(process: Path) -> list[str]:
    links = [process / "cwd", process / "root", process / "exe", *(process / "fd").iterdir()]
    mapped = [
        line.split(maxsplit=5)[-1] for line in os.fsdecode((process / "maps").read_bytes()).splitlines() if "/" in line
    ]
    return mapped + [os.readlink(link) for link in links if link.is_symlink()]


def check_options(mount: Mount | None, wanted: set[str]) -> None:
    """MountError when the mount is not ours or lacks an option that was asked for."""
    if mount is None or mount.fstype != FSTYPE:
        raise MountError("the mount is not in /proc/self/mountinfo")
    missing = wanted - mount.options
    if missing:
        raise MountError(f"{show(mount.mountpoint)}: mounted without {', '.join(sorted(missing))}, and unmounted again")
