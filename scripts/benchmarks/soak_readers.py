"""What the processes of scripts/soak do: read a mounted file in some way, and compare every byte.

A file is replaced by other versions of itself while it is read. Its first bytes tell which version an open file is of,
and all that is read through it must be of that one.
"""

import contextlib
import errno
import mmap
import os
import random
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

TOLD_BY = 4096
"""So many bytes from the start of a file tell its version."""
BLOCK = 1 << 20
SIZES = (1, 4096, 70_000, BLOCK, 3 * BLOCK)
PAGES = 64
"""Pages that are touched of a mapping."""


class WrongBytes(Exception):
    """What was read is not what was stored."""


class File(NamedTuple):
    """A mounted file, its container, and the plain bytes of all its versions by their first TOLD_BY."""

    path: str
    source: str
    versions: dict[bytes, memoryview]


class Opened:
    """An open file whose version is known."""

    def __init__(self, file: File, flags: int = 0) -> None:
        self.file, self.fd = file, os.open(file.path, os.O_RDONLY | flags)
        self.checked = 0
        self.block = mmap.mmap(-1, SIZES[-1])
        self.plain = memoryview(b"")
        os.preadv(self.fd, [memoryview(self.block)[:TOLD_BY]], 0)
        first = self.block[:TOLD_BY]
        if first not in file.versions:
            raise WrongBytes(f"{file.path}: begins as no version of it does: {first[:16].hex()}")
        self.plain = file.versions[first]

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_) -> None:
        os.close(self.fd)
        self.block.close()

    @property
    def size(self) -> int:
        return len(self.plain)

    def check(self, data, offset: int) -> None:
        wanted = self.plain[offset : offset + len(data)]
        if data != wanted:
            at = next((i for i, (a, b) in enumerate(zip(data, wanted, strict=False)) if a != b), len(wanted))
            raise WrongBytes(f"{self.file.path}: wrong at {offset + at}, read of {len(data)} bytes at {offset}")
        self.checked += len(data)

    def pread(self, size: int, offset: int) -> None:
        """Reads and compares; fewer bytes than asked for are right only at the end."""
        view = memoryview(self.block)[:size]
        with view, view[: os.preadv(self.fd, [view], offset)] as data:
            if len(data) < min(size, self.size - offset):
                raise WrongBytes(f"{self.file.path}: {len(data)} bytes of {size} at {offset}")
            self.check(data, offset)


def read(file: File, rng: random.Random) -> int:
    with Opened(file) as opened:
        for _ in range(4):
            opened.pread(rng.choice(SIZES), rng.randrange(opened.size))
        return opened.checked


def stream(file: File, rng: random.Random) -> int:
    with Opened(file) as opened:
        for offset in range(rng.randrange(4) * BLOCK, opened.size, BLOCK):
            opened.pread(BLOCK, offset)
        return opened.checked


def read_direct(file: File, rng: random.Random) -> int:
    with Opened(file, os.O_DIRECT) as opened:
        for _ in range(8):
            opened.pread(rng.choice((4096, 1 << 17, BLOCK, 3 * BLOCK)), rng.randrange(opened.size >> 12) << 12)
        return opened.checked


def fault(file: File, rng: random.Random) -> int:
    with Opened(file) as opened, mmap.mmap(opened.fd, opened.size, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
        with memoryview(mapped) as pages:
            for _ in range(PAGES):
                offset = rng.randrange(opened.size)
                with pages[offset : offset + 5000] as data:
                    opened.check(data, offset)
        return opened.checked


def fork(file: File, rng: random.Random) -> int:
    """Parent and child read on through the same descriptor."""
    with Opened(file) as opened:
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(BaseException):
                opened.pread(SIZES[-1], rng.randrange(opened.size))
                status = 0
            os._exit(status)
        opened.pread(SIZES[-1], rng.randrange(opened.size))
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            raise WrongBytes(f"{file.path}: a forked child could not read, or not the right bytes")
        return opened.checked


def kill(file: File, rng: random.Random) -> int:
    """A reader is killed while it reads."""
    pid = os.fork()
    if pid == 0:
        while True:
            with contextlib.suppress(Exception):  # it must not go on as its parent
                rng.choice((read_direct, fault, stream))(file, rng)
    time.sleep(rng.random() * 0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 0


def drop(file: File, rng: random.Random) -> int:
    """The pages of the file and of its source go while others read them."""
    for path in (file.path, file.source):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    return 0


WAYS: tuple[Callable[[File, random.Random], int], ...] = (read, stream, read_direct, fault, fork, kill, drop)


def read_on(files: list[File], seed: int, seconds: float, note: Callable[[int, int], None]) -> None:
    """Reads until the time is up, then returns; note(number of the way, bytes checked) after each. A file that is being
    replaced at that very moment may be ESTALE to open.
    """
    rng, deadline = random.Random(seed), time.monotonic() + seconds
    while time.monotonic() < deadline:
        number, checked = rng.randrange(len(WAYS)), 0
        try:
            checked = WAYS[number](rng.choice(files), rng)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        note(number, checked)
