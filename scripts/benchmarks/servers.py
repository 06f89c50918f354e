"""What `scripts/bench mount` reads from: the same bytes served by zipfs and by the null server.

Each server is a context manager that yields a Served and leaves nothing mounted, also after an error; Missing says why
one cannot run here.
"""

import contextlib
import dataclasses
import mmap
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from zipfs.errors import MountError
from zipfs.mount import start, stop
from zipfs.pipeline import CHUNK_LOG2

HERE = Path(__file__).parent
NULL, NULL_BARE = "null server", "null server without source"
EVICTOR = "evictor"
"""A file of constant chunks, larger than the cache, that lies beside what is read."""
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
    pid: int | None = None
    """The daemon of a zipfs mount."""
    stored_size: int | None = None
    """Where the source is larger than what it holds of the file."""


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
    """A new folder, whose name begins so."""
    return Path(tempfile.mkdtemp(dir=work, prefix=f"{name}-"))


@contextlib.contextmanager
def folder_mount(source: Path, work: Path, **options) -> Iterator[tuple[Path, int]]:
    """(mountpoint, pid of the daemon) of a zipfs mount of a folder; options as of zipfs.mount()."""
    try:
        daemon = start(source, mountpoint := make_folder(work, "mnt"), **options)
    except MountError as error:
        raise Missing(str(error)) from None
    try:
        yield mountpoint, daemon.process.pid
    finally:
        stop(daemon)


def empty_cache(mountpoint: str) -> None:
    """Pushes what is held of other files out of a zipfs mount's chunk cache, if its folder has an EVICTOR."""
    fd = os.open(Path(mountpoint) / EVICTOR, os.O_RDONLY | os.O_DIRECT)
    with contextlib.closing(mmap.mmap(-1, mmap.PAGESIZE)) as block:
        for offset in range(0, os.fstat(fd).st_size, 1 << CHUNK_LOG2):
            os.preadv(fd, [block], offset)
    os.close(fd)


@contextlib.contextmanager
def zipfs_mount(work: Path, container: Path, cache_size: int, driver: str | None = None, **options) -> Iterator[Served]:
    """A zipfs mount of the container's folder; driver None is the default one."""
    name = f"zipfs ({driver})" if driver else "zipfs"
    with folder_mount(container.parent, work, cache_size=cache_size, driver=driver, **options) as (mountpoint, pid):
        yield Served(name, str(mountpoint / container.stem), str(container), str(mountpoint), pid)


def null_program(work: Path) -> Path:
    """fuse_null.c, compiled once."""
    require("cc", "pkg-config")
    program = work / "fuse_null"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3 >= 3.12"], capture_output=True, text=True)
    if flags.returncode:
        raise Missing("needs the headers of libfuse3 3.12 or newer")
    if not program.exists():
        run("cc", "-O2", str(HERE / "fuse_null.c"), "-o", str(program), *flags.stdout.split())
    return program


@contextlib.contextmanager
def null_server(
    work: Path, container: Path, plain_size: int, readahead: int | None, bare: bool = False
) -> Iterator[Served]:
    """fuse_null.c over the container: pread of the stored share, unless bare, and one reply copy per request."""
    program, mountpoint = null_program(work), make_folder(work, "null")
    share = 0 if bare else container.stat().st_size / plain_size
    threads = max(2, len(os.sched_getaffinity(0)))
    command = [str(program), str(mountpoint), str(plain_size), str(container), f"{share:.6f}", str(threads)]
    with foreground_server(command, str(mountpoint), str(mountpoint / "file")):
        set_readahead(str(mountpoint), readahead)
        yield Served(NULL_BARE if bare else NULL, str(mountpoint / "file"), str(container), str(mountpoint))
