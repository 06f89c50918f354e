"""posix_fadvise, madvise and readahead on files of a mount: they do what they do on a plain file."""

import ctypes
import mmap
import os

import pytest
from mounts import bf16_bytes, drop_pages, eventually, put
from pages import PAGE_SIZE, resident

from zipfs.warm import warm

SIZE = 4 << 20
WINDOW = 128 << 10
"""The least that a kernel reads ahead when it is asked to."""
MADV_POPULATE_READ = 22
_libc = ctypes.CDLL(None, use_errno=True)
_libc.readahead.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_size_t]


@pytest.fixture
def weights(mounted, source):
    """A file with nothing of it in the page cache."""
    put(source, "weights", bf16_bytes(1, SIZE))
    path = mounted(source).path / "weights"
    drop_pages(path)
    assert not any(resident(path))
    return path


def holds(path, offset: int, size: int) -> bool:
    first = offset // PAGE_SIZE
    return all(resident(path)[first : first + size // PAGE_SIZE])


def advise(path, function) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        function(fd)
    finally:
        os.close(fd)


OFFSET = 1 << 20


@pytest.mark.parametrize(
    "function",
    [
        lambda fd: os.posix_fadvise(fd, OFFSET, WINDOW, os.POSIX_FADV_WILLNEED),
        lambda fd: _libc.readahead(fd, OFFSET, WINDOW),
    ],
    ids=["WILLNEED", "readahead"],
)
def test_what_is_wanted_is_brought(weights, function):
    advise(weights, function)
    assert eventually(lambda: holds(weights, OFFSET, WINDOW))
    assert not holds(weights, 3 << 20, PAGE_SIZE)


def test_what_a_mapping_wants_is_brought(weights):
    def map_and_advise(fd):
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
            mapped.madvise(mmap.MADV_WILLNEED, OFFSET, WINDOW)
            assert eventually(lambda: holds(weights, OFFSET, WINDOW))
            try:
                mapped.madvise(MADV_POPULATE_READ, 2 << 20, 1 << 20)
            except OSError:
                pytest.skip("this kernel has no MADV_POPULATE_READ")
            assert holds(weights, 2 << 20, 1 << 20)
            assert mapped[2 << 20 : 3 << 20] == bf16_bytes(1, SIZE)[2 << 20 : 3 << 20]

    advise(weights, map_and_advise)


def test_what_is_not_needed_goes(weights):
    weights.read_bytes()
    assert all(resident(weights))
    advise(weights, lambda fd: os.posix_fadvise(fd, OFFSET, 1 << 20, os.POSIX_FADV_DONTNEED))
    states = resident(weights)
    first, last = OFFSET // PAGE_SIZE, (OFFSET + (1 << 20)) // PAGE_SIZE
    assert sum(states[first:last]) <= 64  # a large folio at an end may stay
    assert all(states[: first // 2]) and all(states[last + 256 :])


def test_a_random_reader_gets_only_what_it_asks_for(weights):
    def read(fd):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for offset in (3 << 20, 1 << 20, 2 << 20):
            os.pread(fd, PAGE_SIZE, offset)

    advise(weights, read)
    assert sum(resident(weights)) == 3


def test_warm(weights):
    done = warm([weights.parent])
    assert (done.num_files, done.size, done.failures) == (1, SIZE, [])
    assert all(resident(weights))
    assert warm([weights], evict=True).size == SIZE
    assert not any(resident(weights))


def test_warm_tells_of_damage(mounted, source):
    path = put(source, "damaged", bf16_bytes(2, SIZE))
    put(source, "good", bf16_bytes(3, SIZE))
    with open(path, "r+b") as file:
        file.seek(1 << 20)
        file.write(bytes(1000))
    done = warm([mounted(source).path])
    assert (done.num_files, done.size) == (1, SIZE)
    assert [(error.errno, os.path.basename(error.filename)) for error in done.failures] == [(5, "damaged")]
