"""The session of the native driver on operations made for the test: what it makes of answers, mistakes and its end."""

import errno
import os
import select
import stat
import tempfile
import threading
import time
from pathlib import Path

import pytest
from mounts import bf16_bytes, put, why_not

from zipfs import _native
from zipfs import mountpoint as points
from zipfs.drivers import native

FOLDER = (1, 2, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 0, 4096, 0, 0, 0, 0, False)
TIMES = ("atime_ns", "mtime_ns", "ctime_ns")
FILE = (1, 3, stat.S_IFREG | 0o644, 1, 5, 6, 1000, 2, 4096, -1, 1_500_000_000_987_654_321, 9, 700, True)


class Operations:
    """A folder of one file. `answers` are given, or raised, in place of the real ones; `folder` is what it lists."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[str, object] = {}
        self.calls: list[tuple] = []

    def _answer(self, name: str, *args, default):
        self.calls.append((name, *args))
        answer = self.answers.get(name, default)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def lookup(self, path):
        if path == b"missing":
            raise FileNotFoundError(errno.ENOENT, "no such file")
        return self._answer("lookup", path, default=FOLDER if path in (b".", b"folder") else FILE)

    def list(self, path):
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return self._answer("list", path, default=_native.Headers().scan(folder, b".", b".zipfs", b"hidden"))
        finally:
            os.close(folder)

    def readlink(self, path):
        return self._answer("readlink", path, default=b"file")

    def open(self, path, key):
        return self._answer("open", path, key, default=OSError(errno.ESTALE, "stale"))

    def statfs(self):
        return self._answer("statfs", default=os.statvfs("/"))

    def stats(self):
        return self._answer("stats", default=b"{}")


@pytest.fixture
def operations(tmp_path) -> Operations:
    (tmp_path / "listed").mkdir()
    (tmp_path / "listed" / "file").touch()
    (tmp_path / "listed" / "folder").mkdir()
    return Operations(tmp_path / "listed")


@pytest.fixture
def session(operations, tmp_path):
    reason = why_not("native")
    if reason:
        pytest.skip(reason)
    (tmp_path / "mnt").mkdir()
    session = native.load().Session(operations, os.fsencode(tmp_path / "mnt"), b"ro,fsname=zipfs,subtype=zipfs", 1, 4)
    yield session
    assert session.stop()


@pytest.fixture
def mnt(session, tmp_path):
    session.start()
    return tmp_path / "mnt"


@pytest.fixture
def log():
    """Lines that were logged."""
    with tempfile.TemporaryFile() as file:
        _native.log_to_fd(file.fileno())
        yield lambda: os.pread(file.fileno(), 1 << 16, 0).decode().splitlines()
        _native.log_to_fd(2)


def errno_of(call, *args) -> int:
    with pytest.raises(OSError) as caught:
        call(*args)
    return caught.value.errno


def test_answers(mnt, operations):
    shown = os.lstat(mnt / "file")
    assert (shown.st_ino, shown.st_mode, shown.st_nlink, shown.st_uid, shown.st_gid) == (3, 0o100644, 1, 5, 6)
    assert (shown.st_size, shown.st_blocks, shown.st_blksize) == (1000, 2, 4096)
    assert (shown.st_atime_ns, shown.st_mtime_ns, shown.st_ctime_ns) == (-1, 1_500_000_000_987_654_321, 9)
    assert sorted(os.listdir(mnt)) == ["file", "folder"]
    assert (mnt / ".zipfs-stats").read_bytes() == b"{}"
    assert errno_of(os.stat, mnt / "missing") == errno.ENOENT
    assert errno_of(os.open, mnt / "file", os.O_RDONLY) == errno.ESTALE
    assert ("open", b"file", (1, 3, 700, 1_500_000_000_987_654_321, 9, 0o100644, 5, 6)) in operations.calls


def test_attributes_come_with_a_listing_once_files_are_looked_at(mnt, operations, session):
    folder = operations.folder
    (folder / "file").write_bytes(b"x" * 5000)
    os.utime(folder / "file", ns=(-1, 1_500_000_000_987_654_321))
    os.chmod(folder / "file", 0o640)
    stored = put(folder, "weights", bf16_bytes(1, 100_000))
    os.symlink("file", folder / "link")
    os.link(folder / "file", folder / "file2")
    (folder / "hidden").touch()
    names = ["file", "file2", "folder", "link", "weights"]
    before = session.num_nodes()
    assert sorted(os.listdir(mnt)) == names
    os.lstat(mnt / "folder")
    assert sorted(os.listdir(mnt)) == names
    assert session.num_nodes() == before + 1
    assert "lookup" not in [call[0] for call in operations.calls if call[1] != b"."]
    os.lstat(mnt / "other")
    assert sorted(os.listdir(mnt)) == names
    assert session.num_nodes() == before + len(names) + 1  # and the other
    operations.calls.clear()
    for name in ("file", "file2", "folder", "link"):
        found, source = os.lstat(mnt / name), os.lstat(folder / name)
        for field in ("ino", "mode", "nlink", "uid", "gid", "size", "blocks", "blksize", *TIMES):
            assert getattr(found, f"st_{field}") == getattr(source, f"st_{field}"), (name, field)
    found, source = os.lstat(mnt / "weights"), os.lstat(stored)
    assert (found.st_ino, found.st_size, found.st_blocks) == (source.st_ino, 100_000, source.st_blocks)
    looked_up = {path for call, path, *_ in operations.calls if call == "lookup"}
    assert looked_up <= {b".", b"file", b"file2"}, "but for files that may still be written"


@pytest.mark.parametrize(("age_s", "times"), [(0, 6), (60, 1)])
def test_attributes_of_what_may_still_be_written_are_asked_for_each_time(mnt, operations, age_s, times):
    """A reader who came a moment after the writer had ended found the file as short as it was before. Looking up tells
    attributes too, which are asked for at once.
    """
    operations.answers["lookup"] = (*FILE[:11], time.time_ns() - age_s * 10**9, *FILE[12:13], False)
    for _ in range(5):
        os.stat(mnt / "passed")
    assert operations.calls.count(("lookup", b"passed")) == times


@pytest.mark.parametrize(
    "answer", [KeyError("our mistake"), None, (1, 2, 3), tuple("x" * 14), (*FILE[:2], 1 << 70, *FILE[3:])]
)
def test_mistakes_are_eio_and_a_log_line(mnt, operations, log, answer):
    operations.answers["lookup"] = answer
    assert errno_of(os.stat, mnt / "other") == errno.EIO
    assert len([line for line in log() if line.startswith("lookup failed: ")]) == 1
    del operations.answers["lookup"]
    os.stat(mnt / "other")


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("list", os.listdir),
        ("statfs", os.statvfs),
        ("stats", lambda mnt: (mnt / ".zipfs-stats").read_bytes()),
        ("open", lambda mnt: os.open(mnt / "file", os.O_RDONLY)),
    ],
)
def test_wrong_answers_of_each_operation(mnt, operations, log, name, call):
    for answer in (17.5, ["wrong"], _native.api, ValueError("x")):
        operations.answers[name] = answer
        assert errno_of(call, mnt) == errno.EIO
        assert log()[-1].startswith(f"{name} failed: ")
    operations.answers[name] = OSError(errno.EDQUOT, "over quota")
    assert errno_of(call, mnt) == errno.EDQUOT


def test_threads_ask_at_once(mnt, operations):
    """In two folders: libfuse before 3.17 does not tell the kernel that those of one folder may, too."""
    os.stat(mnt / "folder")
    both = threading.Barrier(2, timeout=10)
    real_lookup = operations.lookup

    def lookup(path):
        if path.endswith(b"one of two"):
            both.wait()
        return real_lookup(path)

    operations.lookup = lookup
    threads = [threading.Thread(target=os.stat, args=(path / "one of two",)) for path in (mnt, mnt / "folder")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both.broken


def test_nodes_are_counted(mnt, session):
    before = session.num_nodes()
    for number in range(100):
        os.stat(mnt / f"file{number}")
    assert session.num_nodes() == before + 100


def test_the_end_is_told(mnt, session):
    assert select.select([session], [], [], 0) == ([], [], [])
    points.unmount(str(mnt))
    assert select.select([session], [], [], 5)[0] == [session]


def test_misuse(session, operations, tmp_path):
    session_type = type(session)
    with pytest.raises(ValueError, match="needs a thread"):
        session_type(operations, b"/nowhere", b"ro", 1, 0)
    with pytest.raises(OSError, match="Invalid argument"):
        session_type(operations, b"/nowhere", b"no_such_option", 1, 1)
    with pytest.raises(OSError):
        session_type(operations, os.fsencode(tmp_path / "none"), b"ro", 1, 1).start()
    session.start()
    with pytest.raises(OSError, match="Invalid argument"):
        session.start()
    assert session.stop()
    for method in (session.start, session.fileno, session.num_nodes):
        with pytest.raises(ValueError, match="has ended"):
            method()
