"""The kernel's limits of a mount, which only root may raise: set when mounting where that is allowed, else by
`zipfs tune`.

They are reached through /sys, without touching the mount: root may not look into mounts of users.
"""

import os
from pathlib import Path
from typing import NamedTuple

from zipfs import mountpoint as points
from zipfs.drivers.fusepy import MAX_BACKGROUND
from zipfs.errors import MountError
from zipfs.mount_options import choose
from zipfs.names import word

BDI = Path("/sys/class/bdi")
CONNECTIONS = Path("/sys/fs/fuse/connections")
"""Where the file system fusectl is mounted, if it is."""
READAHEAD = "read_ahead_kb"


class Limit(NamedTuple):
    """A limit, where it is set, and what it was and is. None: this machine does not show it."""

    name: str
    path: Path
    before: int | None
    now: int | None


def limit_paths(mount: points.Mount) -> dict[str, Path]:
    """Where the limits are: how far the kernel reads ahead; requests that it sends without a reader who waits, and how
    many of those make it hold back.
    """
    connection = CONNECTIONS / mount.device.partition(":")[2]
    return {
        READAHEAD: BDI / mount.device / READAHEAD,
        "max_background": connection / "max_background",
        "congestion_threshold": connection / "congestion_threshold",
    }


def read_limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except OSError:
        return None


def raise_readahead(mount: points.Mount, readahead_kb: int) -> str | None:
    """Lets the kernel read that far ahead. Returns what to tell the user when that is left to root."""
    path = limit_paths(mount)[READAHEAD]
    present = read_limit(path)
    if present == readahead_kb:
        return None
    try:
        path.write_text(str(readahead_kb))
    except OSError:
        return (
            f"the kernel reads {present} KiB ahead, not {readahead_kb}; for faster reads, as root: "
            f"echo {readahead_kb} > {path}, or: zipfs tune -o readahead_kb={readahead_kb} {word(mount.mountpoint)}"
        )
    return None


def tune(mnt: str | bytes | os.PathLike, **options) -> list[Limit]:
    """Sets the limits of the mount at mnt. options: those of zipfs.mount_options.choose(), of which the profile and
    readahead_kb matter here.

    MountError with the remedy when mnt is no zipfs mount, or the readahead may not be set. Limits that this machine
    does not show are left as they are.
    """
    mount = points.find_ours(mnt)
    wanted = {
        READAHEAD: choose(**options).readahead_kb,
        "max_background": MAX_BACKGROUND,
        "congestion_threshold": MAX_BACKGROUND * 3 // 4,
    }
    limits = []
    for name, path in limit_paths(mount).items():
        before = read_limit(path)
        try:
            if before is not None or name == READAHEAD:
                path.write_text(str(wanted[name]))
        except OSError as error:
            raise MountError(
                f"{path}: {error.strerror}; as root, outside of containers: echo {wanted[name]} > {path}"
            ) from None
        limits.append(Limit(name, path, before, read_limit(path)))
    return limits
