"""One version of a container is one file in the daemon, however many have it open and however long ago they came."""

import mmap
import os

import pytest
from mounts import bf16_bytes, put

from zipfs.pipeline import CHUNK_LOG2
from zipfs.tree import MAX_IDLE_FILES

SIZE = 1 << 20


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


def test_chunks_stay_for_followers(mounted, source):
    """Three readers, one after the other, whole chunks past the page cache: what the first got is there for all."""
    size = 8 << 20
    data = bf16_bytes(2, size)
    put(source, "weights", data)
    mount = mounted(source)
    if mount.driver != "native":
        pytest.skip("only the native driver keeps whole chunks")
    for _ in range(3):
        fd = os.open(mount.path / "weights", os.O_RDONLY | os.O_DIRECT)
        assert read_direct(fd, size) == data
        os.close(fd)
    stats = mount.stats()
    assert stats["chunks_decoded"] == size >> CHUNK_LOG2
    assert stats["bytes_read"] == 3 * size
