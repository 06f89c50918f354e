"""The rules by which versions of one path are kept apart, without a kernel."""

import errno
import os
import time

import pytest
from mounts import bf16_bytes, put

from zipfs import _native
from zipfs.drivers.versions import PathVersions
from zipfs.tree import Tree

PATH = b"weights"
ONE, OTHER, UNKNOWN = 11, 12, 0


@pytest.fixture
def tree(source):
    put(source, "weights", bf16_bytes(1, 100_000))
    dir_fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    yield Tree(dir_fd, _native.Cache(1 << 20), b"source")
    os.close(dir_fd)


@pytest.fixture
def versions(tree) -> PathVersions:
    return PathVersions(tree)


def expect_stale(versions, caller: int) -> None:
    with pytest.raises(OSError) as caught:
        versions.open(PATH, caller)
    assert caught.value.errno == errno.ESTALE


def test_only_a_thread_that_was_told_opens_at_once(versions, monkeypatch):
    """The answer to another thread may still be on its way: the kernel could judge and measure by older attributes."""
    expect_stale(versions, ONE)
    versions.stat(PATH, ONE)
    expect_stale(versions, OTHER)
    handle, _ = versions.open(PATH, ONE)
    versions.release(PATH, handle)
    monkeypatch.setattr("zipfs.drivers.versions.SETTLED_S", 0.05)
    time.sleep(0.06)
    handle, _ = versions.open(PATH, OTHER)
    versions.release(PATH, handle)


def test_a_thread_that_cannot_be_told_apart_waits(versions, monkeypatch):
    monkeypatch.setattr("zipfs.drivers.versions.SETTLED_S", 0.05)
    versions.stat(PATH, UNKNOWN)
    expect_stale(versions, UNKNOWN)  # and the kernel looks it up again
    versions.stat(PATH, UNKNOWN)
    handle, _ = versions.open(PATH, UNKNOWN)
    versions.release(PATH, handle)


def test_what_was_told_of_the_old_version_does_not_open_the_new(versions, source):
    versions.stat(PATH, ONE)
    put(source, "weights", bf16_bytes(2, 100_000))
    expect_stale(versions, ONE)
    versions.stat(PATH, ONE)
    handle, _ = versions.open(PATH, ONE)
    versions.release(PATH, handle)


def test_another_form_of_an_open_file_is_no_other_version(versions, tree, source):
    """Its reader goes on, and so do others: with the form that is open."""
    plain = bf16_bytes(3, 100_000)
    versions.stat(PATH, ONE)
    first, _ = versions.open(PATH, ONE)
    stored = os.stat(source / "weights.zipfs")
    os.rename(source / "weights.zipfs", source.parent / "away")
    (source / "weights").write_bytes(plain)
    os.utime(source / "weights", ns=(stored.st_atime_ns, stored.st_mtime_ns))
    os.chmod(source / "weights", stored.st_mode)
    second, keep = versions.open(PATH, ONE)
    assert second == first and keep is False, "the container still serves it"
    os.utime(source / "weights", ns=(stored.st_atime_ns, stored.st_mtime_ns + 1))
    expect_stale(versions, ONE)
    versions.release(PATH, first)
    versions.release(PATH, second)
    versions.stat(PATH, ONE)
    third, _ = versions.open(PATH, ONE)
    assert third != first
    versions.release(PATH, third)
    assert tree.open(tree.lookup(PATH)).pread(100, 0) == plain[:100]


def test_pages_are_kept_once_a_read_has_shown_that_older_ones_are_gone(versions, tree, source):
    """Of two openers of a new version, the second could overtake the order to drop pages that the first one caused."""
    for seed in (1, 2):
        put(source, "weights", bf16_bytes(seed, 100_000))
        versions.stat(PATH, ONE)
        handles = []
        for expected in (False, False):
            handle, keep = versions.open(PATH, ONE)
            handles.append(handle)
            assert keep is expected
        tree.open(tree.lookup(PATH)).pread(10, 0)
        handle, keep = versions.open(PATH, ONE)
        assert keep is True
        for opened in [*handles, handle]:
            versions.release(PATH, opened)
        handle, keep = versions.open(PATH, ONE)
        assert keep is True
        versions.release(PATH, handle)
