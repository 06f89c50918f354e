"""The tree without a mount: what it opens, what it remembers, what it refuses."""

import errno
import os
import time
from pathlib import Path

import pytest
from mounts import bf16_bytes, put

from zipfs import _native
from zipfs.tree import STATS, Tree

DATA = bf16_bytes(1, 300_000)


@pytest.fixture
def dir_fd(source):
    dir_fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    yield dir_fd
    os.close(dir_fd)


@pytest.fixture
def tree(dir_fd):
    return Tree(dir_fd, _native.Cache(1 << 20), b"source")


def test_a_listing_opens_no_file_without_the_suffix(tree, source):
    for i in range(50):
        (source / f"file{i}").touch()
    assert len(tree.listdir(b".")) == 50
    assert tree._headers.num_reads == 0


def test_a_header_is_read_once_for_each_version(tree, source):
    put(source, "weights", DATA)
    for _ in range(3):
        assert [name for name, _ in tree.listdir(b".")] == [b"weights"]
        assert tree.lookup(b"weights").shown.size == len(DATA)
    assert tree._headers.num_reads == 1
    put(source, "weights", DATA[:-2])
    assert tree.lookup(b"weights").shown.size == len(DATA) - 2
    assert tree._headers.num_reads == 2


def test_a_listing_tells_what_lookups_tell(tree, source):
    (source / "folder" / "deeper").mkdir(parents=True)
    put(source / "folder", "weights", DATA, source.parent)
    put(source / "folder", "both", DATA, source.parent)
    (source / "folder" / "both").write_bytes(b"plain")
    (source / "folder" / "short.zipfs").write_bytes(b"x")
    os.symlink("weights", source / "folder" / "link")
    os.mkfifo(source / "folder" / "fifo")
    listed = dict(tree.listdir(b"folder"))
    assert sorted(listed) == [b"both", b"deeper", b"link", b"short.zipfs", b"weights"]
    for name, node in listed.items():
        found = tree.lookup(b"folder/" + name)
        assert (node.path, node.identity, node.is_container) == (found.path, found.identity, found.is_container), name
        assert node.shown._replace(atime_ns=0) == found.shown._replace(atime_ns=0), name
    assert tree.lookup(b"folder").stat.ino == dict(tree.listdir(b"."))[b"folder"].stat.ino
    with pytest.raises(NotADirectoryError):
        tree.listdir(b"folder/both")


def test_what_a_folder_shows(tree, source):
    """Of several names for one, what is no container wins, of whatever kind; the stats file is the driver's."""
    put(source, "weights", DATA)
    for kind, make in {"file": Path.touch, "folder": Path.mkdir, "link": lambda path: path.symlink_to("x")}.items():
        put(source, kind, DATA)
        make(source / kind)
    put(source, "a fifo is not shown", DATA)
    os.mkfifo(source / "a fifo is not shown")
    put(source, os.fsdecode(STATS), DATA)
    (source / ".zipfs").touch()
    shown = {name: node.is_container for name, node in tree.listdir(b".")}
    names = (b"weights", b"a fifo is not shown", b"file", b"folder", b"link", b".zipfs")
    assert shown == {name: name in names[:2] for name in names}
    assert {name: tree.lookup(name).is_container for name in names} == shown


def test_many_names(tree, source):
    """Each of 300 containers finds its place beside its plain file, or not."""
    container = put(source, "n0", DATA).read_bytes()
    for number in range(300):
        (source / f"n{number}.zipfs").write_bytes(container)
        if number % 3 == 0:
            (source / f"n{number}").touch()
    assert {name: node.is_container for name, node in tree.listdir(b".")} == {
        b"n%d" % number: number % 3 != 0 for number in range(300)
    }


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
    assert node.is_container
    assert node.shown.size == os.path.getsize(path)
