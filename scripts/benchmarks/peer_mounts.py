"""The peers of `scripts/bench mount`: the same bytes in squashfs, btrfs and ratarmount, as servers.py serves zipfs."""

import contextlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import zstandard

from .servers import Missing, Served, foreground_server, make_folder, require, run, set_readahead, unmount

SQUASHFS, SQUASHFUSE, BTRFS, RATARMOUNT = "squashfs, kernel", "squashfuse_ll", "btrfs zstd:3", "ratarmount"
ZSTD_LEVEL = 3
FRAME = 1 << 20
"""Plain bytes of a frame of the archive for ratarmount, which can seek to frames."""
BTRFS_SPARE = 256 << 20


def require_root() -> None:
    if os.geteuid():
        raise Missing("only root may mount it")


def squashfs_image(work: Path, plain: Path) -> Path:
    """A zstd image of the plain file with blocks of 1 MiB."""
    require("mksquashfs")
    image = work / "image.squashfs"
    if not image.exists():
        options = ["-comp", "zstd", "-Xcompression-level", str(ZSTD_LEVEL), "-b", "1M", "-noappend", "-no-progress"]
        run("mksquashfs", str(plain), str(image), *options, "-quiet")
    return image


@contextlib.contextmanager
def squashfs_kernel(work: Path, plain: Path, readahead: int | None) -> Iterator[Served]:
    require_root()
    image, mountpoint = squashfs_image(work, plain), make_folder(work, "squashfs")
    run("mount", "-t", "squashfs", "-o", "loop,ro", str(image), str(mountpoint))
    try:
        set_readahead(str(mountpoint), readahead)
        yield Served(SQUASHFS, str(mountpoint / plain.name), str(image))
    finally:
        unmount(str(mountpoint))


@contextlib.contextmanager
def squashfuse(work: Path, plain: Path, readahead: int | None) -> Iterator[Served]:
    require("squashfuse_ll")
    image, mountpoint = squashfs_image(work, plain), make_folder(work, "squashfuse")
    command = ["squashfuse_ll", "-f", str(image), str(mountpoint)]
    with foreground_server(command, str(mountpoint), str(mountpoint / plain.name)):
        set_readahead(str(mountpoint), readahead)
        yield Served(SQUASHFUSE, str(mountpoint / plain.name), str(image))


@contextlib.contextmanager
def btrfs(work: Path, plain: Path, readahead: int | None) -> Iterator[Served]:
    """A loop-mounted image that compresses what it is given, also where its heuristic would not. Its stored size is
    what the file system's data takes: btrfs does not say it of a file without root's tools.
    """
    require_root()
    require("mkfs.btrfs")
    image, mountpoint = work / "image.btrfs", make_folder(work, "btrfs")
    with open(image, "wb") as file:
        file.truncate(plain.stat().st_size + BTRFS_SPARE)
    run("mkfs.btrfs", "-q", "-m", "single", str(image))
    run("mount", "-o", f"loop,compress-force=zstd:{ZSTD_LEVEL}", str(image), str(mountpoint))
    try:
        run("cp", "--reflink=never", str(plain), str(mountpoint))
        run("sync", "-f", str(mountpoint))
        set_readahead(str(mountpoint), readahead)
        yield Served(BTRFS, str(mountpoint / plain.name), str(image), stored_size=btrfs_data(mountpoint))
    finally:
        unmount(str(mountpoint))
        image.unlink()


def btrfs_data(mountpoint: Path) -> int:
    """Bytes of data that the file system holds."""
    text = subprocess.run(
        ["btrfs", "filesystem", "df", "-b", str(mountpoint)], capture_output=True, text=True, check=True
    ).stdout
    return next(int(line.rpartition("used=")[2]) for line in text.splitlines() if line.startswith("Data"))


def zstd_archive(work: Path, plain: Path) -> Path:
    """A tar archive in Zstandard frames of 1 MiB, so that it can be read from anywhere."""
    archive = work / "image.tar.zst"
    if not archive.exists():
        tar = work / "image.tar"
        with tarfile.open(tar, "w") as file:
            file.add(plain, plain.name)
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        with open(tar, "rb") as source, open(archive, "wb") as target:
            while frame := source.read(FRAME):
                target.write(compressor.compress(frame))
        tar.unlink()
    return archive


@contextlib.contextmanager
def ratarmount(work: Path, plain: Path, readahead: int | None) -> Iterator[Served]:
    program = Path(sys.executable).parent / "ratarmount"
    if not program.exists():
        raise Missing("no ratarmount (scripts/bench --setup installs it)")
    archive, mountpoint = zstd_archive(work, plain), make_folder(work, "ratarmount")
    command = [str(program), "-f", "--index-file", str(work / "ratarmount.index"), "-P", "0"]
    with foreground_server([*command, str(archive), str(mountpoint)], str(mountpoint), str(mountpoint / plain.name)):
        set_readahead(str(mountpoint), readahead)
        yield Served(RATARMOUNT, str(mountpoint / plain.name), str(archive))


ALL = {SQUASHFS: squashfs_kernel, SQUASHFUSE: squashfuse, BTRFS: btrfs, RATARMOUNT: ratarmount}
