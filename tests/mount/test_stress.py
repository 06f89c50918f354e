"""Everything at once, on a cache smaller than what is read: no hang, no wrong byte, nothing left behind."""

import errno
import mmap
import multiprocessing
import os
import random
import signal
import time

import pytest
from mounts import bf16_bytes, put

NUM_FILES, NUM_PROCESSES, SECONDS = 3, 12, 10
SIZES = (3_000_000, 2_999_000)
"""Of the two versions of each file."""
CACHE_SIZE = 2 << 20
SEED = 23


def pread(fd: int, rng: random.Random) -> tuple[int, bytes]:
    offset = rng.randrange(SIZES[0])
    return offset, os.pread(fd, rng.choice([1, 4096, 300_000]), offset)


def map_pages(fd: int, rng: random.Random) -> tuple[int, bytes]:
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
        offset = rng.randrange(len(mapped))
        return offset, mapped[offset : offset + 9000]


def fork(fd: int, rng: random.Random) -> tuple[int, bytes]:
    """A child reads and may be killed while it does."""
    pid = os.fork()
    if pid == 0:
        os.pread(fd, SIZES[0], 0)
        os._exit(0)
    if rng.random() < 0.5:
        time.sleep(rng.random() * 0.002)
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return pread(fd, rng)


def read_direct(fd: int, rng: random.Random) -> tuple[int, bytes]:
    offset = rng.randrange(SIZES[1] // 4096) * 4096
    with mmap.mmap(-1, 1 << 20) as buffer:
        return offset, buffer[: os.preadv(fd, [buffer], offset)]


def drop(fd: int, rng: random.Random) -> tuple[int, bytes]:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return pread(fd, rng)


def read_on(folder: str, versions: list[tuple[bytes, bytes]], seed: int, deadline: float) -> None:
    """Reads in every way until the deadline. What is read is of one version, or the file is being replaced."""
    rng = random.Random(seed)
    while time.monotonic() < deadline:
        number, read = rng.randrange(NUM_FILES), rng.choice([pread, map_pages, fork, read_direct, drop])
        try:
            fd = os.open(f"{folder}/file{number}", os.O_RDONLY | (os.O_DIRECT if read is read_direct else 0))
            try:
                offset, data = read(fd, rng)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in (errno.ESTALE, errno.ENOENT):
                raise
        else:
            wanted = [version[offset : offset + len(data)] for version in versions[number]]
            assert data in wanted, (seed, number, read.__name__, offset, len(data))


@pytest.mark.slow
def test_everything_at_once(mounted, source, tmp_path):
    print(f"seed {SEED}")
    versions = [tuple(bf16_bytes(SEED + 2 * i + v, SIZES[v]) for v in range(2)) for i in range(NUM_FILES)]
    containers = {}
    for number, plains in enumerate(versions):
        for version, plain in enumerate(plains):
            containers[number, version] = put(source, f"file{number}", plain).read_bytes()
    mount = mounted(source, cache_size=CACHE_SIZE)
    deadline = time.monotonic() + SECONDS
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=read_on, args=(str(mount.path), versions, SEED + i, deadline))
        for i in range(NUM_PROCESSES)
    ]
    for process in processes:
        process.start()
    rng = random.Random(SEED)
    while time.monotonic() < deadline:
        number = rng.randrange(NUM_FILES)
        (tmp_path / "next").write_bytes(containers[number, rng.randrange(2)])
        os.replace(tmp_path / "next", source / f"file{number}.zipfs")
        time.sleep(0.05)
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * NUM_PROCESSES
    assert mount.stats()["errors"] == 0
    assert mount.stats()["cache_bytes"] <= CACHE_SIZE
