"""What `scripts/bench mount` reads from: the same bytes served by zipfs, the null server and squashfs.

Each server is a context manager that yields a Served and leaves nothing mounted, also after an error; Missing says why
one cannot run here.
"""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import zipfs

HERE = Path(__file__).parent
START_SECONDS = 30
STOP_SECONDS = 10


class Missing(Exception):
    """This server cannot run here; the argument says why."""


@dataclasses.dataclass(frozen=True)
class Served:
    name: str
    path: str
    """The file to read."""
    source: str | None = None
    """The file that holds the stored bytes."""
    mountpoint: str | None = None


def require(*programs: str) -> None:
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        raise Missing(f"no {', '.join(absent)} (scripts/bench --setup installs it)")


def run(*command: str) -> None:
    """Missing with the program's own words when it fails."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise Missing(f"{Path(command[0]).name}: {(result.stderr or result.stdout).strip()[-300:]}")


def readahead_setting(path: str) -> Path:
    device = os.stat(path).st_dev
    return Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")


def readahead_kb(path: str) -> int | None:
    try:
        return int(readahead_setting(path).read_text())
    except OSError:
        return None


def set_readahead(path: str, size_kb: int | None) -> None:
    """Gives a mount the window that zipfs got; what the kernel does not let us change shows in the report."""
    with contextlib.suppress(OSError):
        readahead_setting(path).write_text(str(size_kb))


def wait_for(path: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not os.path.exists(path):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            words = process.stderr.read().decode(errors="replace").strip()[-300:]
            raise Missing(f"{Path(process.args[0]).name} did not mount: {words}")
        time.sleep(0.02)


def unmount(mountpoint: str) -> None:
    command = ["umount", mountpoint] if os.geteuid() == 0 else ["fusermount3", "-u", mountpoint]
    deadline = time.monotonic() + STOP_SECONDS
    while os.path.ismount(mountpoint):
        if subprocess.run(command, capture_output=True).returncode and time.monotonic() > deadline:
            raise SystemExit(
                f"scripts/bench: {mountpoint} cannot be unmounted; find what holds it: fuser -m {mountpoint}"
            )
        time.sleep(0.02)


@contextlib.contextmanager
def foreground_server(command: list[str], mountpoint: str, path: str) -> Iterator[None]:
    """A FUSE server that stays in the foreground until it is unmounted."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_for(path, process)
        yield
    finally:
        unmount(mountpoint)
        process.terminate()
        process.communicate(timeout=STOP_SECONDS)


def make_folder(work: Path, name: str) -> Path:
    folder = work / name
    folder.mkdir()
    return folder


@contextlib.contextmanager
def zipfs_mount(work: Path, container: Path, cache_size: int, driver: str | None = None) -> Iterator[Served]:
    """A zipfs mount of the container's folder; driver None is the default one."""
    name = f"zipfs ({driver})" if driver else "zipfs"
    mountpoint = make_folder(work, name)
    try:
        with zipfs.mount(container.parent, mountpoint, cache_size=cache_size, driver=driver):
            yield Served(name, str(mountpoint / container.stem), str(container), str(mountpoint))
    except zipfs.MountError as error:
        raise Missing(str(error)) from None


@contextlib.contextmanager
def folder_mount(source: Path, mountpoint: Path, driver: str | None = None) -> Iterator[Path]:
    """A zipfs mount of a folder; the mountpoint is made."""
    mountpoint.mkdir()
    try:
        with zipfs.mount(source, mountpoint, driver=driver):
            yield mountpoint
    except zipfs.MountError as error:
        raise Missing(str(error)) from None


@contextlib.contextmanager
def null_server(work: Path, container: Path, plain_size: int, readahead: int | None) -> Iterator[Served]:
    """fuse_null.c over the container: pread of the stored share and one reply copy per request."""
    require("cc", "pkg-config")
    program, mountpoint = work / "fuse_null", make_folder(work, "null")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3 >= 3.12"], capture_output=True, text=True)
    if flags.returncode:
        raise Missing("needs the headers of libfuse3 3.12 or newer")
    run("cc", "-O2", str(HERE / "fuse_null.c"), "-o", str(program), *flags.stdout.split())
    share = container.stat().st_size / plain_size
    threads = max(2, len(os.sched_getaffinity(0)))
    command = [str(program), str(mountpoint), str(plain_size), str(container), f"{share:.6f}", str(threads)]
    with foreground_server(command, str(mountpoint), str(mountpoint / "file")):
        set_readahead(str(mountpoint), readahead)
        yield Served("null server", str(mountpoint / "file"), str(container), str(mountpoint))


def squashfs_image(work: Path, plain: Path) -> Path:
    """A zstd image of the plain file's folder with blocks of 1 MiB."""
    require("mksquashfs")
    image = work / "image.squashfs"
    if not image.exists():
        options = ["-comp", "zstd", "-Xcompression-level", "3", "-b", "1M", "-noappend", "-no-progress", "-quiet"]
        run("mksquashfs", str(plain.parent), str(image), *options)
    return image


@contextlib.contextmanager
def squashfs_kernel(work: Path, plain: Path, readahead: int | None) -> Iterator[Served]:
    if os.geteuid():
        raise Missing("only root may mount it")
    require("mount")
    image, mountpoint = squashfs_image(work, plain), make_folder(work, "squashfs")
    run("mount", "-t", "squashfs", "-o", "loop,ro", str(image), str(mountpoint))
    try:
        set_readahead(str(mountpoint), readahead)
        yield Served("squashfs, kernel", str(mountpoint / plain.name), str(image), str(mountpoint))
    finally:
        unmount(str(mountpoint))


@contextlib.contextmanager
def squashfuse(work: Path, plain: Path, readahead: int | None) -> Iterator[Served]:
    require("squashfuse_ll")
    image, mountpoint = squashfs_image(work, plain), make_folder(work, "squashfuse")
    command = ["squashfuse_ll", "-f", str(image), str(mountpoint)]
    with foreground_server(command, str(mountpoint), str(mountpoint / plain.name)):
        set_readahead(str(mountpoint), readahead)
        yield Served("squashfuse_ll", str(mountpoint / plain.name), str(image), str(mountpoint))
