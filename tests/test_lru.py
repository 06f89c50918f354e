"""The cache of chunks as an LRU: against an exact one on the same reads, under streams beside it, within its budget."""

import os
from collections import OrderedDict

import numpy as np
import pytest
from models import weights

import zipfs
from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2

CHUNK = 1 << CHUNK_LOG2
PAGE = 4096
NUM_CHUNKS = 128


@pytest.fixture(scope="module")
def container(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lru")
    (folder / "x.bin").write_bytes(weights(np.random.default_rng(3), "BF16", NUM_CHUNKS * CHUNK // 2))
    zipfs.compress(folder / "x.bin", folder / "x.bin.zipfs")
    return folder / "x.bin.zipfs"


def open_file(container, num_chunks: int) -> _native.File:
    """With a cache of so many chunks."""
    cache = _native.Cache(num_chunks * CHUNK, 2, ahead_size=4 * CHUNK)
    return _native.File(cache, os.open(container, os.O_RDONLY), "x")


def read_pages(file: _native.File, chunks: list[int], rng) -> None:
    for chunk in chunks:
        file.pread(PAGE, chunk * CHUNK + int(rng.integers(CHUNK // PAGE)) * PAGE)


def exact_hits(chunks: list[int], capacity: int) -> int:
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for chunk in chunks:
        hits += chunk in held
        held[chunk] = None
        held.move_to_end(chunk)
        if len(held) > capacity:
            held.popitem(last=False)
    return hits


def test_a_working_set_of_half_the_cache_stays(container, rng):
    with open_file(container, NUM_CHUNKS) as file:
        read_pages(file, list(range(NUM_CHUNKS // 2)), rng)
        before = file.stats()
        read_pages(file, rng.integers(0, NUM_CHUNKS // 2, 5000).tolist(), rng)
        after = file.stats()
    assert after["chunks_decoded"] == before["chunks_decoded"] == NUM_CHUNKS // 2
    assert after["cache_hits"] - before["cache_hits"] == 5000
    assert after["ahead_chunks"] == 0


def test_zipf_over_twice_the_cache(container, rng):
    """At least 0.98 of the hits of an exact LRU that had the budget for chunks alone."""
    popularity = 1 / np.arange(1, NUM_CHUNKS + 1)
    chunks = rng.choice(rng.permutation(NUM_CHUNKS), 8000, p=popularity / popularity.sum()).tolist()
    with open_file(container, NUM_CHUNKS // 2) as file:
        read_pages(file, chunks, rng)
        stats = file.stats()
    print(f"hits {stats['cache_hits']}, of an exact LRU {exact_hits(chunks, NUM_CHUNKS // 2)}")
    assert stats["cache_hits"] >= 0.98 * exact_hits(chunks, NUM_CHUNKS // 2)
    assert stats["chunks_decoded"] == stats["cache_misses"] == 8000 - stats["cache_hits"]


def test_a_stream_of_whole_chunks_pushes_nothing_out(container, rng):
    with open_file(container, 16) as file:
        read_pages(file, list(range(8)), rng)
        for offset in range(0, NUM_CHUNKS * CHUNK, 2 * CHUNK):
            file.pread(2 * CHUNK, offset)
        before = file.stats()["chunks_decoded"]
        read_pages(file, list(range(8)), rng)
        assert file.stats()["chunks_decoded"] == before


@pytest.mark.parametrize("lag", [4, 24])
def test_readers_behind_one_another_share_what_was_decoded(container, lag):
    """Two readers of whole chunks, one behind: after the start, where nobody knew, each chunk is decoded once."""
    with open_file(container, 96) as file:
        for chunk in range(NUM_CHUNKS + lag):
            if chunk < NUM_CHUNKS:
                file.pread(CHUNK, chunk * CHUNK)
            if chunk >= lag:
                file.pread(CHUNK, (chunk - lag) * CHUNK)
        decoded = file.stats()["chunks_decoded"]
    assert decoded <= NUM_CHUNKS + lag + 4


def test_a_second_reading_later_is_no_sharing(container):
    """Until it comes to where the first one stopped, and perhaps reads on."""
    with open_file(container, 32) as file:
        for _ in range(2):
            for chunk in range(NUM_CHUNKS):
                file.pread(CHUNK, chunk * CHUNK)
        stats = file.stats()
    assert stats["chunks_decoded"] == 2 * NUM_CHUNKS
    assert stats["chunks_direct"] >= 2 * NUM_CHUNKS - (8 << 20) // CHUNK


def test_what_is_held_counts_in_the_budget(container, rng):
    cache = _native.Cache(8 * CHUNK, 2)
    with _native.File(cache, os.open(container, os.O_RDONLY), "x") as file:
        for chunk in rng.integers(0, NUM_CHUNKS, 300).tolist():
            file.pread(PAGE, chunk * CHUNK)
            stats = cache.stats()
            assert stats["source_buffer_bytes"] > 0
            assert stats["overdraft_bytes"] == 0
            assert stats["cache_bytes"] + stats["source_buffer_bytes"] <= 8 * CHUNK + CHUNK
        cache.trim()
        stats = cache.stats()
        assert stats["cache_bytes"] == stats["source_buffer_bytes"] == 0
        assert file.pread(PAGE, 0)
