"""How outputs get to disk and to their names, where something is in the way."""

import errno
import os
import stat
import subprocess
import threading
from types import SimpleNamespace

import pytest

import zipfs
from zipfs import batch, output
from zipfs.errors import FailuresError


@pytest.fixture
def src(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(b"text " * 1000)
    return folder


def failing_fsync(monkeypatch, code):
    """fsync of folders fails, that of files works."""
    fsync = os.fsync

    def fail(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)


def test_a_failed_sync_names_every_file_of_the_batch(src, tmp_path, monkeypatch):
    def fail(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(batch, "sync_file_system", fail)
    with pytest.raises(FailuresError) as caught:
        zipfs.compress(src, dst := tmp_path / "dst")
    assert sorted(error.filename for error in caught.value.failures) == [str(dst / f"{name}.zipfs") for name in "abc"]
    assert os.listdir(dst) == []


def test_folders_that_cannot_be_synced_on_their_own(src, tmp_path, monkeypatch):
    failing_fsync(monkeypatch, errno.EINVAL)
    syncs = []
    monkeypatch.setattr(os, "sync", lambda: syncs.append(1))
    zipfs.compress(src / "a", tmp_path / "a.zipfs")
    assert syncs == [1]


def test_a_folder_that_fails_to_reach_the_disk_is_named(src, tmp_path, monkeypatch):
    failing_fsync(monkeypatch, errno.EIO)
    with pytest.raises(FailuresError) as caught:
        zipfs.compress(src, dst := tmp_path / "dst")
    assert [error.filename for error in caught.value.failures] == [str(dst)]  # tmp_path was synced along with the files
    assert len(os.listdir(dst)) == 3


@pytest.mark.parametrize(("uid", "gid", "expected"), [(0, 0, 0o6755), (1, 0, 0o2755), (0, 1, 0o4755), (1, 1, 0o755)])
def test_another_owner_lends_nobody_his_rights(tmp_path, uid, gid, expected):
    """uid, gid: by how much the source's owner and group differ from those of the output."""
    made = output.Output(str(tmp_path / "x"), force=False)
    made.create()
    mine = os.fstat(made.fd)
    times = {"st_atime_ns": 0, "st_mtime_ns": 0}
    status = SimpleNamespace(st_mode=0o106755, st_uid=mine.st_uid + uid, st_gid=mine.st_gid + gid, **times)
    made.copy_mode_and_times(status)
    assert stat.S_IMODE(os.fstat(made.fd).st_mode) == expected
    made.discard()


@pytest.mark.parametrize("folder", [False, True])
def test_leftovers_beside_a_single_output_are_removed(src, tmp_path, folder):
    with subprocess.Popen(["true"]) as process:
        dead = process.pid
    (dst := tmp_path / "dst").mkdir()
    (dst / f".a.zipfs.{dead}.zipfs-tmp").write_bytes(b"torn")
    zipfs.compress(src / "a", dst if folder else dst / "a.zipfs")
    assert os.listdir(dst) == ["a.zipfs"]
    (dst / f".a.{dead}.zipfs-tmp").write_bytes(b"torn")
    (dst / f".b.{dead}.zipfs-tmp").write_bytes(b"of another file")
    zipfs.decompress(dst / "a.zipfs", dst if folder else dst / "a")
    assert sorted(os.listdir(dst)) == [f".b.{dead}.zipfs-tmp", "a", "a.zipfs"]


@pytest.mark.parametrize("target", ["a.zipfs", ""])
def test_an_interrupt_right_after_the_file_is_made(src, tmp_path, monkeypatch, target):
    (dst := tmp_path / "dst").mkdir()
    create = output._create

    def interrupted(temporary, path):
        os.close(create(temporary, path))
        raise KeyboardInterrupt

    monkeypatch.setattr(output, "_create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        zipfs.compress(src / "a", dst / target)
    assert os.listdir(dst) == []


def test_folders_are_never_replaced(src, tmp_path):
    os.symlink("a", src / "link")
    dst = tmp_path / "dst"
    for name in ("a.zipfs", "b", "link"):
        (dst / name).mkdir(parents=True)
    with pytest.raises(FailuresError) as caught:
        zipfs.compress(src, dst, force=True)
    told = sorted(str(error) for error in caught.value.failures)
    assert told == [
        f"{dst / name}: is a folder, which nothing replaces; move it away" for name in ("a.zipfs", "b", "link")
    ]
    assert sorted(os.listdir(dst)) == ["a.zipfs", "b", "c.zipfs", "link"]


@pytest.fixture
def pairs(src, monkeypatch):
    """Batches of two files of six."""
    for name in ("d", "e", "f"):
        (src / name).write_bytes(b"text " * 1000)
    monkeypatch.setattr(batch.Batch, "MAX_WAITING", 2)
    return src


def test_files_are_made_while_others_get_to_disk(pairs, tmp_path, monkeypatch):
    """The first sync ends when the fourth file is begun, and until then nothing has its name."""
    dst = tmp_path / "dst"
    begun, seen = threading.Event(), []
    sync, create = batch.sync_file_system, output.Output.create

    def wait(fd):
        assert begun.wait(30), "nobody went on"
        seen.append(sorted(name for name in os.listdir(dst) if not name.startswith(".")))
        sync(fd)

    def note(made):
        create(made)
        if made.path.endswith("d.zipfs"):
            begun.set()

    monkeypatch.setattr(batch, "sync_file_system", wait)
    monkeypatch.setattr(output.Output, "create", note)
    zipfs.compress(pairs, dst)
    assert seen[:2] == [[], ["a.zipfs", "b.zipfs"]]
    assert sorted(os.listdir(dst)) == [f"{name}.zipfs" for name in "abcdef"]


def test_a_sync_that_fails_ahead_names_its_files(pairs, tmp_path, monkeypatch):
    sync, calls = batch.sync_file_system, []

    def fail(fd):
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(fd)

    monkeypatch.setattr(batch, "sync_file_system", fail)
    with pytest.raises(FailuresError) as caught:
        zipfs.compress(pairs, dst := tmp_path / "dst")
    assert sorted(error.filename for error in caught.value.failures) == [str(dst / f"{name}.zipfs") for name in "cd"]
    assert sorted(os.listdir(dst)) == [f"{name}.zipfs" for name in "abef"]


def test_an_interrupt_while_files_get_to_disk_leaves_none(pairs, tmp_path, monkeypatch):
    create = output.Output.create

    def interrupted(made):
        create(made)
        if made.path.endswith("d.zipfs"):
            raise KeyboardInterrupt

    monkeypatch.setattr(output.Output, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        zipfs.compress(pairs, dst := tmp_path / "dst")
    assert os.listdir(dst) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "zipfs-sync"]
