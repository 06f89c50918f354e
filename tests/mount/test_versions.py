"""What changes in the source shows up, and versions of one path never mix."""

import errno
import mmap
import os
import threading

import pytest
from mounts import BINDINGS, bf16_bytes, drop_pages, eventually, put

SIZE = 2_000_000
OLD, NEW = bf16_bytes(1, SIZE), bf16_bytes(2, SIZE - 100_001)


@pytest.fixture
def mount(mounted, source):
    put(source, "weights", OLD)
    return mounted(source)


def size_of(path) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def test_new_files_appear(mount, source):
    assert size_of(mount.path / "late") is None
    put(source, "late", NEW)
    assert eventually(lambda: size_of(mount.path / "late") == len(NEW))
    assert "late" in os.listdir(mount.path)
    assert (mount.path / "late").read_bytes() == NEW


def test_removed_files_go(mount, source):
    assert (mount.path / "weights").read_bytes() == OLD
    os.remove(source / "weights.zipfs")
    assert eventually(lambda: size_of(mount.path / "weights") is None)
    assert os.listdir(mount.path) == []


def test_a_replaced_file_is_new_at_the_next_open(mount, source):
    for data in (OLD, NEW, OLD):
        put(source, "weights", data)
        assert (mount.path / "weights").read_bytes()[: len(data)] == data  # no wait: not even pages of the old one
        assert eventually(lambda data=data: size_of(mount.path / "weights") == len(data))


def test_a_file_of_equal_size_and_mtime_is_still_another_version(mount, source):
    """The kernel cannot tell by itself that its pages are of another file."""
    assert (mount.path / "weights").read_bytes() == OLD
    times = os.stat(source / "weights.zipfs")
    other = bf16_bytes(3, SIZE)
    put(source, "weights", other)
    os.utime(source / "weights.zipfs", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (mount.path / "weights").read_bytes() == other


@pytest.mark.parametrize("driver", BINDINGS, indirect=True)
def test_a_new_version_waits_for_the_end_of_the_old(mount, source):
    path = mount.path / "weights"
    with open(path, "rb", buffering=0) as old, mmap.mmap(old.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert old.read(100_000) == OLD[:100_000]
        put(source, "weights", NEW)
        for offset in range(0, SIZE, 500_000):
            with pytest.raises(OSError) as caught:
                open(path, "rb")
            assert caught.value.errno == errno.ESTALE
            assert os.pread(old.fileno(), 500_000, offset) == OLD[offset : offset + 500_000]
            assert mapped[offset : offset + 4096] == OLD[offset : offset + 4096]
            assert os.fstat(old.fileno()).st_size == SIZE
            assert size_of(path) == SIZE
        os.posix_fadvise(old.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert mapped[:] == OLD
    assert len(mount.log_lines("weights", "replaced")) == 1
    assert path.read_bytes() == NEW
    assert eventually(lambda: size_of(path) == len(NEW))


@pytest.mark.parametrize("driver", BINDINGS, indirect=True)
def test_a_mapping_alone_keeps_a_new_version_waiting(mount, source):
    path = mount.path / "weights"
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    put(source, "weights", NEW)
    with pytest.raises(OSError) as caught:
        open(path, "rb")
    assert caught.value.errno == errno.ESTALE
    assert mapped[:] == OLD
    mapped.close()
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("driver", ["native"], indirect=True)
def test_versions_are_read_side_by_side(mount, source):
    path = mount.path / "weights"
    with open(path, "rb", buffering=0) as old, mmap.mmap(old.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert old.read(100_000) == OLD[:100_000]
        put(source, "weights", NEW)
        with open(path, "rb", buffering=0) as new:
            assert os.fstat(new.fileno()).st_ino == os.stat(source / "weights.zipfs").st_ino
            for offset in range(0, SIZE, 500_000):
                assert os.pread(new.fileno(), 500_000, offset) == NEW[offset : offset + 500_000]
                assert os.pread(old.fileno(), 500_000, offset) == OLD[offset : offset + 500_000]
                assert mapped[offset : offset + 4096] == OLD[offset : offset + 4096]
            assert (os.fstat(old.fileno()).st_size, os.fstat(new.fileno()).st_size) == (SIZE, len(NEW))
            assert size_of(path) == len(NEW)
            os.posix_fadvise(old.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            drop_pages(path)
            assert mapped[:] == OLD
            assert new.read() == NEW
    assert mount.log_lines("weights") == []


@pytest.mark.parametrize("driver", ["native"], indirect=True)
def test_a_mapping_alone_holds_its_version(mount, source):
    path = mount.path / "weights"
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    put(source, "weights", NEW)
    assert path.read_bytes() == NEW
    assert mapped[:] == OLD
    mapped.close()


@pytest.mark.parametrize("driver", ["native"], indirect=True)
def test_many_versions_are_open_at_once(mount, source):
    path = mount.path / "weights"
    files = []
    for i in range(8):
        data = bf16_bytes(100 + i, 300_000 + i)
        put(source, "weights", data)
        files.append((open(path, "rb", buffering=0), data))
    for file, data in files:
        with file:
            assert file.read() == data


def test_an_open_file_outlives_its_source(mount, source):
    with open(mount.path / "weights", "rb") as file:
        os.remove(source / "weights.zipfs")
        assert eventually(lambda: size_of(mount.path / "weights") is None)
        put(source, "weights", NEW)
        assert file.read() == OLD
    assert eventually(lambda: size_of(mount.path / "weights") == len(NEW))
    assert (mount.path / "weights").read_bytes() == NEW


def test_readers_during_replacements_see_one_version_each(mount, source, tmp_path):
    """Opens and reads while the source is replaced again and again: all of one version, or a clean ESTALE or ENOENT."""
    failures, reads = [], 0
    done = threading.Event()

    def read() -> None:
        nonlocal reads
        while not done.is_set():
            try:
                data = (mount.path / "weights").read_bytes()
            except OSError as error:
                if error.errno not in (errno.ESTALE, errno.ENOENT):
                    failures.append(error)
            else:
                reads += 1
                if data not in (OLD, NEW):
                    failures.append(f"{len(data)} bytes of no version")

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for i in range(20):
        put(source, "weights", (NEW, OLD)[i % 2], tmp_path / "next")
    done.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert reads


def test_a_growing_plain_file_shows_its_new_length(mount, source):
    (source / "log").write_bytes(b"one")
    assert (mount.path / "log").read_bytes() == b"one"
    with open(source / "log", "ab") as file:
        file.write(b"two")
    assert eventually(lambda: size_of(mount.path / "log") == 6)
    assert (mount.path / "log").read_bytes() == b"onetwo"


@pytest.mark.parametrize("driver", ["native"], indirect=True)
def test_a_growing_plain_file_is_followed(mount, source):
    (source / "log").write_bytes(b"one")
    with open(mount.path / "log", "rb", buffering=0) as follower:
        assert follower.read() == b"one"
        with open(source / "log", "ab") as file:
            file.write(b"two")
        assert eventually(lambda: os.fstat(follower.fileno()).st_size == 6)
        assert follower.read() == b"two"


def test_a_plain_file_rewritten_in_place_is_new_at_the_next_open(mount, source):
    """Of equal length, so that nothing but the times tells the kernel."""
    path = source / "plain"
    for byte in (b"a", b"b", b"c"):
        with open(path, "r+b" if path.exists() else "wb") as file:
            file.write(byte * 100_000)
        assert (mount.path / "plain").read_bytes() == byte * 100_000
