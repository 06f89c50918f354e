"""Names, attributes and answers of a mount: those of the plain files, read-only."""

import errno
import os
import stat
import subprocess

import pytest
from mounts import bf16_bytes, eventually, mounting, put

from zipfs.pipeline import CHUNK_LOG2

SIZE = 300_000
ODD_NAMES = [
    b"with space",
    b"new\nline",
    b"-dash",
    b"co,mma",
    "größe".encode(),
    b"\xff\xfe\x80",
    b"back\\slash",
    b"a" * 249,
    b".hidden",
]


@pytest.fixture
def weights(source):
    put(source, "weights", bf16_bytes(1, SIZE))
    os.chmod(source / "weights.zipfs", 0o640)
    os.utime(source / "weights.zipfs", ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))
    return source / "weights.zipfs"


def test_attributes_are_those_of_the_plain_file(mounted, source, weights):
    (source / "folder").mkdir()
    (source / "passed").write_bytes(b"x")
    shown, stored = os.stat(mounted(source).path / "weights"), os.stat(weights)
    assert shown.st_size == SIZE
    assert shown.st_mtime_ns == stored.st_mtime_ns == 1_500_000_000_987_654_321
    assert shown.st_mode == stored.st_mode == stat.S_IFREG | 0o640
    assert (shown.st_uid, shown.st_gid, shown.st_nlink) == (stored.st_uid, stored.st_gid, 1)
    assert shown.st_ino == stored.st_ino
    assert shown.st_blocks == stored.st_blocks < SIZE // 512
    assert shown.st_blksize == 1 << CHUNK_LOG2


def test_attributes_of_other_things(mounted, source):
    (source / "folder").mkdir(mode=0o750)
    (source / "passed").write_bytes(b"x")
    (source / "empty").touch()
    (source / "sparse").touch()
    os.truncate(source / "sparse", 10_000)
    path = mounted(source).path
    assert stat.S_IMODE(os.stat(path / "folder").st_mode) == 0o750
    assert os.stat(path / "passed").st_size == 1
    assert os.stat(path / "passed").st_blocks >= 1
    assert os.stat(path / "sparse").st_blocks == 1  # or tools take it for a hole
    assert os.stat(path / "empty").st_blocks == 0
    assert os.stat(path).st_ino == os.stat(source).st_ino


def test_inode_numbers_survive_a_remount(driver, tmp_path, source, weights):
    seen = []
    for _ in range(2):
        with mounting(driver, tmp_path, source) as mount:
            entries = {entry.name: entry.inode() for entry in os.scandir(mount.path)}
            seen.append((entries, os.stat(mount.path / "weights").st_ino))
    assert seen[0] == seen[1] == ({"weights": weights.stat().st_ino}, weights.stat().st_ino)


def test_symlinks_are_shown_as_they_are(mounted, source, weights):
    os.symlink("weights", source / "link")
    os.symlink("/nowhere/to/go", source / "dangling")
    os.symlink(b"\xff", os.fsencode(source) + b"/odd")
    path = mounted(source).path
    assert os.readlink(path / "link") == "weights"
    assert os.readlink(path / "dangling") == "/nowhere/to/go"
    assert os.readlink(os.fsencode(path) + b"/odd") == b"\xff"
    assert (path / "link").read_bytes() == bf16_bytes(1, SIZE)


def test_listings_are_complete(mounted, source):
    for name in ODD_NAMES:
        put(source, "next", b"word " * 9000)
        os.rename(source / "next.zipfs", os.fsencode(source) + b"/" + name + b".zipfs")
    many = {b"file%d" % i for i in range(1000)}
    (source / "many").mkdir()
    for name in many:
        open(os.fsencode(source) + b"/many/" + name, "wb").close()
    path = os.fsencode(mounted(source).path)
    assert sorted(os.listdir(path)) == sorted([*ODD_NAMES, b"many"])
    assert set(os.listdir(path + b"/many")) == many
    for name in ODD_NAMES:
        with open(path + b"/" + name, "rb") as file:
            assert file.read() == b"word " * 9000


def test_a_plain_file_wins_over_its_container(mounted, source, weights):
    (source / "weights").write_bytes(b"plain")
    path = mounted(source).path
    assert os.listdir(path) == ["weights"]
    assert (path / "weights").read_bytes() == b"plain"
    os.remove(source / "weights")
    assert eventually(lambda: os.stat(path / "weights").st_size == SIZE)


def test_suffix_without_magic_passes_through(mounted, source):
    (source / "notes.zipfs").write_bytes(b"no container")
    (source / "short.zipfs").write_bytes(b"\x89ZIP")
    (source / ".zipfs").write_bytes(b"\x89ZIPFS\r\n" + bytes(300))
    path = mounted(source).path
    assert sorted(os.listdir(path)) == [".zipfs", "notes.zipfs", "short.zipfs"]
    assert (path / "notes.zipfs").read_bytes() == b"no container"
    assert not (path / "notes").exists()


def test_a_container_of_a_container_keeps_its_name(mounted, source, weights):
    inner = weights.read_bytes()
    put(source, "weights.zipfs", inner)  # weights.zipfs.zipfs
    path = mounted(source).path
    assert sorted(os.listdir(path)) == ["weights", "weights.zipfs"]
    assert (path / "weights.zipfs").read_bytes() == inner


def test_writes_are_refused(mounted, source, weights):
    os.symlink("weights", source / "link")
    path = mounted(source).path
    refuse_writes(path)
    if os.geteuid() == 0:  # the mount stays read-only even where somebody with the right to makes it writable
        remounted = subprocess.run(["mount", "-i", "-o", "remount,rw,nosuid,nodev", path], capture_output=True)
        if remounted.returncode == 0:
            refuse_writes(path)


def refuse_writes(path):
    attempts = {
        "open": lambda: os.open(path / "weights", os.O_WRONLY),
        "truncate": lambda: os.truncate(path / "weights", 1),
        "create": lambda: os.open(path / "new", os.O_WRONLY | os.O_CREAT),
        "mkdir": lambda: os.mkdir(path / "new"),
        "unlink": lambda: os.unlink(path / "weights"),
        "rename": lambda: os.rename(path / "weights", path / "new"),
        "link": lambda: os.link(path / "weights", path / "new"),
        "symlink": lambda: os.symlink("weights", path / "new"),
        "chmod": lambda: os.chmod(path / "weights", 0o777),
        "utime": lambda: os.utime(path / "weights"),
        "setxattr": lambda: os.setxattr(path / "weights", "user.x", b"1"),
    }
    for name, attempt in attempts.items():
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == errno.EROFS, name


def test_xattrs(mounted, source, weights):
    mount = mounted(source)
    with pytest.raises(OSError) as caught:
        os.getxattr(mount.path / "weights", "user.unknown")
    assert caught.value.errno == errno.ENODATA
    for name in ("system.posix_acl_access", "security.selinux"):
        with pytest.raises(OSError) as caught:
            os.getxattr(mount.path / "weights", name)
        assert caught.value.errno == errno.EOPNOTSUPP
    assert os.listxattr(mount.path / "weights") == []
    assert mount.stats()["reads"] == 0
    (mount.path / "weights").read_bytes()
    assert mount.stats()["bytes_read"] >= SIZE


def test_statfs_is_the_sources(mounted, source):
    shown, real = os.statvfs(mounted(source).path), os.statvfs(source)
    assert (shown.f_frsize, shown.f_blocks, shown.f_files) == (real.f_frsize, real.f_blocks, real.f_files)
    assert shown.f_flag & os.ST_RDONLY


def test_missing_names(mounted, source, weights):
    path = mounted(source).path
    for name in ("nothing", "weights.zipfs", "weights/below", "x" * 255):
        with pytest.raises(OSError) as caught:
            os.stat(path / name)
        assert caught.value.errno in (errno.ENOENT, errno.ENOTDIR), name
