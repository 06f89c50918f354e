"""The tree without a mount: what it opens, what it remembers, what it refuses."""

import errno
import os
import time

import pytest
from mounts import bf16_bytes, put

from zipfs import _native
from zipfs.tree import Tree

DATA = bf16_bytes(1, 300_000)


@pytest.fixture
def opened(monkeypatch) -> list[tuple[bytes, int]]:
    """(path, flags) of each descriptor that a tree opens in the source."""
    calls = []
    open_beneath = _native.open_beneath

    def counting(dir_fd, path, flags):
        calls.append((path, flags))
        return open_beneath(dir_fd, path, flags)

    monkeypatch.setattr(_native, "open_beneath", counting)
    return calls


@pytest.fixture
def dir_fd(source):
    dir_fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    yield dir_fd
    os.close(dir_fd)


@pytest.fixture
def tree(dir_fd):
    return Tree(dir_fd, _native.Cache(1 << 20), b"source")


def num_reads(calls) -> int:
    return sum(not flags & (os.O_PATH | os.O_DIRECTORY) for _, flags in calls)


def test_a_listing_opens_no_file_without_the_suffix(tree, source, opened):
    for i in range(50):
        (source / f"file{i}").touch()
    assert len(tree.listdir(b".")) == 50
    assert opened == [(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)]


def test_a_header_is_read_once_for_each_version(tree, source, opened):
    put(source, "weights", DATA)
    for _ in range(3):
        assert [name for name, _, _ in tree.listdir(b".")] == [b"weights"]
        assert tree.lookup(b"weights").attributes()["st_size"] == len(DATA)
    assert num_reads(opened) == 1
    put(source, "weights", DATA[:-2])
    assert tree.lookup(b"weights").attributes()["st_size"] == len(DATA) - 2
    assert num_reads(opened) == 2


def test_open_files_are_shared_by_version(tree, dir_fd, source):
    put(source, "weights", DATA)
    node = tree.lookup(b"weights")
    file = tree.open(node)
    assert tree.open(tree.lookup(b"weights")) is file
    put(source, "weights", DATA[2:])
    with pytest.raises(OSError) as caught:
        Tree(dir_fd, _native.Cache(1 << 20), b"other").open(node)
    assert caught.value.errno == errno.ESTALE
    newer = tree.open(tree.lookup(b"weights"))
    assert newer is not file
    assert (file.pread(100, 0), newer.pread(100, 0)) == (DATA[:100], DATA[2:102])


def test_files_closed_long_ago_are_given_back(dir_fd, source, monkeypatch):
    monkeypatch.setattr("zipfs.tree.IDLE_FILE_TTL_S", 0.05)
    tree = Tree(dir_fd, _native.Cache(1 << 20), b"source")
    put(source, "weights", DATA)
    before = len(os.listdir("/proc/self/fd"))
    tree.open(tree.lookup(b"weights"))
    assert len(os.listdir("/proc/self/fd")) == before + 1
    time.sleep(0.1)
    tree.statvfs()
    assert len(os.listdir("/proc/self/fd")) == before


def test_attributes_of_a_container_with_an_unreadable_header(tree, source):
    path = put(source, "weights", DATA)
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(b"\xff\xff")
    node = tree.lookup(b"weights")
    assert node.container.damage == "BAD_VERSION"
    assert node.attributes()["st_size"] == os.path.getsize(path)
