"""The source under a container that is read: read ahead where the disk is slow, dropped behind where that is wanted."""

import os
import time

import numpy as np
import pytest
from pages import resident

import zipfs
from zipfs import _native

SIZE = 64 << 20
BLOCK = 1 << 20
MIB = 1 << 20


@pytest.fixture(scope="module")
def plain() -> bytes:
    values = np.random.default_rng(5).standard_normal(SIZE // 2, dtype=np.float32)
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


@pytest.fixture(scope="module")
def container(tmp_path_factory, plain):
    folder = tmp_path_factory.mktemp("source")
    (folder / "x.bin").write_bytes(plain)
    zipfs.compress(folder / "x.bin", folder / "x.bin.zipfs")
    return folder / "x.bin.zipfs"


@pytest.fixture
def drop(container):
    """Drops the container from memory; skips where the file system keeps it."""

    def drop_it() -> None:
        fd = os.open(container, os.O_RDONLY)
        try:
            os.fsync(fd)
            for _ in range(20):  # for what is being read at this moment stays
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                if not any(resident(container)):
                    break
                time.sleep(0.1)
            else:
                pytest.skip("this file system does not drop pages")
        finally:
            os.close(fd)

    return drop_it


def read_all(file: _native.File, plain: bytes, block: int = BLOCK, pause_s: float = 0) -> None:
    for offset in range(0, SIZE, block):
        assert file.pread(block, offset) == plain[offset : offset + block]
        time.sleep(pause_s)


def test_a_cold_source_is_read_ahead_of_a_stream(container, plain, drop):
    stored_size = os.path.getsize(container)

    def read_cold() -> int:
        drop()
        with _native.File(_native.Cache(8 << 20, 1), os.open(container, os.O_RDONLY), "x") as file:
            read_all(file, plain, pause_s=0.002)
            stats = file.stats()
        assert stats["source_ahead_bytes"] <= stored_size
        assert stats["stored_bytes_read"] < stored_size
        return stats["source_ahead_bytes"]

    # A disk that has read before the reader gets to look counts as memory: so it may be beside a busy core.
    assert any(read_cold() > 0 for _ in range(5))


def test_a_source_in_memory_is_not(container, plain):
    def read_warm() -> int:
        container.read_bytes()
        with _native.File(_native.Cache(8 << 20, 2), os.open(container, os.O_RDONLY), "x") as file:
            read_all(file, plain)
            return file.stats()["source_ahead_bytes"]

    assert 0 in (read_warm() for _ in range(5))  # others on this machine may drop the system's caches meanwhile


def test_nor_ahead_of_random_reads(container, plain, drop, rng):
    drop()
    with _native.File(_native.Cache(8 << 20, 2), os.open(container, os.O_RDONLY), "x") as file:
        for _ in range(300):
            offset = int(rng.integers(0, SIZE // 4096)) * 4096
            assert file.pread(4096, offset) == plain[offset : offset + 4096]
        assert file.stats()["source_ahead_bytes"] == 0


def test_closing_while_it_is_read_ahead(container, plain, drop):
    for count in range(4, 12):
        drop()
        with _native.File(_native.Cache(0, 1), os.open(container, os.O_RDONLY), "x") as file:
            for i in range(count):
                assert file.pread(BLOCK, i * BLOCK) == plain[i * BLOCK : (i + 1) * BLOCK]


@pytest.mark.parametrize("block", [BLOCK, 100_000])
def test_the_source_is_dropped_behind_a_stream(container, plain, drop, block):
    drop()
    with _native.File(_native.Cache(8 << 20, 1, drop_source=True), os.open(container, os.O_RDONLY), "x") as file:
        read_all(file, plain, block)
        dropped = file.stats()["source_dropped_bytes"]
    assert dropped > 0.99 * os.path.getsize(container)
    assert sum(resident(container)) < 0.05 * len(resident(container))


def test_but_not_behind_random_reads_or_in_front_of_another(container, plain, rng):
    container.read_bytes()
    with _native.File(_native.Cache(8 << 20, 1, drop_source=True), os.open(container, os.O_RDONLY), "x") as file:
        for _ in range(300):
            file.pread(4096, int(rng.integers(0, SIZE - 4096)))
        assert file.stats()["source_dropped_bytes"] == 0
    with _native.File(_native.Cache(8 << 20, 1, drop_source=True), os.open(container, os.O_RDONLY), "x") as file:
        for offset in range(36 * MIB, 40 * MIB, BLOCK):  # and is about to go on
            file.pread(BLOCK, offset)
        file.pread(100, 5 * MIB)  # nobody's next read
        for offset in range(0, SIZE, BLOCK):
            file.pread(BLOCK, offset)
        assert 0 < file.stats()["source_dropped_bytes"] < 0.6 * os.path.getsize(container)


def test_it_is_kept_unless_that_is_wanted(container, plain):
    container.read_bytes()
    with _native.File(_native.Cache(8 << 20, 1), os.open(container, os.O_RDONLY), "x") as file:
        read_all(file, plain)
        assert file.stats()["source_dropped_bytes"] == 0
