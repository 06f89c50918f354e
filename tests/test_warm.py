"""`zipfs warm` on plain files: what the page cache holds afterwards, and what is told. tests/mount has mounts."""

import os
import signal
import threading
import time

import pytest
from pages import resident

from zipfs import warm as warming
from zipfs.cli import main
from zipfs.errors import UsageError
from zipfs.warm import find_files, warm

SIZE = 3_000_001


@pytest.fixture
def folder(tmp_path):
    """Three files, one in a folder below, one by a symlink alone; an empty one; a link to nothing."""
    (tmp_path / "elsewhere").write_bytes(os.urandom(SIZE))
    path = tmp_path / "folder"
    (path / "below").mkdir(parents=True)
    (path / "a").write_bytes(os.urandom(SIZE))
    (path / "again").hardlink_to(path / "a")
    (path / "below" / "b").write_bytes(os.urandom(SIZE))
    (path / "empty").touch()
    (path / "linked").symlink_to(tmp_path / "elsewhere")
    (path / "gone").symlink_to("nowhere")
    return path


def files_of(folder):
    return [folder / "a", folder / "below" / "b", folder / "linked"]


@pytest.fixture
def on_disk(folder):
    """The folder on a file system that has a page cache that can be dropped, dropped."""
    for path in files_of(folder):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if any(resident(folder / "a")):
        pytest.skip("the temporary folder is on a file system that lives in the page cache, such as tmpfs")
    return folder


@pytest.mark.parametrize("jobs", [1, 3])
def test_all_files_get_into_the_page_cache_and_out(on_disk, jobs):
    done = warm([on_disk], jobs=jobs)
    assert (done.num_files, done.size) == (4, 3 * SIZE)
    assert [error.filename for error in done.failures] == [str(on_disk / "gone")]
    assert all(all(resident(path)) for path in files_of(on_disk))
    evicted = warm([on_disk], evict=True, jobs=jobs)
    assert (evicted.num_files, evicted.size) == (4, 3 * SIZE)
    assert not any(any(resident(path)) for path in files_of(on_disk))


def test_pages_that_are_not_on_disk_yet_are_dropped_too(on_disk):
    (on_disk / "a").write_bytes(os.urandom(SIZE))
    assert all(resident(on_disk / "a"))
    warm([on_disk / "a"], evict=True)
    assert not any(resident(on_disk / "a"))


def test_a_file_named_twice_is_done_once(folder):
    names = list(find_files([folder / "linked", folder, folder / "a"], []))
    assert sorted(map(os.path.basename, names)) == ["a", "b", "empty", "linked"]


def test_progress_adds_up(folder, monkeypatch):
    monkeypatch.setattr(warming, "STEP_SIZE", 1 << 20)
    steps = []
    warm([folder], jobs=2, progress=steps.append)
    assert sum(steps) == 3 * SIZE
    assert len(steps) == 9


def test_an_error_names_its_file_and_leaves_the_others(folder, monkeypatch):
    real = os.sendfile

    def failing(out_fd, in_fd, offset, count):
        if os.path.basename(os.readlink(f"/proc/self/fd/{in_fd}")) == "a" and offset:
            raise OSError(5, "Input/output error")
        return real(out_fd, in_fd, offset, count)

    monkeypatch.setattr(warming.os, "sendfile", failing)
    done = warm([folder / "a", folder / "below"])
    assert (done.num_files, done.size) == (1, SIZE)
    assert [(error.errno, error.filename) for error in done.failures] == [(5, str(folder / "a"))]


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="fifo: is neither a file nor a folder"):
        warm([tmp_path / "fifo"])
    with pytest.raises(FileNotFoundError):
        warm([tmp_path / "none"])


def test_the_command(folder, capsys):
    assert main(["warm", str(folder)]) == 1
    assert "zipfs: " + str(folder / "gone") + ": No such file" in (said := capsys.readouterr().err)
    assert "4 files, 8.6 MiB, in the page cache" in said
    (folder / "gone").unlink()
    assert main(["warm", "--evict", "--jobs", "2", str(folder), str(folder / "a")]) == 0
    assert "4 files, 8.6 MiB, dropped from the page cache" in capsys.readouterr().err


def test_an_interrupt_ends_it_in_the_middle_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(warming, "STEP_SIZE", 1 << 20)
    with open(tmp_path / "large", "wb") as file:
        file.truncate(256 << 20)
    steps = []

    def progress(size):
        if not steps:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        steps.append(size)
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        warm([tmp_path / "large"], progress=progress)
    assert 1 <= len(steps) < 128
