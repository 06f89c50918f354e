"""One version of a container is one file in the daemon, however many have it open and however long ago they came."""

import mmap
import os

import pytest
from mounts import bf16_bytes, put

from zipfs.pipeline import CHUNK_LOG2
from zipfs.tree import MAX_IDLE_FILES

SIZE, LARGE_SIZE = 1 << 20, 24 << 20


def read_direct(fd: int, size: int) -> bytes:
    """The first bytes, past the page cache."""
    with mmap.mmap(-1, size) as buffer:
        assert os.preadv(fd, [buffer], 0) == size
        return buffer[:]


def test_later_openers_share_what_is_decoded(mounted, source):
    """The daemon forgets files after a while: here, as many others were opened in between."""
    data = bf16_bytes(1, SIZE)
    put(source, "weights", data)
    for i in range(MAX_IDLE_FILES + 10):
        (source / f"other{i}").write_bytes(b"x")
    mount = mounted(source)
    fds = []
    for _ in range(3):
        fds.append(os.open(mount.path / "weights", os.O_RDONLY | os.O_DIRECT))
        assert read_direct(fds[-1], 4096) == data[:4096]
        for i in range(MAX_IDLE_FILES + 10):
            (mount.path / f"other{i}").read_bytes()
    assert mount.stats()["chunks_decoded"] == 1
    os.close(fds.pop(0))
    assert read_direct(fds[0], SIZE) == data
    for fd in fds:
        os.close(fd)
    assert (mount.path / "weights").read_bytes() == data


@pytest.fixture
def large(mounted, source):
    """(mount, its file, the file's bytes): more than is kept for readers who have not opened it yet."""
    data = bf16_bytes(2, LARGE_SIZE)
    put(source, "weights", data)
    mount = mounted(source)
    if mount.driver != "native":
        pytest.skip("only the native driver keeps whole chunks")
    return mount, mount.path / "weights", data


def test_chunks_stay_for_who_has_the_file_open(large):
    """Three readers begin one after the other, past the page cache: what the first got is there for all."""
    mount, path, data = large
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECT) for _ in range(3)]
    for fd in fds:
        assert read_direct(fd, LARGE_SIZE) == data
        os.close(fd)
    stats = mount.stats()
    assert stats["chunks_decoded"] == LARGE_SIZE >> CHUNK_LOG2
    assert stats["bytes_read"] == 3 * LARGE_SIZE


def test_a_reader_alone_leaves_only_the_start(large):
    mount, path, data = large
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    assert read_direct(fd, LARGE_SIZE) == data
    os.close(fd)
    stats = mount.stats()
    assert stats["chunks_decoded"] == LARGE_SIZE >> CHUNK_LOG2
    assert 0 < stats["cache_bytes"] < LARGE_SIZE * 3 / 4
