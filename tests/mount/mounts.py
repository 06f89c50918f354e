"""Mounts under test, and what goes into them."""

import contextlib
import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import zipfs
from zipfs import mountpoint as points
from zipfs import names
from zipfs.drivers import fusepy, native
from zipfs.errors import MountError
from zipfs.mount import Daemon, start, stop

DRIVERS = {"native": 3, "mfusepy": 3, "fusepy": 2}
"""Drivers that the tests run on, and the libfuse that each is there for."""
BINDINGS = ("mfusepy", "fusepy")
"""Those whose kernel inodes stand for paths, not for versions."""
VISIBLE_WITHIN_S = 1.0
IS_ROOT = os.geteuid() == 0
ALLOW_OTHER = ["allow_other"] if IS_ROOT else []
"""Options; users have it only where the machine's administrator lets them."""


def why_not(driver: str) -> str | None:
    """Why this machine cannot run the driver; None when it can."""
    if not os.path.exists("/dev/fuse"):
        return "this machine has no /dev/fuse"
    if driver == "native":
        try:
            native.load()
        except MountError as error:
            return str(error)
        return None
    if importlib.util.find_spec({"fusepy": "fuse"}.get(driver, driver)) is None:
        return f"{driver} is not installed"
    if fusepy.find_library((DRIVERS[driver],))[0] is None:
        return f"this machine has no libfuse {DRIVERS[driver]}"
    return None


class Mounted:
    """A mount under test: `source` is what is mounted, `path` where, `driver` how."""

    def __init__(self, source: Path, path: Path, driver: str, log_path: Path, daemon: Daemon):
        self.source, self.path, self.driver, self.log_path, self.daemon = source, path, driver, log_path, daemon

    @property
    def pid(self) -> int:
        return self.daemon.process.pid

    def report(self) -> dict[str, Any]:
        return json.loads((self.path / names.STATS).read_bytes())

    def stats(self) -> dict[str, int]:
        return self.report()["total"]

    def log_lines(self, *words: str) -> list[str]:
        """Lines of the daemon's log that hold every word."""
        return [line for line in self.log_path.read_text().splitlines() if all(word in line for word in words)]


@contextlib.contextmanager
def mounting(driver: str, home: Path, source: Path, **options) -> Iterator[Mounted]:
    """A mount of source in the folder home, gone at the end whatever happens."""
    path, log_path = home / "mnt", home / "log"
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    daemon = start(source, path, driver=driver, log_file=log_path, **options)
    try:
        yield Mounted(source, path, driver, log_path, daemon)
    finally:
        stop(daemon)
        assert points.find_mount(str(path)) is None
        assert daemon.process.poll() is not None


def bf16_bytes(seed: int, size: int) -> bytes:
    """Bytes of BF16 weights, which compress by a third."""
    values = np.random.default_rng(seed).normal(0, 0.02, (size + 1) // 2).astype(np.float32)
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()[:size]


def put(source: Path, name: str, plain: bytes, scratch: Path | None = None) -> Path:
    """Puts a container of `plain` into source in one step, replacing an older version. Returns its path."""
    scratch = scratch or source.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    (scratch / "plain").write_bytes(plain)
    zipfs.compress(scratch / "plain", scratch / "plain.zipfs", force=True)
    target = source / f"{name}.zipfs"
    os.replace(scratch / "plain.zipfs", target)
    return target


def eventually(condition: Callable[[], bool], timeout_s: float = VISIBLE_WITHIN_S + 0.5) -> bool:
    """Whether condition() holds within the time that a mount may take to show a change."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def drop_pages(path: Path) -> None:
    """Drops what the kernel keeps of a file, so that reads reach the daemon."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
