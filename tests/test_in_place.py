"""Files replaced where they are: what is kept, what is left alone, and kills at any moment."""

import contextlib
import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import MTIME_NS, fill, listing, put

import zipfs
from zipfs import in_place, output, replacement
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


@pytest.mark.parametrize(
    "arguments",
    [["compress", "{}"], ["decompress", "{}"], ["compress", "--in-place", "{}", "dst"], ["decompress", "--in-place", "{}", "dst"]]
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
    assert 0.1 < waited[0] < 5


def at_step(monkeypatch, function: str, number: int, action: Callable[[], None]) -> None:
    """Has `action` run right before the numbered call of this function of os, from 1."""
    real, calls = getattr(os, function), [0]

    def stepped(*args, **options):
        calls[0] += 1
        if calls[0] == number:
            action()
        return real(*args, **options)

    monkeypatch.setattr(os, function, stepped)


@pytest.mark.parametrize("step", [1, 2])
def test_one_that_is_replaced_meanwhile_is_left_alone(tmp_path, monkeypatch, step):
    """Step 1: before the container gets its name; 2: before the plain file goes."""
    put(tmp_path / "a", TEXT)
    put(tmp_path / "new/a", b"new")
    at_step(monkeypatch, "rename", step, lambda: os.replace(tmp_path / "new/a", tmp_path / "a"))
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
        with contextlib.suppress(FailuresError):
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
        output.sync_file_system = killing(output.sync_file_system)
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
