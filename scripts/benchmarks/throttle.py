"""A disk of a given speed: an ext4 image on a loop device, whose reads the kernel holds back for a group of processes.

The throttle is that of cgroup v1 (blkio.throttle.read_bps_device): a group counts what its processes read from the
device, whoever else uses the disk beneath. The image lies in memory, so that the throttle alone limits.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .readers import make_block
from .servers import Missing, make_folder, require, run, unmount
from .sizes import memory_folder

RULE = "blkio.throttle.read_bps_device"
IDLE_SIZE = 16 << 20
SETTLE_S = 0.2
"""After a pause the kernel lets more pass than the limit, for a tenth of a second."""
READAHEAD_KB = 8192
"""Of the throttled disk; loop devices begin with 128, which no disk of a machine that loads models has."""


def find_hierarchy(work: Path) -> Path:
    """Where cgroup v1's blkio is mounted; mounted for us alone where it is not."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, tail = line.split(" - ", 1)
        if tail.split()[0] == "cgroup" and "blkio" in tail.split()[2].split(","):
            return Path(head.split()[4])
    folder = make_folder(work, "blkio")
    run("mount", "-t", "cgroup", "-o", "blkio", "none", str(folder))
    return folder


class Disk:
    """A mounted image. `folder` is its root."""

    def __init__(self, folder: Path, group: Path) -> None:
        self.folder, self._rule = folder, group / RULE
        number = os.stat(folder).st_dev
        self._device = f"{os.major(number)}:{os.minor(number)}"
        self._idle = folder / "idle"
        self._idle.write_bytes(bytes(IDLE_SIZE))

    def limit(self, speed: float) -> None:
        """Sets the speed for the processes of the group: GB/s; 0: any."""
        self._rule.write_text(f"{self._device} {int(speed * 1e9)}")

    def settle(self) -> None:
        """Reads until the limit holds; what follows must follow at once."""
        block, fd = make_block(IDLE_SIZE // 16), os.open(self._idle, os.O_RDONLY | os.O_DIRECT)
        try:
            end, number = time.monotonic() + SETTLE_S, 0
            while time.monotonic() < end:
                number += 1
                os.preadv(fd, [block], number % 16 * len(block))
        finally:
            os.close(fd)


@contextlib.contextmanager
def disk(work: Path, size: int) -> Iterator[Disk]:
    """An empty disk that holds `size` bytes; this process and those that it starts meanwhile are in its group."""
    if os.geteuid():
        raise Missing("only root may throttle a disk")
    require("mkfs.ext4", "mount")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(mounted_image(work, size))
        group = stack.enter_context(joined_group(find_hierarchy(work)))
        yield Disk(folder, group)


@contextlib.contextmanager
def mounted_image(work: Path, size: int) -> Iterator[Path]:
    folder = make_folder(work, "disk")
    with tempfile.NamedTemporaryFile(dir=memory_folder(), prefix="zipfs-bench-", suffix=".ext4") as image:
        image.truncate(size + size // 16 + (128 << 20))
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", image.name)
        run("mount", "-o", "loop,noatime", image.name, str(folder))
        try:
            number = os.stat(folder).st_dev
            queue = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/queue")
            (queue / "read_ahead_kb").write_text(str(READAHEAD_KB))
            yield folder
        finally:
            unmount(str(folder))


@contextlib.contextmanager
def joined_group(hierarchy: Path) -> Iterator[Path]:
    """A group with this process in it, which goes back to where it was; what it started must have ended by then."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    home = next(line.split(":", 2)[2] for line in lines if "blkio" in line.split(":", 2)[1].split(","))
    group = hierarchy / f"zipfs-bench-{os.getpid()}"
    group.mkdir()
    if not (group / RULE).exists():
        group.rmdir()
        raise Missing("this kernel has no blkio throttle (CONFIG_BLK_DEV_THROTTLING)")
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield group
    finally:
        (hierarchy / home.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
        time.sleep(0.1)  # a daemon that has ended leaves the group a moment later
        group.rmdir()
