"""zipfs.open(): the plain file as a binary file object."""

import io
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from models import all_dtypes, safetensors_bytes, weights

import zipfs
from zipfs.pipeline import CHUNK_LOG2


@pytest.fixture
def pair(rng, tmp_path):
    """Plain bytes and the path of their container."""
    data = safetensors_bytes(all_dtypes(rng, rows=4000))
    (tmp_path / "x").write_bytes(data)
    zipfs.compress(tmp_path / "x", tmp_path / "x.zipfs")
    return data, tmp_path / "x.zipfs"


def test_reads_like_the_plain_file(rng, pair):
    data, path = pair
    with zipfs.open(path) as file, io.BytesIO(data) as plain:
        assert (file.size, file.readable(), file.seekable(), file.writable()) == (len(data), True, True, False)
        for _ in range(300):
            offset, size = int(rng.integers(0, len(data) + 10)), int(rng.integers(0, 600_000))
            assert file.seek(offset) == plain.seek(offset) == file.tell()
            assert file.read(size) == plain.read(size)
            buffer = bytearray(int(rng.integers(0, 1000)))
            expected = bytearray(len(buffer))
            assert file.readinto(buffer) == plain.readinto(expected)
            assert buffer == expected
        for offset, whence in ((-1000, os.SEEK_END), (500, os.SEEK_CUR), (0, os.SEEK_SET)):
            assert file.seek(offset, whence) == plain.seek(offset, whence)
            assert file.read(100) == plain.read(100)
        file.seek(12345)
        assert file.read() == data[12345:] and file.read() == b""


def test_pread_of_many_threads(rng, pair):
    data, path = pair
    places = [(int(rng.integers(0, 400_000)), int(rng.integers(0, len(data) + 1000))) for _ in range(400)]
    with zipfs.open(path) as file, ThreadPoolExecutor(8) as pool:
        position = file.seek(77)
        for (size, offset), found in zip(places, pool.map(lambda place: file.pread(*place), places), strict=True):
            assert found == data[offset : offset + size]
        assert file.tell() == position


def test_safetensors_and_buffering_on_top(pair):
    data, path = pair
    with io.BufferedReader(zipfs.open(path)) as file:
        size = int.from_bytes(file.read(8), "little")
        assert file.read(size) == data[8 : 8 + size]
        assert file.peek(1)[:1] == data[8 + size : 9 + size]


def test_plain_files_open_as_they_are(tmp_path):
    (tmp_path / "x").write_bytes(b"abcdef")
    with zipfs.open(tmp_path / "x") as file:
        assert (file.pread(3, 2), file.read(), file.size) == (b"cde", b"abcdef", 6)


@pytest.mark.parametrize("size", [0, 1])
def test_tiny(tmp_path, size):
    (tmp_path / "x").write_bytes(b"x" * size)
    zipfs.compress(tmp_path / "x", tmp_path / "x.zipfs")
    with zipfs.open(str(tmp_path / "x.zipfs")) as file:
        assert (file.read(), file.size) == (b"x" * size, size)


def test_damage_names_chunk_and_range_and_spares_the_rest(rng, tmp_path):
    data = weights(rng, "BF16", 1 << 20)
    (tmp_path / "x").write_bytes(data)
    zipfs.compress(tmp_path / "x", path := tmp_path / "x.zipfs")
    with open(path, "r+b") as file:
        file.seek(256 + path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    with zipfs.open(path) as file:
        with pytest.raises(zipfs.CorruptError, match=r"x\.zipfs: damaged chunk \d+, plain bytes") as caught:
            file.read()
        error = caught.value
        assert error.end - error.start == 1 << CHUNK_LOG2
        with pytest.raises(zipfs.CorruptError):
            file.readinto(bytearray(len(data)))
        assert file.pread(error.start, 0) == data[: error.start]
        assert file.pread(len(data), error.end) == data[error.end :]


def test_errors(pair, tmp_path):
    _, path = pair
    file = zipfs.open(path)
    for offset, whence in ((-1, 0), (-(1 << 40), 2)):
        with pytest.raises(OSError):
            file.seek(offset, whence)
    with pytest.raises(ValueError):
        file.seek(0, 7)
    with pytest.raises(TypeError):
        file.seek(1.5)
    with pytest.raises(OSError):
        file.seek(1 << 63)
    assert file.tell() == 0
    with pytest.raises(io.UnsupportedOperation, match="reading only"):
        file.write(b"x")
    file.close()
    for use in (file.read, file.tell, lambda: file.pread(1, 0), lambda: file.size):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(FileNotFoundError):
        zipfs.open(tmp_path / "missing")
    (tmp_path / "torn.zipfs").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(zipfs.FormatError, match="torn.zipfs") as caught:
        zipfs.open(tmp_path / "torn.zipfs")
    assert caught.value.status == "TRUNCATED" and "damaged container" in str(caught.value)
    newer = bytearray(path.read_bytes())
    newer[8] += 1
    (tmp_path / "newer.zipfs").write_bytes(newer)
    with pytest.raises(zipfs.FormatError, match=r"newer.zipfs: needs a newer zipfs: container \(BAD_VERSION\)"):
        zipfs.open(tmp_path / "newer.zipfs")


def test_no_descriptor_is_leaked(pair, tmp_path):
    _, path = pair
    (tmp_path / "torn.zipfs").write_bytes(path.read_bytes()[:1000])
    zipfs.open(path).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        zipfs.open(path).close()
        with pytest.raises(zipfs.FormatError):
            zipfs.open(tmp_path / "torn.zipfs")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_forked_process_reads_while_the_parent_reads(pair):
    plain, path = pair
    file = zipfs.open(path)
    stop = threading.Event()

    def read():
        while not stop.is_set():
            file.pread(len(plain), 0)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(read), pool.submit(read)
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                same = False
                try:
                    with zipfs.open(path) as own:
                        same = own.pread(len(plain), 0) == plain and file.pread(len(plain), 0) == plain
                finally:
                    os._exit(0 if same else 1)
            status = os.waitpid(pid, 0)[1]
            if status:
                break
        stop.set()
    assert status == 0
