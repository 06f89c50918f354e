"""_native.Reader, Codec and the header functions: what Python sees of containers, its errors and its threads."""

import hashlib
import os
import threading

import pytest
from models import weights

import zipfs
from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2

CHUNK = 1 << CHUNK_LOG2


@pytest.fixture
def plain(rng) -> bytes:
    return weights(rng, "BF16", 2 * CHUNK + 5000) + rng.bytes(CHUNK + 77)


@pytest.fixture
def container(tmp_path, plain):
    source, path = tmp_path / "x.bin", tmp_path / "x.bin.zipfs"
    source.write_bytes(plain)
    zipfs.compress(source, path)
    return path


@pytest.fixture
def reader(container):
    with container.open("rb") as file:
        reader = _native.Reader(file.fileno())
    with reader:  # it has its own descriptor
        yield reader


def chunk_of(plain: bytes, number: int) -> bytes:
    return plain[number * CHUNK : (number + 1) * CHUNK]


def test_header(reader, container, plain):
    header = reader.header
    assert header["plain_size"] == len(plain)
    assert header["container_size"] == container.stat().st_size
    assert header["num_chunks"] == -(-len(plain) // CHUNK)
    assert header["sha256"] == hashlib.sha256(plain).digest()
    raw = container.read_bytes()[:256]
    assert _native.header_parse(raw, header["container_size"]) == header
    assert _native.header_write(header) == raw


def test_header_write_refuses_what_no_reader_takes(reader):
    header = reader.header
    for change in (
        {"pages_offset": header["pages_offset"] + 1},
        {"chunk_log2": 23},
        {"chunk_log2": 1 << 40},
        {"plain_size": -1},
        {"sha256": b"short"},
    ):
        with pytest.raises(ValueError):
            _native.header_write(header | change)
    with pytest.raises(KeyError):
        _native.header_write({})
    without = {name: value for name, value in header.items() if name != "sha256"}
    assert _native.header_parse(_native.header_write(without), header["container_size"])["sha256"] is None


def test_errors_have_the_rule_as_status(container, tmp_path):
    raw = container.read_bytes()
    with pytest.raises(_native.FormatError) as info:
        _native.header_parse(b"no container" * 50, 600)
    assert info.value.status == info.value.args[0] == "BAD_MAGIC"
    cut = tmp_path / "cut"
    cut.write_bytes(raw[:-1])
    with cut.open("rb") as file, pytest.raises(_native.FormatError) as info:
        _native.Reader(file.fileno())
    assert info.value.status == "TRUNCATED"
    with pytest.raises(OSError):
        _native.Reader(-1)


def test_every_chunk(reader, plain):
    codec, dst = _native.Codec(CHUNK_LOG2), bytearray(CHUNK)
    for number in range(reader.header["num_chunks"]):
        part = chunk_of(plain, number)
        view = memoryview(dst)[: len(part)]
        reader.read_chunk(codec, number, view, check_plain=True)
        assert view == part
        reader.check_chunk(codec, number)
        offset, (stored_size, kind, _, plain_hash) = reader.entry(number)
        assert offset >= 256 and stored_size <= len(part) and kind in (0, 1)
        assert plain_hash == _native.hash(part)
    for number in (reader.header["num_chunks"], 1 << 63):
        with pytest.raises(ValueError):
            reader.entry(number)
    with pytest.raises(ValueError):
        reader.read_chunk(codec, 0, bytearray(CHUNK - 1))
    with pytest.raises(ValueError):
        reader.read_chunk(_native.Codec(16), 0, dst)


def test_damage_is_found_where_it_is(container, plain):
    raw = bytearray(container.read_bytes())
    with container.open("rb") as file, _native.Reader(file.fileno()) as reader:
        offset, _ = reader.entry(1)
    raw[offset + 100] ^= 1
    container.write_bytes(raw)
    codec, dst = _native.Codec(CHUNK_LOG2), bytearray(CHUNK)
    with container.open("rb") as file, _native.Reader(file.fileno()) as reader:
        for call in (lambda: reader.check_chunk(codec, 1), lambda: reader.read_chunk(codec, 1, dst)):
            with pytest.raises(_native.FormatError, match="chunk 1") as info:
                call()
            assert info.value.status == "CHUNK_CHECKSUM"
        reader.read_chunk(codec, 0, dst, check_plain=True)
        assert dst == chunk_of(plain, 0)


def test_closed_reader(reader):
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.entry(0)
    with pytest.raises(RuntimeError, match="opened already"):
        reader.__init__(0)


def test_closing_under_readers(container):
    """close() in one thread while others read: each call ends with data or with ValueError."""
    with container.open("rb") as file:
        reader = _native.Reader(file.fileno())
    failures = []

    def read_until_closed():
        codec, dst = _native.Codec(CHUNK_LOG2), bytearray(CHUNK)
        failures.append("no ValueError")
        with pytest.raises(ValueError, match="closed"):
            while True:
                reader.read_chunk(codec, 0, dst)
        failures.pop()

    threads = [threading.Thread(target=read_until_closed) for _ in range(4)]
    for thread in threads:
        thread.start()
    reader.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert not failures


def test_codec_serves_one_thread_at_a_time(rng):
    codec, src = _native.Codec(CHUNK_LOG2), rng.bytes(64 << 20)
    dst, started, outcomes = bytearray(len(src)), threading.Barrier(2), []

    def encode():
        started.wait()
        try:
            codec.encode(src, 0, b"", 1, dst)
            outcomes.append("done")
        except RuntimeError:
            outcomes.append("refused")

    threads = [threading.Thread(target=encode) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "refused"]


def test_codec_arguments():
    codec, src = _native.Codec(16), bytes(70000)
    with pytest.raises(ValueError):
        _native.Codec(15)
    with pytest.raises(ValueError, match="dst"):
        codec.encode(src, 0, b"", 1, bytearray(69999))
    with pytest.raises(ValueError, match="segments"):
        codec.encode(src, 0, b"x" * 25, 1, bytearray(70000))
    with pytest.raises(ValueError, match="level"):
        codec.encode(src, 0, b"", 3, bytearray(70000))
    dst = bytearray(70000)
    entries = codec.encode(src, 0, b"", 1, dst)
    assert len(entries) == 2
    payload, entry = bytes(dst[: entries[0][0]]), entries[0]
    out = bytearray(b"x" * 65536)
    codec.decode(payload, 0, entry, out)
    assert out == bytes(65536)
    with pytest.raises(ValueError, match="entry"):
        codec.decode(payload + b"x", 0, entry, out)
    with pytest.raises(_native.FormatError) as info:
        codec.decode(payload, 1, entry, out)
    assert info.value.status == "CHUNK_CHECKSUM"


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535, 65536 + 256, 5 << 20])
def test_zstd_frames(rng, size):
    data = (rng.bytes(1000) * (size // 1000 + 1))[:size]
    frame = _native.zstd_compress(data)
    assert _native.zstd_decompress(frame, size) == data
    assert frame[4] & 0x3F == 0x20  # Single_Segment_flag alone
    for bad in (frame + b"x", frame + frame, frame[:-1], frame[:4], b"", b"x" + frame):
        with pytest.raises(_native.FormatError) as info:
            _native.zstd_decompress(bad, size)
        assert info.value.status == "BAD_ZSTD"
    with pytest.raises(_native.FormatError):
        _native.zstd_decompress(frame, size + 1)


def test_open_beneath(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("x")
    (tmp_path / "link").symlink_to("d/file")
    (tmp_path / "dirlink").symlink_to("d")
    top = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    below = os.open(tmp_path / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = _native.open_beneath(top, b"d/file", os.O_RDONLY)
        assert os.read(fd, 2) == b"x" and not os.get_inheritable(fd)
        os.close(fd)
        outside = [(top, b"link"), (top, b"dirlink/file"), (below, b"../d/file"), (top, b"/etc/passwd")]
        for folder, path in [*outside, (top, b"nothing")]:
            with pytest.raises(OSError):
                _native.open_beneath(folder, path, os.O_RDONLY)
        with pytest.raises(ValueError):
            _native.open_beneath(top, b"d\0/file", os.O_RDONLY)
    finally:
        os.close(top)
        os.close(below)
