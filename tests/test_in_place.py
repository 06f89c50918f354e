"""Files replaced where they are: what is kept, what is left alone, and kills at any moment."""

import contextlib
import errno
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import MTIME_NS, fill, listing, put

import zipfs
from zipfs import batch, replacement
from zipfs.cli import main
from zipfs.errors import FailuresError
from zipfs.in_place_run import compress_in_place, decompress_in_place

TEXT = b"text " * 10_000


@pytest.fixture
def tree(rng, tmp_path) -> Path:
    fill(tmp_path / "tree", rng)
    return tmp_path / "tree"


def sorted_names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def shown(folder: Path) -> dict[bytes, bytes | None]:
    """What a mount of the folder would show of everything but leftovers, by path."""
    found = {}
    for name, what in listing(folder).items():
        if name.endswith(b".zipfs-tmp"):
            continue
        if not name.endswith(b".zipfs") or what[5] is None:
            found[name] = what[5]
        elif name.removesuffix(b".zipfs") not in found:
            with zipfs.open(folder / os.fsdecode(name)) as file:
                found.setdefault(name.removesuffix(b".zipfs"), file.read())
    return found


def test_everything_is_kept_on_the_way_there_and_back(tree):
    before = listing(tree)
    assert compress_in_place(tree).notes == ()
    packed = listing(tree)
    kept = {b"noise.bin", b"empty", b"link", b"sub/broken", b"n" * 250}
    for name, what in before.items():
        if name in kept or what[5] is None:
            assert packed.pop(name) == what
        else:
            mode_to_xattrs, links = what[:5], tuple(link + b".zipfs" for link in what[6])
            found = packed.pop(name + b".zipfs")
            assert (found[:5], found[6]) == (mode_to_xattrs, links), name
    assert packed == {}
    packed = listing(tree)
    assert compress_in_place(tree).notes == ()
    assert listing(tree) == packed
    assert decompress_in_place(tree).notes == ()
    assert listing(tree) == before
    assert (tree / "sub/holes").stat().st_blocks * 512 < 1 << 20


def test_a_single_file(tmp_path, capsys):
    put(tmp_path / "a", TEXT)
    put(tmp_path / "b", TEXT)
    assert main(["compress", "--in-place", str(tmp_path / "a")]) == 0
    assert sorted_names(tmp_path) == ["a.zipfs", "b"]
    assert main(["decompress", "--in-place", str(tmp_path / "a.zipfs")]) == 0
    assert (tmp_path / "a").read_bytes() == TEXT and sorted_names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").stat().st_mtime_ns == MTIME_NS
    os.symlink("a", tmp_path / "link")
    assert main(["compress", "--in-place", str(tmp_path / "link")]) == 2
    assert "is a symlink; name the file" in capsys.readouterr().err
    assert main(["compress", "--in-place", str(tmp_path / "missing")]) == 1
    assert "missing: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[command, *rest] for command in ("compress", "decompress") for rest in (["{}"], ["--in-place", "{}", "dst"])]
    + [["compress", "--in-place", "--force", "{}"], ["compress", "--in-place", "--base", "x", "{}"]],
)
def test_wrong_usage(tmp_path, arguments, capsys):
    put(tmp_path / "src/a", TEXT)
    assert main([argument.format(tmp_path / "src") for argument in arguments]) == 2
    assert "in-place" in capsys.readouterr().err
    assert sorted_names(tmp_path / "src") == ["a"]


def test_one_that_is_open_for_writing_is_left_alone(tmp_path, capsys):
    for name in ("a", "mapped", "open"):
        put(tmp_path / name, TEXT)
    with open(tmp_path / "mapped", "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    with mapped, open(tmp_path / "open", "ab"):
        assert main(["compress", "--in-place", str(tmp_path)]) == 0
    assert sorted_names(tmp_path) == ["a.zipfs", "mapped", "open"]
    told = capsys.readouterr().err
    for name in ("mapped", "open"):
        assert f"{tmp_path / name}: is open for writing; left as it is" in told
    compress_in_place(tmp_path)
    assert sorted_names(tmp_path) == ["a.zipfs", "mapped.zipfs", "open.zipfs"]


def test_who_opens_a_file_for_writing_meanwhile_gets_it(tmp_path, monkeypatch):
    put(tmp_path / "a", TEXT)
    put(tmp_path / "b", TEXT)
    write, waited = replacement.Replacement.write, []

    def append():
        begin = time.monotonic()
        with open(tmp_path / "a", "ab") as file:
            waited.append(time.monotonic() - begin)
            file.write(b"more")

    def interrupted(self, buffer, offset):
        if self.path == str(tmp_path / "a.zipfs") and not writer.is_alive():
            writer.start()
            time.sleep(0.2)
        write(self, buffer, offset)

    writer = threading.Thread(target=append)
    monkeypatch.setattr(replacement.Replacement, "write", interrupted)
    summary = compress_in_place(tmp_path)
    writer.join()
    assert (tmp_path / "a").read_bytes() == TEXT + b"more"
    assert sorted_names(tmp_path) == ["a", "b.zipfs"]
    assert [note.split(": ")[1] for note in summary.notes] == ["somebody began to write to it; left as it is"]
    assert 0.1 < waited[0] < 40  # less than /proc/sys/fs/lease-break-time


def at_step(monkeypatch, function: str, number: int, action: Callable[[], None]) -> None:
    """Has `action` run right before the numbered call of this function of os, from 1."""
    real, calls = getattr(os, function), [0]

    def stepped(*args, **options):
        calls[0] += 1
        if calls[0] == number:
            action()
        return real(*args, **options)

    monkeypatch.setattr(os, function, stepped)


@pytest.mark.parametrize(("function", "step"), [("fsync", 1), ("rename", 2)])
def test_who_begins_to_write_late_gets_the_file(tmp_path, monkeypatch, function, step):
    """Before the container gets its name, and before the plain file goes."""
    put(tmp_path / "a", TEXT)

    def begin():
        with pytest.raises(BlockingIOError):
            os.open(tmp_path / "a", os.O_WRONLY | os.O_NONBLOCK)

    at_step(monkeypatch, function, step, begin)
    summary = compress_in_place(tmp_path)
    assert summary.notes == (f"{tmp_path / 'a'}: somebody began to write to it; left as it is",)
    assert sorted_names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == TEXT


@pytest.mark.parametrize(("function", "step"), [("pwrite", 1), ("rename", 1), ("rename", 2)])
def test_one_that_is_replaced_meanwhile_is_left_alone(tmp_path, monkeypatch, function, step):
    """While it is compressed, before the container gets its name, and before the plain file goes."""
    put(tmp_path / "a", TEXT)
    put(tmp_path / "new/a", b"new")
    at_step(monkeypatch, function, step, lambda: os.replace(tmp_path / "new/a", tmp_path / "a"))
    summary = compress_in_place(tmp_path)
    assert summary.notes == (f"{tmp_path / 'a'}: changed meanwhile; left as it is",)
    assert sorted_names(tmp_path) == ["a", "new"] and (tmp_path / "a").read_bytes() == b"new"


def test_one_that_gets_a_link_meanwhile_is_left_alone(tmp_path, monkeypatch):
    put(tmp_path / "tree/a", TEXT)
    at_step(monkeypatch, "rename", 2, lambda: os.link(tmp_path / "tree/a", tmp_path / "b"))
    summary = compress_in_place(tmp_path / "tree")
    assert summary.notes == (f"{tmp_path / 'tree/a'}: changed meanwhile; left as it is",)
    assert sorted_names(tmp_path / "tree") == ["a"]
    assert os.path.samefile(tmp_path / "tree/a", tmp_path / "b")


def test_one_that_is_removed_meanwhile_is_gone(tmp_path, monkeypatch):
    put(tmp_path / "a", TEXT)
    at_step(monkeypatch, "rename", 2, lambda: os.remove(tmp_path / "a"))
    summary = compress_in_place(tmp_path)
    assert [note.split(": ")[1] for note in summary.notes] == ["was moved or removed meanwhile; left as it is"]
    assert sorted_names(tmp_path) == []


def test_files_that_vanish_are_no_failures(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        put(tmp_path / name, TEXT)
    at_step(monkeypatch, "rename", 1, lambda: os.remove(tmp_path / "c"))
    monkeypatch.setattr(batch.Batch, "MAX_WAITING", 1)
    assert compress_in_place(tmp_path).notes == ()
    assert sorted_names(tmp_path) == ["a.zipfs", "b.zipfs"]


def test_who_replaces_a_file_again_and_again_never_loses_the_last(tmp_path):
    """A downloader that renames over the name, against runs in both directions."""
    (tmp_path / "new").mkdir()
    last, ends = b"", time.monotonic() + 3

    def replace():
        nonlocal last
        number = 0
        while time.monotonic() < ends:
            number += 1
            last = b"%d " % number * 500
            (tmp_path / "new/a").write_bytes(last)
            os.replace(tmp_path / "new/a", tmp_path / "tree/a")
            time.sleep(0.002 * (number % 7))

    put(tmp_path / "tree/a", TEXT)
    writer = threading.Thread(target=replace)
    writer.start()
    while writer.is_alive():
        compress_in_place(tmp_path / "tree")
    writer.join()
    assert shown(tmp_path / "tree") == {b".": None, b"a": last}


def test_hard_links_elsewhere(tmp_path):
    put(tmp_path / "tree/a", TEXT)
    put(tmp_path / "tree/b", TEXT)
    os.link(tmp_path / "tree/a", tmp_path / "outside")
    summary = compress_in_place(tmp_path / "tree")
    assert summary.notes == (f"{tmp_path / 'tree/a'}: has hard links elsewhere; left as it is",)
    assert sorted_names(tmp_path / "tree") == ["a", "b.zipfs"]
    assert os.path.samefile(tmp_path / "tree/a", tmp_path / "outside")


def test_the_containers_name_is_taken(tmp_path):
    put(tmp_path / "a", TEXT)
    put(tmp_path / "other", b"other " * 1000)
    zipfs.compress(tmp_path / "other", tmp_path / "a.zipfs")
    for run in (compress_in_place, decompress_in_place):
        summary = run(tmp_path)
        assert [note.split(": ")[1] for note in summary.notes if "as well" in note] == [
            f"{tmp_path / name} is there as well, with other bytes; left as it is"
            for name in (["a.zipfs"] if run is compress_in_place else ["a"])
        ]
    assert (tmp_path / "a").read_bytes() == TEXT
    with zipfs.open(tmp_path / "a.zipfs") as file:
        assert file.read() == b"other " * 1000


def test_damaged_containers_are_failures_and_stay(tmp_path):
    for name in ("a", "b"):
        put(tmp_path / name, TEXT)
    compress_in_place(tmp_path)
    damaged = bytearray((tmp_path / "a.zipfs").read_bytes())
    damaged[300] ^= 1
    put(tmp_path / "a.zipfs", damaged)
    with pytest.raises(FailuresError, match="a.zipfs: damaged chunk 0"):
        decompress_in_place(tmp_path)
    assert sorted_names(tmp_path) == ["a.zipfs", "b"]
    assert (tmp_path / "a.zipfs").read_bytes() == damaged


STEPS = ["rename", "link", "unlink", "pwrite", "fchown", "fchmod", "utime", "setxattr", "fsync"]


def killed_at(number: int, run: Callable, path: Path) -> bool:
    """Runs it in a process that is killed right after its numbered step; False when it ended before."""
    pid = os.fork()
    if pid == 0:
        calls = 0

        def killing(real):
            def step(*args, **options):
                nonlocal calls
                result = real(*args, **options)
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return step

        for name in STEPS:
            setattr(os, name, killing(getattr(os, name)))
        batch.sync_file_system = killing(batch.sync_file_system)
        try:
            run(path)
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("run", [compress_in_place, decompress_in_place])
def test_killed_at_every_step(tmp_path, run):
    """Each file is whole in one of its forms at any moment, and the next run finishes."""
    first, last = tmp_path / "first", tmp_path / "last"
    put(first / "a", TEXT)
    put(first / "sub/c", b"more " * 500_000)
    os.setxattr(first / "sub/c", "user.x", b"1")
    os.link(first / "a", first / "sub/b")
    if run is decompress_in_place:
        compress_in_place(first)
    subprocess.run(["cp", "-a", first, last], check=True)
    run(last)
    done = {name: what[:2] + what[3:] for name, what in listing(last).items() if what[5] is not None}
    wanted = shown(first)
    for number in range(1, 200):
        work = tmp_path / f"work{number}"
        subprocess.run(["cp", "-a", first, work], check=True)
        if not killed_at(number, run, work):
            break
        assert shown(work) == wanted, number
        assert run(work).notes == ()
        assert shown(work) == wanted, number
        now = {name: what[:2] + what[3:] for name, what in listing(work).items() if what[5] is not None}
        assert now == done, number
    assert number > 15


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_killed_at_random(rng, tmp_path, command):
    """The real command, again and again on the same folder until a run ends by itself."""
    tree = tmp_path / "tree"
    for number in range(40):
        put(tree / f"{number % 4}/{number}", b"%d " % number * int(rng.integers(1, 300_000)))
    os.link(tree / "0/0", tree / "1/linked")
    wanted = shown(tree)
    if command == "decompress":
        compress_in_place(tree)
    ends, kills = time.monotonic() + 15, 0
    while kills < 15 and time.monotonic() < ends:
        with subprocess.Popen([sys.executable, "-m", "zipfs", command, "--in-place", str(tree)]) as process:
            try:
                process.wait(0.1 + 0.03 * kills * rng.uniform(0, 2))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
        assert shown(tree) == wanted
    assert kills
    assert main([command, "--in-place", str(tree)]) == 0
    assert shown(tree) == wanted
    suffixes = {name.endswith(b".zipfs") for name, what in listing(tree).items() if what[5]}
    assert suffixes == {command == "compress"}


def test_interrupted(tmp_path, monkeypatch):
    """Ctrl-C after the containers got their names: they go again, since nothing else has."""
    for name in ("a", "b"):
        put(tmp_path / name, TEXT)

    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(replacement.Replacement, "settle", interrupt)
        assert main(["compress", "--in-place", str(tmp_path)]) == 130
    assert sorted_names(tmp_path) == ["a", "b"]


def test_files_go_only_when_the_names_of_their_containers_are_on_disk(tmp_path, monkeypatch):
    for number in range(7):
        put(tmp_path / f"{number}", TEXT)
    settle, settled, on_disk = replacement.Replacement.settle, [], set()

    def noting(real):
        def sync(argument):
            there, argument = os.listdir(tmp_path), argument if isinstance(argument, int) else list(argument)
            result = real(argument)
            on_disk.update(there if argument != [] else ())
            return result

        return sync

    def checked(self):
        settled.append(os.path.basename(self.path) in on_disk)
        return settle(self)

    for name in ("sync_file_system", "sync_directories"):
        monkeypatch.setattr(batch, name, noting(getattr(batch, name)))
    monkeypatch.setattr(batch.Batch, "MAX_WAITING", 2)
    monkeypatch.setattr(replacement.Replacement, "settle", checked)
    compress_in_place(tmp_path)
    assert settled == [True] * 7
    assert sorted_names(tmp_path) == [f"{number}.zipfs" for number in range(7)]


def test_files_stay_where_the_names_of_their_containers_do_not_get_to_disk(tmp_path, monkeypatch):
    for name in ("a/x", "a/y", "b/x", "b/y"):
        put(tmp_path / name, TEXT)
    fsync = os.fsync

    def fail(fd):
        if os.path.samestat(os.fstat(fd), os.stat(tmp_path / "b")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FailuresError) as caught:
        compress_in_place(tmp_path)
    assert [error.filename for error in caught.value.failures] == [str(tmp_path / "b")]
    assert sorted_names(tmp_path / "a") == ["x.zipfs", "y.zipfs"]
    assert sorted_names(tmp_path / "b") == ["x", "y"]


def test_two_runs_at_once(tmp_path):
    """Whoever comes second leaves alone what the first works on."""
    for number in range(60):
        put(tmp_path / f"{number}", b"%d " % number * 20_000)
    wanted = shown(tmp_path)
    command = [sys.executable, "-m", "zipfs", "compress", "--in-place", str(tmp_path)]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for run in runs:
        _, told = run.communicate()
        assert run.returncode == 0, told
    assert shown(tmp_path) == wanted
    compress_in_place(tmp_path)
    assert sorted_names(tmp_path) == sorted(f"{number}.zipfs" for number in range(60))


def as_nobody(run: Callable[[], None]) -> None:
    """Runs it in a process of a user without rights."""
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            run()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def needs_root() -> None:
    if os.geteuid():
        pytest.skip("needs root, to make files of other users and file systems")


def let_others_in(path: Path) -> None:
    """To a folder of this test run."""
    while path != Path(tempfile.gettempdir()):
        path.chmod(0o755)
        path = path.parent


def test_files_of_other_users(tmp_path):
    needs_root()
    let_others_in(tmp_path)
    tree = tmp_path / "tree"
    for name in ("mine", "theirs", "grouped"):
        put(tree / name, TEXT)
    for path, uid, gid in ((tree, 65534, 65534), (tree / "mine", 65534, 65534), (tree / "grouped", 65534, 1002)):
        os.chown(path, uid, gid)

    def run() -> None:
        summary = compress_in_place(tree)
        assert sorted(note.removeprefix(f"{tree}/") for note in summary.notes) == [
            "grouped: its owner or attributes cannot be kept (Operation not permitted); left as it is",
            "theirs: belongs to another user, whose processes may write to it; run as its owner or as root; left as it is",
        ]

    as_nobody(run)
    assert sorted_names(tree) == ["grouped", "mine.zipfs", "theirs"]
    compress_in_place(tree)
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in tree.iterdir()}
    assert owners == {"grouped.zipfs": (65534, 1002), "mine.zipfs": (65534, 65534), "theirs.zipfs": (0, 0)}


def test_folders_that_must_not_be_written_to(tmp_path):
    needs_root()
    let_others_in(tmp_path)
    for name in ("a/x", "b/x"):
        put(tmp_path / "tree" / name, TEXT, 0o444)
    subprocess.run(["chown", "-R", "65534:65534", tmp_path / "tree"], check=True)
    (tmp_path / "tree/a").chmod(0o555)

    def run() -> None:
        with pytest.raises(FailuresError) as caught:
            compress_in_place(tmp_path / "tree")
        assert [error.errno for error in caught.value.failures] == [errno.EACCES]
        assert caught.value.failures[0].filename == str(tmp_path / "tree/a/x.zipfs")
        assert f"in the folder {tmp_path / 'tree/a'} (Permission denied); run as somebody" in str(caught.value)

    as_nobody(run)
    assert sorted_names(tmp_path / "tree/b") == ["x.zipfs"]
    compress_in_place(tmp_path / "tree")
    assert sorted_names(tmp_path / "tree/a") == ["x.zipfs"]
    assert (tmp_path / "tree/a").stat().st_mode & 0o777 == 0o555
    assert (tmp_path / "tree/a/x.zipfs").stat().st_mode & 0o777 == 0o444


def test_a_file_system_for_reading_only(tmp_path, capsys):
    with small_disk(tmp_path / "disk", "8m"):
        put(tmp_path / "disk/sub/x", TEXT)
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        assert main(["compress", "--in-place", str(tmp_path / "disk")]) == 1
        told = f"{tmp_path / 'disk/sub'} (Read-only file system); mount it for writing, or write to another place"
        assert f"{tmp_path / 'disk/sub/x.zipfs'}: cannot be made, as nothing can in the folder {told}" in (
            capsys.readouterr().err
        )
        assert sorted_names(tmp_path / "disk/sub") == ["x"]


@contextlib.contextmanager
def small_disk(path: Path, size: str):
    needs_root()
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=False).returncode:
        pytest.skip("this container may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk(rng, tmp_path):
    """What fits is done, what waits makes room for more, the rest stays; with room again the next run does it."""
    disk = tmp_path / "disk"
    with small_disk(disk, "8m"):
        for number in range(5):
            put(disk / f"fits {number}", rng.bytes(800_000) + bytes(200_000))
        put(disk / "large", rng.bytes(2_400_000) + bytes(100_000))
        wanted = shown(disk)
        with pytest.raises(FailuresError) as caught:
            compress_in_place(disk)
        assert [error.errno for error in caught.value.failures] == [errno.ENOSPC]
        assert sorted_names(disk) == sorted([f"fits {number}.zipfs" for number in range(5)] + ["large"])
        assert shown(disk) == wanted
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        compress_in_place(disk)
        assert shown(disk) == wanted and "large.zipfs" in sorted_names(disk)


def test_a_file_system_that_cannot_tell_who_writes(tmp_path, monkeypatch):
    put(tmp_path / "a", TEXT)
    real = replacement.fcntl.fcntl

    def refuse(fd, command, argument=0):
        if command == replacement.fcntl.F_SETLEASE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, command, argument)

    monkeypatch.setattr(replacement.fcntl, "fcntl", refuse)
    summary = compress_in_place(tmp_path)
    assert "cannot tell who writes to it" in summary.notes[0]
    assert sorted_names(tmp_path) == ["a"]
