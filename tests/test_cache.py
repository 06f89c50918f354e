"""_native.Cache and File: the read path of a mount without a mount."""

import ctypes
import errno
import os
import subprocess
import sys
import threading

import pytest
from models import weights

import zipfs
from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2

CHUNK = 1 << CHUNK_LOG2


@pytest.fixture
def plain(rng) -> bytes:
    return weights(rng, "BF16", 4 * CHUNK + 5000) + rng.bytes(3 * CHUNK + 77)


@pytest.fixture
def container(tmp_path, plain):
    source, path = tmp_path / "x.bin", tmp_path / "x.bin.zipfs"
    source.write_bytes(plain)
    zipfs.compress(source, path)
    return path


def open_file(cache, path, plain=False) -> _native.File:
    return _native.File(cache, os.open(path, os.O_RDONLY), path.name, plain)


@pytest.mark.parametrize("budget", [0, CHUNK, 3 * CHUNK, 1 << 30])
def test_random_reads(rng, container, plain, budget):
    cache = _native.Cache(budget, 2)
    with open_file(cache, container) as file:
        assert file.size == len(plain)
        assert file.header["plain_size"] == len(plain)
        for _ in range(300):
            offset = int(rng.integers(0, len(plain) + 10))
            size = int(2 ** rng.uniform(0, 22))
            assert file.pread(size, offset) == plain[offset : offset + size]
        stats = cache.stats()
        assert stats["reads"] == 300 and stats["errors"] == 0
        assert stats["cache_bytes"] <= budget
    assert cache.stats()["cache_bytes"] == 0


def test_pread_into(container, plain):
    cache, dst = _native.Cache(1 << 20), bytearray(CHUNK + 9)
    with open_file(cache, container) as file:
        assert file.pread_into(dst, 5) == len(dst)
        assert dst == plain[5 : 5 + len(dst)]
        assert file.pread_into(dst, len(plain) - 3) == 3
        assert file.pread_into(dst, len(plain)) == 0
        assert file.pread(1 << 60, len(plain) - 3) == plain[-3:]
        with pytest.raises(ValueError):
            file.pread(-1, 0)
        with pytest.raises(ValueError):
            file.pread(1, -1)


def test_threads_share_one_decode(container, plain):
    """Ten threads want parts of one chunk at once."""
    cache, barrier, wrong = _native.Cache(1 << 20), threading.Barrier(10), []
    with open_file(cache, container) as file:

        def read(number):
            barrier.wait()
            if file.pread(1000, 1000 * number) != plain[1000 * number : 1000 * number + 1000]:
                wrong.append(number)

        threads = [threading.Thread(target=read, args=(i,)) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert cache.stats()["chunks_decoded"] == 1


def test_damage_is_eio_and_one_log_line(container, plain, tmp_path):
    raw = bytearray(container.read_bytes())
    with container.open("rb") as opened, _native.Reader(opened.fileno()) as reader:
        offset, _ = reader.entry(2)
    raw[offset + 50] ^= 1
    container.write_bytes(raw)
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
    _native.log_to_fd(log)
    try:
        cache = _native.Cache(1 << 20)
        with open_file(cache, container) as file:
            for _ in range(3):
                with pytest.raises(OSError) as info:
                    file.pread(1, 2 * CHUNK)
                assert info.value.errno == errno.EIO
            assert file.pread(2 * CHUNK, 0) == plain[: 2 * CHUNK]
            assert file.pread(len(plain), 3 * CHUNK) == plain[3 * CHUNK :]
        lines = (tmp_path / "log").read_text().splitlines()
        assert lines == [
            f"x.bin.zipfs: chunk 2, plain bytes {2 * CHUNK} to {3 * CHUNK}: CHUNK_CHECKSUM",
            "x.bin.zipfs: 2 more reads of damaged chunks failed",
        ]
        assert cache.stats()["errors"] == 3
    finally:
        _native.log_to_fd(2)
        os.close(log)


def test_a_name_cannot_forge_a_log_line(tmp_path):
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
    _native.log_to_fd(log)
    try:
        _native.log(b"a\nb\x1b[2J\xff")
        _native.log("gr\u00fc\udcff")
    finally:
        _native.log_to_fd(2)
        os.close(log)
    assert (tmp_path / "log").read_bytes() == b"a?b?[2J\xff\ngr\xc3\xbc\xff\n"


def test_cache_arguments():
    for arguments in ((-1,), (0, -1), (0, 1025), (1 << 64,)):
        with pytest.raises((ValueError, OverflowError)):
            _native.Cache(*arguments)
    assert _native.Cache(0, 1024).stats()["cache_bytes"] == 0


def test_pass_through(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"plain as it is")
    cache = _native.Cache(0)
    with open_file(cache, path, plain=True) as file:
        assert file.header is None and file.size == 14
        assert file.pread(100, 6) == b"as it is"
        assert file.pread(5, 0) == b"plain"
        path.write_bytes(b"plain as it is, and more")
        assert file.pread(100, 14) == b", and more"
    assert cache.stats()["bytes_passed"] == 8 + 5 + 10


def test_failed_open_leaves_the_descriptor(tmp_path):
    path = tmp_path / "x.zipfs"
    path.write_bytes(b"no container")
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(_native.FormatError) as info:
        _native.File(_native.Cache(0), fd, b"x")
    assert info.value.status == "BAD_MAGIC"
    os.close(fd)


def test_a_closed_file_is_not_opened_again(container):
    cache = _native.Cache(0)
    file = open_file(cache, container)
    file.close()
    fd = os.open(container, os.O_RDONLY)
    with pytest.raises(ValueError):
        file.__init__(cache, fd, "x")
    os.close(fd)


def test_handle_outlives_file_and_cache(container, plain):
    """What fuse_file_info.fh holds: read through the C operation of both libfuse generations, then released."""
    cache = _native.Cache(1 << 20)
    file = open_file(cache, container)
    handle = file.handle()
    file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.pread(1, 0)
    with pytest.raises(ValueError, match="closed"):
        file.handle()
    del file, cache
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, ctypes.c_void_p
    )
    for generation, word in ((2, 3), (3, 2)):
        read = prototype(_native.fuse_read_address(generation))
        info = (ctypes.c_uint64 * 8)()
        buffer = ctypes.create_string_buffer(CHUNK)
        assert read(b"/x", buffer, CHUNK, 100, info) == -errno.EBADF
        info[word] = handle
        assert read(b"/x", buffer, CHUNK, 100, info) == CHUNK
        assert buffer.raw == plain[100 : 100 + CHUNK]
        assert read(None, buffer, CHUNK, len(plain) - 1, info) == 1
    _native.release(handle)
    with pytest.raises(ValueError):
        _native.release(0)
    with pytest.raises(ValueError):
        _native.fuse_read_address(4)


def test_closing_under_readers(container, plain):
    cache = _native.Cache(1 << 20)
    file, failures = open_file(cache, container), []

    def read_until_closed():
        try:
            while file.pread(5000, 3000) == plain[3000:8000]:
                pass
            failures.append("wrong bytes")
        except ValueError:
            return

    threads = [threading.Thread(target=read_until_closed) for _ in range(4)]
    for thread in threads:
        thread.start()
    file.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert not failures


MEMORY_SCRIPT = """
import os, random, sys, threading
from zipfs import _native

def status_mib(key):
    with open("/proc/self/status") as lines:
        return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

path, budget, tuned = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if tuned:
    _native.tune_malloc()
cache = _native.Cache(budget, 2)
files = [_native.File(cache, os.open(path, os.O_RDONLY), "x") for _ in range(8)]
before = status_mib("VmRSS")

def read(seed):
    random_source, buffer = random.Random(seed), memoryview(bytearray(1 << 20))
    for _ in range(200):
        file, size = random_source.choice(files), random_source.choice((4096, 131072, 1 << 20))
        file.pread_into(buffer[:size], random_source.randrange(file.size - size))

threads = [threading.Thread(target=read, args=(seed,)) for seed in range(10)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert cache.stats()["cache_evictions"] > 0 or budget == 0
print(status_mib("VmHWM") - before - budget / 2**20)
"""


@pytest.mark.parametrize("tuned", [0, 1])
@pytest.mark.parametrize("budget", [0, 16 << 20])
def test_memory_stays_near_the_budget(rng, tmp_path, budget, tuned):
    """Ten threads, eight files of 16 MiB, requests of all sizes: at most 64 MiB above the budget."""
    source, path = tmp_path / "x.bin", tmp_path / "x.bin.zipfs"
    source.write_bytes(weights(rng, "BF16", 8 << 20))
    zipfs.compress(source, path)
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(path), str(budget), str(tuned)]
    outcome = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 0, outcome.stderr
    assert float(outcome.stdout) < 64
