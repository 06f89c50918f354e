"""Tensors that are stored as copies of others, through a mount: every way to read, and damage of what they copy."""

import errno
import json
import mmap
import os
import random

import pytest
from mounts import Mounted, bf16_bytes, drop_pages, mounting, put

from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2

CHUNK = 1 << CHUNK_LOG2
SIZE = 6 * CHUNK + 12_346
BETWEEN = 2 * CHUNK + 4321
TIED = bf16_bytes(11, SIZE)
MIDDLE = bf16_bytes(12, BETWEEN)


def model() -> bytes:
    """A safetensors file of two equal tensors, an odd number of bytes apart."""
    header, at = {}, 0
    for name, data in (("embed", TIED), ("middle", MIDDLE), ("lm_head", TIED)):
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + TIED + MIDDLE + TIED


PLAIN = model()
COPY_START = len(PLAIN) - SIZE
"""Where the copied tensor begins."""


@pytest.fixture(scope="module")
def tied(driver, tmp_path_factory) -> Mounted:
    home = tmp_path_factory.mktemp("tied")
    source = home / "source"
    source.mkdir()
    container = put(source, "model.safetensors", PLAIN)
    assert container.stat().st_size < 0.75 * (len(PLAIN) - SIZE) + 70_000
    with mounting(driver, home, source, cache_size=3 * CHUNK) as mounted:
        yield mounted


def test_read(tied):
    path = tied.path / "model.safetensors"
    drop_pages(path)
    assert path.read_bytes() == PLAIN


def test_mmap(tied):
    path = tied.path / "model.safetensors"
    drop_pages(path)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for offset in range(len(PLAIN) - 1, 0, -50_001):
            assert view[offset] == PLAIN[offset]
        assert view[:] == PLAIN


@pytest.mark.parametrize("size", [4096, CHUNK // 2, CHUNK, 4 * CHUNK])
def test_direct_reads(tied, size):
    fd = os.open(tied.path / "model.safetensors", os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, size) as buffer:
            for offset in range(COPY_START // size * size, len(PLAIN), max(size, 13 * 4096)):
                count = os.preadv(fd, [buffer], offset)
                assert buffer[:count] == PLAIN[offset : offset + size]
    finally:
        os.close(fd)


def test_random_reads(tied):
    path = tied.path / "model.safetensors"
    drop_pages(path)
    rng = random.Random(13)
    with open(path, "rb", buffering=0) as file:
        for _ in range(200):
            offset, size = rng.randrange(len(PLAIN)), rng.choice([1, 4096, 100_000, CHUNK, 1 << 20])
            assert os.pread(file.fileno(), size, offset) == PLAIN[offset : offset + size]


def test_damage_of_what_is_copied(mounted, source):
    """The chunks that copy from a damaged one give EIO; the log names both, once; all other bytes can be had."""
    container = put(source, "model.safetensors", PLAIN)
    with open(container, "r+b") as file:
        with _native.Reader(file.fileno()) as reader:
            offset = reader.entry(1)[0] + 1000
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    distance = SIZE + BETWEEN
    first, last = (CHUNK + distance) // CHUNK, (2 * CHUNK - 1 + distance) // CHUNK
    mount = mounted(source)
    fd = os.open(mount.path / "model.safetensors", os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, CHUNK) as buffer:
            for _ in range(2):
                for number in range(len(PLAIN) // CHUNK + 1):
                    if number in (1, first, last):
                        with pytest.raises(OSError, check=lambda error: error.errno == errno.EIO):
                            os.preadv(fd, [buffer], number * CHUNK)
                    else:
                        count = os.preadv(fd, [buffer], number * CHUNK)
                        assert buffer[:count] == PLAIN[number * CHUNK : (number + 1) * CHUNK]
    finally:
        os.close(fd)
    for number in (first, last):
        assert len(mount.log_lines(f"chunk {number},", "CHUNK_CHECKSUM in chunk 1,")) == 1, mount.log_path.read_text()
    assert len(mount.log_lines("chunk 1,", "CHUNK_CHECKSUM")) == 3
