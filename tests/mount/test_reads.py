"""Every way to read a file through a mount gives the bytes of its plain twin."""

import mmap
import os
import random
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from mounts import Mounted, bf16_bytes, drop_pages, mounting, put

from zipfs.pipeline import CHUNK_LOG2

CHUNK = 1 << CHUNK_LOG2
SIZES = {"weights": 5 * CHUNK + 12_345, "one": 1, "chunk": CHUNK, "less": CHUNK - 1, "more": CHUNK + 1, "empty": 0}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, bytes]:
    noise = np.random.default_rng(5).bytes(CHUNK + 777)
    text = b"".join(b'"token %d": %d,\n' % (i, i * i) for i in range(20_000))
    return {name: bf16_bytes(7, size) for name, size in SIZES.items()} | {"noise": noise, "text": text}


@pytest.fixture(scope="module")
def twins(driver, plain, tmp_path_factory) -> Mounted:
    home = tmp_path_factory.mktemp("twins")
    source = home / "source"
    source.mkdir()
    for name, data in plain.items():
        put(source, name, data)
        (source / f"passed_{name}").write_bytes(data)
    with mounting(driver, home, source, cache_size=4 * CHUNK) as mounted:
        yield mounted


def names_of(plain: dict[str, bytes]) -> list[str]:
    return [*plain, *(f"passed_{name}" for name in plain)]


def read_ranges(path: str, data: bytes, seed: int, flags: int = 0) -> None:
    """Compares random ranges, some of them beyond the end, with the plain bytes."""
    rng = random.Random(seed)
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        for _ in range(60):
            offset = rng.randrange(len(data) + 4096)
            size = rng.choice([1, 511, 4096, 65_537, CHUNK, 3 * CHUNK])
            assert os.pread(fd, size, offset) == data[offset : offset + size], (seed, offset, size)
    finally:
        os.close(fd)


def map_ranges(path: str, data: bytes, seed: int, flags: int) -> None:
    rng = random.Random(seed)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as mapped:
        for _ in range(60):
            offset = rng.randrange(len(data))
            size = rng.choice([1, 4096, CHUNK])
            assert mapped[offset : offset + size] == data[offset : offset + size], (seed, offset, size)


def read_direct(path: str, data: bytes, seed: int) -> None:
    """O_DIRECT into an aligned buffer, at aligned offsets and of aligned sizes, up to the unaligned end."""
    rng = random.Random(seed)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 3 * CHUNK)
    try:
        for _ in range(30):
            offset = rng.randrange(len(data) // 4096 + 1) * 4096
            size = rng.choice([4096, CHUNK, 3 * CHUNK])
            count = os.preadv(fd, [memoryview(buffer)[:size]], offset)
            assert buffer[:count] == data[offset : offset + size], (seed, offset, size)
    finally:
        os.close(fd)


def test_whole_files(twins, plain):
    for name in names_of(plain):
        assert (twins.path / name).read_bytes() == plain[name.removeprefix("passed_")], name


@pytest.mark.parametrize("seed", range(3))
def test_random_ranges(twins, plain, seed):
    for name in names_of(plain):
        drop_pages(twins.path / name)
        read_ranges(str(twins.path / name), plain[name.removeprefix("passed_")], seed)


@pytest.mark.parametrize("flags", [mmap.MAP_PRIVATE, mmap.MAP_SHARED], ids=["private", "shared"])
def test_mappings(twins, plain, flags):
    for name in ("weights", "passed_weights", "one", "more"):
        drop_pages(twins.path / name)
        map_ranges(str(twins.path / name), plain[name.removeprefix("passed_")], 11, flags)


def test_direct_reads(twins, plain):
    for name in ("weights", "passed_weights", "less"):
        read_direct(str(twins.path / name), plain[name.removeprefix("passed_")], 12)


def test_threads_read_at_once(twins, plain):
    path = str(twins.path / "weights")
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(read_ranges, path, plain["weights"], seed) for seed in range(8)]
        jobs += [pool.submit(read_direct, path, plain["weights"], seed) for seed in range(4)]
        for _ in range(20):
            drop_pages(twins.path / "weights")
        for job in jobs:
            job.result()


def test_processes_read_at_once(twins, plain):
    path = str(twins.path / "weights")
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        jobs = [pool.submit(read_ranges, path, plain["weights"], seed) for seed in range(4)]
        jobs += [pool.submit(map_ranges, path, plain["weights"], seed, mmap.MAP_SHARED) for seed in range(4)]
        for job in jobs:
            job.result(timeout=60)


def test_a_sequential_read_decodes_each_byte_once(mounted, source):
    data = bf16_bytes(3, 40 * CHUNK)
    put(source, "weights", data)
    mount = mounted(source, cache_size=8 << 20)  # twice what the kernel reads ahead, which goes in any order
    assert (mount.path / "weights").read_bytes() == data
    stats = mount.stats()
    assert len(data) <= stats["bytes_read"] <= 1.05 * len(data)
    assert stats["bytes_decoded"] == len(data)


def test_many_readers_of_a_chunk_cost_one_decode(mounted, source):
    put(source, "weights", bf16_bytes(4, CHUNK))
    mount = mounted(source)

    def read_page(number: int) -> None:
        fd = os.open(mount.path / "weights", os.O_RDONLY | os.O_DIRECT)
        with mmap.mmap(-1, 4096) as page:
            os.preadv(fd, [page], number * 4096)
        os.close(fd)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(read_page, range(16)))
    stats = mount.stats()
    assert stats["reads"] == 16
    assert stats["chunks_decoded"] == 1


def test_a_second_load_never_reaches_the_daemon(mounted, source):
    data = bf16_bytes(6, 4 * CHUNK)
    put(source, "weights", data)
    mount = mounted(source)
    assert (mount.path / "weights").read_bytes() == data
    before = mount.stats()["reads"]
    assert (mount.path / "weights").read_bytes() == data
    assert mount.stats()["reads"] == before
