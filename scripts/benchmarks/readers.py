"""Reading a file end to end as engines do, with its pages dropped from the page cache or not; GB/s of plain bytes."""

import errno
import importlib
import mmap
import os
import time
from collections.abc import Iterable

import numpy as np
import safetensors

READ_BLOCK = 1 << 20
DIRECT_BLOCK = 4 << 20


def drop_pages(path: str) -> None:
    """Drops the file's clean pages from the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def warm_pages(path: str) -> None:
    """Reads the file into the page cache."""
    by_read(path)


def make_block(size: int) -> mmap.mmap:
    """A page-aligned buffer whose pages are there, as O_DIRECT needs."""
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.write(bytes(size))
    return block


def by_blocks(path: str, flags: int, block_size: int) -> int:
    """Bytes read by preadv into one page-aligned buffer."""
    block = make_block(block_size)
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        done = 0
        while got := os.preadv(fd, [block], done):
            done += got
        return done
    finally:
        os.close(fd)


def by_read(path: str) -> int:
    return by_blocks(path, 0, READ_BLOCK)


def by_direct(path: str) -> int:
    return by_blocks(path, os.O_DIRECT, DIRECT_BLOCK)


def by_mmap(path: str) -> int:
    """Touches every page of a shared mapping in order."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
        pages = np.frombuffer(mapped, dtype=np.uint8)
        int(pages[:: mmap.PAGESIZE].sum())
        size = pages.size
        del pages
        return size


def by_safetensors(path: str) -> int:
    """Every tensor, copied into memory of its own by torch."""
    with safetensors.safe_open(path, framework="pt") as file:
        loaded = {name: file.get_tensor(name).clone() for name in file.offset_keys()}
        return sum(values.nbytes for values in loaded.values())


WAYS = {"read": by_read, "mmap": by_mmap, "O_DIRECT": by_direct, "safetensors": by_safetensors}
TRANSPORT_WAYS = ("read", "mmap", "O_DIRECT")
"""Those that end in the kernel."""
LOADING_WAYS = ("read", "mmap", "safetensors")
"""Those of programs that load a model."""


def get_ready(ways: Iterable[str]) -> None:
    """Loads what the ways need, so that the first run does not pay for it."""
    if "safetensors" in ways:
        importlib.import_module("torch")


def can_read(path: str, way: str) -> bool:
    """False where the file system has no O_DIRECT and the way needs it."""
    try:
        os.close(os.open(path, os.O_RDONLY | (os.O_DIRECT if way == "O_DIRECT" else 0)))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def speed(path: str, way: str) -> float:
    """GB/s of reading the whole file; how warm it is, is the caller's affair."""
    start = time.perf_counter()
    size = WAYS[way](path)
    return size / (time.perf_counter() - start) / 1e9


def cold_speed(path: str, way: str) -> float:
    """The same with none of its pages in the page cache, and leaves none there."""
    drop_pages(path)
    try:
        return speed(path, way)
    finally:
        drop_pages(path)
