"""Chunks decoded ahead of readers: for whom, how far, and what it costs when nobody comes."""

import os
import threading
import time

import pytest
from models import safetensors_bytes, weights

import zipfs
from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2

CHUNK = 1 << CHUNK_LOG2
BLOCK = CHUNK // 8
WINDOW = max(2, (1 << 20) // CHUNK)
"""Chunks, at most, that a stream is ahead."""
AHEAD_SIZE = 16 << 20


@pytest.fixture
def make_container(tmp_path):
    def make(plain: bytes, name: str = "x.bin"):
        (tmp_path / name).write_bytes(plain)
        zipfs.compress(tmp_path / name, tmp_path / f"{name}.zipfs")
        return tmp_path / f"{name}.zipfs"

    return make


@pytest.fixture
def plain(rng) -> bytes:
    return weights(rng, "BF16", 12 * CHUNK)  # 24 chunks


def open_file(path, budget: int = 64 << 20, jobs: int = 2, ahead_size: int = AHEAD_SIZE) -> _native.File:
    cache = _native.Cache(budget, jobs, ahead_size=ahead_size)
    return _native.File(cache, os.open(path, os.O_RDONLY), path.name)


def read(file: _native.File, plain: bytes, start: int, end: int, block: int = BLOCK, pause_s: float = 0.002) -> None:
    """Reads in blocks, with time for others in between."""
    for offset in range(start, end, block):
        size = min(block, end - offset)
        assert file.pread(size, offset) == plain[offset : offset + size]
        time.sleep(pause_s)


def settle(file: _native.File) -> dict[str, int]:
    """The counters once nothing is decoded any more."""
    before, now = None, file.stats()
    while before != now:
        time.sleep(0.05)
        before, now = now, file.stats()
    return now


def test_a_stream_of_small_reads(make_container, plain):
    """Nearly all chunks are there before they are asked for, each is decoded once, none for nothing."""
    with open_file(make_container(plain)) as file:
        read(file, plain, 0, len(plain))
        stats = settle(file)
    assert stats["chunks_decoded"] == 24
    assert stats["ahead_chunks"] >= 18
    assert stats["ahead_used_bytes"] == stats["ahead_bytes"] == stats["ahead_chunks"] * CHUNK
    assert stats["cache_misses"] == 24 - stats["ahead_chunks"]


@pytest.mark.parametrize("block", [CHUNK, 3 * CHUNK])
def test_whole_chunks_go_straight_to_the_reader(make_container, plain, block):
    with open_file(make_container(plain)) as file:
        read(file, plain, 0, len(plain), block)
        stats = settle(file)
    assert stats["ahead_chunks"] == 0
    assert stats["chunks_direct"] == stats["chunks_decoded"] == 24


@pytest.mark.parametrize("options", [{"ahead_size": 0}, {"jobs": 1}, {"budget": 0}])
def test_it_is_off_without_size_threads_or_budget(make_container, plain, options):
    with open_file(make_container(plain), **options) as file:
        read(file, plain, 0, 3 * CHUNK)
        assert settle(file)["ahead_chunks"] == 0


def test_a_reader_that_stops_wastes_little(make_container, plain):
    with open_file(make_container(plain)) as file:
        read(file, plain, 0, 5 * CHUNK)
        stats = settle(file)
    assert 5 < stats["chunks_decoded"] <= 5 + WINDOW


def test_a_far_seek_ends_it(make_container, plain):
    with open_file(make_container(plain)) as file:
        read(file, plain, 0, 5 * CHUNK)
        before = settle(file)["ahead_chunks"]
        file.pread(10, 20 * CHUNK)
        assert settle(file)["ahead_chunks"] == before


def test_random_reads_start_nothing(make_container, plain, rng):
    with open_file(make_container(plain)) as file:
        for offset in rng.integers(0, len(plain) // 4096, 500):
            file.pread(4096, int(offset) * 4096)
        stats = settle(file)
    assert stats["ahead_chunks"] == 0
    assert stats["chunks_decoded"] <= 24


def test_one_tensor_and_its_chunks(make_container, rng):
    """A reader of one tensor, of a file with many: nothing is decoded beyond the tensor's last chunk."""
    tensors = {f"t{i}": ("BF16", [CHUNK + 777], weights(rng, "BF16", CHUNK + 777)) for i in range(12)}
    plain = safetensors_bytes(tensors)
    size = 2 * (CHUNK + 777)
    start = len(plain) - 9 * size
    with open_file(make_container(plain, "x.safetensors")) as file:
        read(file, plain, start, start + size)
        stats = settle(file)
    first, last = start // CHUNK, (start + size - 1) // CHUNK
    assert stats["ahead_chunks"] > 0
    assert stats["chunks_decoded"] <= last - first + 1


@pytest.mark.parametrize("past", [64 << 10, 384 << 10])
def test_what_the_kernel_reads_around_a_tensor(make_container, rng, past):
    """A page before it and a little after it: the next tensor is not begun."""
    size = 6 * CHUNK + 1554
    tensors = {f"t{i}": ("BF16", [size // 2], weights(rng, "BF16", size // 2)) for i in range(5)}
    plain = safetensors_bytes(tensors)
    start = len(plain) - 3 * size
    end = start + size + past
    with open_file(make_container(plain, "x.safetensors")) as file:
        read(file, plain, start // 4096 * 4096, end)
        stats = settle(file)
    assert stats["ahead_used_bytes"] == stats["ahead_bytes"] > 0
    assert stats["chunks_decoded"] == (end - 1) // CHUNK - start // CHUNK + 1


def test_readers_of_one_file_share_chunks(make_container, plain):
    """Four readers, one behind the other: every chunk is decoded once, whoever came first."""
    with open_file(make_container(plain)) as file:
        threads = [threading.Thread(target=read, args=(file, plain, 0, len(plain))) for _ in range(4)]
        for thread in threads:
            thread.start()
            time.sleep(0.01)
        for thread in threads:
            thread.join()
        assert settle(file)["chunks_decoded"] == 24


def test_it_stays_in_its_part_of_the_cache(make_container, plain):
    """Eight streams that stop midway: what waits for them is bounded, and what nobody fetched makes room later."""
    path = make_container(plain)
    cache = _native.Cache(64 << 20, 2, ahead_size=3 * (CHUNK + 1024))
    file = _native.File(cache, os.open(path, os.O_RDONLY), "x")
    for i in range(8):
        read(file, plain, 3 * i * CHUNK, (3 * i + 1) * CHUNK + BLOCK)
        settle(file)
        assert cache.stats()["ahead_held_bytes"] <= 3 * (CHUNK + 1024)
    for _ in range(300):  # they are not coming back
        file.pread(10, 0)
    before = file.stats()["ahead_wasted_bytes"]
    assert before == 0
    read(file, plain, 22 * CHUNK, 24 * CHUNK)
    assert settle(file)["ahead_wasted_bytes"] > 0
    file.close()
    stats = cache.stats()
    assert stats["ahead_held_bytes"] == stats["cache_bytes"] == 0
    assert stats["ahead_bytes"] == stats["ahead_used_bytes"] + stats["ahead_wasted_bytes"]


def test_damage_ahead_is_told_to_its_reader_alone(make_container, plain, tmp_path):
    path = make_container(plain)
    raw = bytearray(path.read_bytes())
    with path.open("rb") as opened, _native.Reader(opened.fileno()) as reader:
        offset, _ = reader.entry(7)
    raw[offset + 50] ^= 1
    path.write_bytes(raw)
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
    _native.log_to_fd(log)
    try:
        with open_file(path) as file:
            read(file, plain, 0, 7 * CHUNK)
            with pytest.raises(OSError):
                file.pread(10, 7 * CHUNK)
            read(file, plain, 8 * CHUNK, 12 * CHUNK)
            assert file.stats()["errors"] == 1
        assert len([line for line in (tmp_path / "log").read_text().splitlines() if "chunk 7," in line]) == 1
    finally:
        _native.log_to_fd(2)
        os.close(log)


def test_closing_meanwhile(make_container, plain):
    path = make_container(plain)
    for count in range(8, 40):
        with open_file(path) as file:
            for i in range(count):
                assert file.pread(BLOCK, i * BLOCK) == plain[i * BLOCK : (i + 1) * BLOCK]
