"""Damaged containers: EIO for what is damaged, all else as ever, one log line."""

import errno
import mmap
import os

import pytest
from mounts import bf16_bytes, put

from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2

CHUNK = 1 << CHUNK_LOG2
NUM_CHUNKS = 6
DAMAGED = 2
DATA = bf16_bytes(1, NUM_CHUNKS * CHUNK - 1000)


def flip(path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def payload_offset(path, number: int) -> int:
    with open(path, "rb") as file, _native.Reader(file.fileno()) as reader:
        return reader.entry(number)[0]


@pytest.fixture
def container(source):
    return put(source, "weights", DATA)


def expect_eio(read) -> None:
    with pytest.raises(OSError) as caught:
        read()
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("flags", [0, os.O_DIRECT], ids=["buffered", "direct"])
def test_a_damaged_chunk_fails_alone(mounted, source, container, flags):
    flip(container, payload_offset(container, DAMAGED) + 1000)
    mount = mounted(source)
    start, end = DAMAGED * CHUNK, (DAMAGED + 1) * CHUNK
    fd = os.open(mount.path / "weights", os.O_RDONLY | flags)
    try:
        for offset in range(0, len(DATA), 4096):
            if start <= offset < end:
                continue
            assert read_page(fd, offset) == DATA[offset : offset + 4096], offset
        for _ in range(3):
            expect_eio(lambda: read_page(fd, start))
            expect_eio(lambda: read_page(fd, end - 4096))
        assert read_page(fd, end) == DATA[end : end + 4096]
    finally:
        os.close(fd)
    lines = mount.log_lines("weights.zipfs", f"chunk {DAMAGED}", str(start), str(end))
    assert len(lines) == 1, mount.log_path.read_text()
    assert mount.daemon.process.poll() is None


def read_page(fd: int, offset: int) -> bytes:
    with mmap.mmap(-1, 4096) as page:
        return page[: os.preadv(fd, [page], offset)]


def test_a_whole_read_of_a_damaged_file_fails(mounted, source, container):
    flip(container, payload_offset(container, DAMAGED) + 1000)
    path = mounted(source).path
    expect_eio((path / "weights").read_bytes)


@pytest.mark.parametrize("place", ["version", "checksum", "truncated", "root"])
def test_a_broken_container_is_listed_and_cannot_be_opened(mounted, source, container, place):
    if place == "truncated":
        os.truncate(container, os.path.getsize(container) - 1)
    else:
        offset = {"version": 8, "checksum": 40, "root": os.path.getsize(container) - 9}[place]
        flip(container, offset)
    stored_size = os.path.getsize(container)
    mount = mounted(source)
    assert os.listdir(mount.path) == ["weights"]
    assert os.stat(mount.path / "weights").st_size == (len(DATA) if place == "root" else stored_size)
    for _ in range(3):
        expect_eio(lambda: open(mount.path / "weights", "rb"))
    assert len(mount.log_lines("weights.zipfs")) == 1
    put(source, "weights", DATA)
    assert (mount.path / "weights").read_bytes() == DATA


def test_a_container_cut_short_while_open_gives_eio(mounted, source, container):
    mount = mounted(source)
    fd = os.open(mount.path / "weights", os.O_RDONLY | os.O_DIRECT)
    try:
        assert read_page(fd, 0) == DATA[:4096]
        os.truncate(container, os.path.getsize(container) // 2)
        expect_eio(lambda: read_page(fd, (NUM_CHUNKS - 1) * CHUNK))
        assert read_page(fd, CHUNK) == DATA[CHUNK : CHUNK + 4096]
    finally:
        os.close(fd)
