"""`zipfs compress --watch`: what comes is compressed once it has settled, and nothing before."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from models import weights

from zipfs import names
from zipfs.cli import main
from zipfs.names import show
from zipfs.settling import is_partial

pytest.importorskip("watchdog")
SETTLE_S = 0.3
TIMEOUT_S = 30


class Watching:
    """A `zipfs compress --watch` in a process of its own. told: its lines so far."""

    def __init__(self, src: Path, *arguments: str | Path):
        self.src = src
        self.told: list[str] = []
        command = [sys.executable, "-m", "zipfs", "compress", "--watch", "--settle", str(SETTLE_S), src, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._listener = threading.Thread(target=lambda: self.told.extend(self.process.stderr))
        self._listener.start()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """(exit code, what it told)"""
        self.process.send_signal(number)
        self.process.wait(TIMEOUT_S)
        return self.close(), "".join(self.told)

    def close(self) -> int:
        if self.process.poll() is None:
            self.process.kill()
        self._listener.join()
        return self.process.wait()

    def until(self, condition) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.told
            time.sleep(0.02)

    def until_done(self, path: Path, times: int = 1) -> None:
        """Until it has told that it compressed this file so many times."""
        self.until(lambda: sum(f"{show(path)}: " in line and " -> " in line for line in self.told) == times)


@pytest.fixture
def src(tmp_path) -> Path:
    (tmp_path / "src").mkdir()
    return tmp_path / "src"


@pytest.fixture
def watching(src):
    """watching(*arguments): watches src; ended again in any case."""
    started = []

    def start(*arguments) -> Watching:
        started.append(Watching(src, *arguments))
        return started[-1]

    yield start
    for watch in started:
        watch.close()
        watch.process.stdout.close()
        watch.process.stderr.close()


@pytest.fixture
def plain(rng) -> bytes:
    return weights(rng, "BF16", 200_000)


def restored(folder: Path, tmp_path: Path) -> dict[str, bytes]:
    assert main(["decompress", str(folder), str(tmp_path / "back"), "--force"]) == 0
    return {
        str(path.relative_to(tmp_path / "back")): path.read_bytes()
        for path in (tmp_path / "back").rglob("*")
        if path.is_file()
    }


def test_in_place_what_is_there_and_what_comes(watching, src, plain, tmp_path):
    (src / "there").write_bytes(plain)
    (src / "noise").write_bytes(os.urandom(100_000))
    watch = watching("--in-place")
    watch.until_done(src / "there")
    (src / "new/folder").mkdir(parents=True)
    (src / "new/folder/late").write_bytes(plain[::-1])
    watch.until_done(src / "new/folder/late")
    code, told = watch.end()
    assert code == 0 and told.count(" -> ") == 2 and f"{src / 'new/folder/late'}: 390.6 KiB -> " in told
    assert "2 files" in told
    assert restored(src, tmp_path) == {
        "there": plain,
        "noise": (src / "noise").read_bytes(),
        "new/folder/late": plain[::-1],
    }


@pytest.mark.parametrize("in_place", [True, False])
def test_downloads_are_left_alone_until_they_are_whole(watching, src, plain, tmp_path, in_place):
    """As huggingface_hub does it: blobs/x.incomplete is renamed to blobs/x, and a snapshot gets a link."""
    stored = src if in_place else tmp_path / "dst"
    watch = watching("--in-place" if in_place else stored)
    (src / "blobs").mkdir()
    blob = src / "blobs" / hashlib.sha256(plain).hexdigest()
    with open(f"{blob}.incomplete", "wb") as file:
        file.write(plain[: len(plain) // 2])
        file.flush()
        (src / "sign").write_bytes(plain)
        watch.until_done(src / "sign")
        time.sleep(2 * SETTLE_S)
        assert not [name for name in os.listdir(stored) if "incomplete" in name or "blobs/" in name]
        file.write(plain[len(plain) // 2 :])
    os.rename(f"{blob}.incomplete", blob)
    (src / "snapshots").mkdir()
    (src / "snapshots/model").symlink_to(f"../blobs/{blob.name}")
    watch.until_done(blob)
    watch.until((stored / "snapshots/model").is_symlink)
    assert watch.end()[0] == 0
    assert (stored / "snapshots/model").readlink() == Path(f"../blobs/{blob.name}")
    assert restored(stored, tmp_path)[f"blobs/{blob.name}"] == plain


def test_open_for_writing_is_not_settled(watching, src, plain):
    watch = watching("--in-place")
    with open(src / "slow", "wb") as file:
        file.write(plain)
        file.flush()
        (src / "sign").write_bytes(plain)
        watch.until_done(src / "sign")
        time.sleep(3 * SETTLE_S)
        assert not (src / "slow.zipfs").exists()
    watch.until_done(src / "slow")


def test_aria2_is_done_when_its_control_file_goes(watching, src, plain):
    (src / "x").write_bytes(plain)
    (src / "x.aria2").touch()
    (src / "sign").write_bytes(plain)
    watch = watching("--in-place")
    watch.until_done(src / "sign")
    time.sleep(2 * SETTLE_S)
    assert not (src / "x.zipfs").exists()
    (src / "x.aria2").unlink()
    watch.until_done(src / "x")


def test_mirror_follows_changes(watching, src, plain, tmp_path):
    dst = tmp_path / "dst"
    (src / "a").write_bytes(plain)
    watch = watching(dst)
    watch.until_done(src / "a")
    (src / "a").write_bytes(plain[::-1])
    watch.until_done(src / "a", 2)
    os.rename(src / "a", src / "b")
    watch.until_done(src / "b")
    assert watch.end(signal.SIGINT)[0] == 0
    assert restored(dst, tmp_path) == {"a": plain[::-1], "b": plain[::-1]}, "what goes from src stays"
    assert (src / "b").read_bytes() == plain[::-1]


def test_mirror_again(watching, src, plain, tmp_path):
    """What is up to date is not made again; what was changed while nobody watched is a failure without --force."""
    dst = tmp_path / "dst"
    (src / "same").write_bytes(plain)
    (src / "other").write_bytes(plain)
    assert main(["compress", str(src), str(dst)]) == 0
    before = os.stat(dst / "same.zipfs").st_ino
    (src / "other").write_bytes(plain[::-1])
    (src / "sign").write_bytes(plain)
    watch = watching(dst)
    watch.until_done(src / "sign")
    code, told = watch.end()
    assert code == 1 and f"{dst / 'other.zipfs'}: exists already; --force replaces it" in told
    assert os.stat(dst / "same.zipfs").st_ino == before
    watch = watching(dst, "--force", "--json")
    watch.until_done(src / "other")
    assert watch.end()[0] == 0 and json.load(watch.process.stdout)["num_files"] == 1
    assert os.stat(dst / "same.zipfs").st_ino == before


def test_ended_in_the_middle_nothing_unfinished_stays(watching, src):
    with open(src / "sparse", "wb") as file:
        file.truncate(1 << 40)
    watch = watching("--in-place")
    watch.until(lambda: any(map(names.temporary_owner, os.listdir(src))))
    assert watch.end()[0] == 0
    assert os.listdir(src) == ["sparse"]


def test_other_folders_and_files(watching, src, plain, tmp_path):
    (src / "sub").mkdir()
    os.symlink("sub", src / "link")
    (src / "sub/x").write_bytes(plain)
    os.link(src / "sub/x", src / "second")
    watch = watching("--in-place", "--exclude", "*.keep")
    watch.until_done(src / "second")
    name = os.fsdecode(b"odd \xff\nname")
    (src / "y.keep").write_bytes(plain)
    (src / name).write_bytes(plain)
    watch.until_done(src / name)
    assert watch.end()[0] == 0
    assert os.path.samefile(src / "second.zipfs", src / "sub/x.zipfs") and (src / "y.keep").exists()


def test_a_folder_by_its_link(src, plain, tmp_path):
    (tmp_path / "link").symlink_to("src")
    watch = Watching(tmp_path / "link", "--in-place")
    try:
        (src / "sign").write_bytes(plain)
        watch.until_done(src / "sign")
        (src / "late").write_bytes(plain)
        watch.until_done(src / "late")
    finally:
        watch.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{file}", "--in-place"], "is no folder"),
        (["{src}", "{src}/inside"], "lies inside the source"),
        (["{src}"], "DST is missing"),
        (["{src}", "--in-place", "--dry-run"], "does not go with --dry-run"),
        (["{src}", "{dst}", "--base", "x"], "does not go with --base"),
    ],
)
def test_wrong_usage(src, tmp_path, capsys, arguments, message):
    (tmp_path / "file").write_bytes(b"x")
    places = {"src": src, "file": tmp_path / "file", "dst": tmp_path / "dst"}
    assert main(["compress", "--watch", *(argument.format(**places) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_settle_alone(src, tmp_path, capsys):
    assert main(["compress", str(src), str(tmp_path / "dst"), "--settle", "3"]) == 2
    assert "--watch" in capsys.readouterr().err


def test_without_watchdog(src, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "watchdog", None)
    assert main(["compress", "--watch", "--in-place", str(src)]) == 2
    assert "pip install watchdog" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "partial"),
    [
        ("a" * 64 + ".incomplete", True),
        ("model.safetensors.part", True),
        ("Unconfirmed 1.crdownload", True),
        ("sha256-" + "a" * 64 + "-partial-3", True),
        ("X.TMP", True),
        pytest.param(names.temporary_name("x"), True, id="temporary name"),
        ("sha256-" + "a" * 64, False),
        ("model.safetensors", False),
        ("part", False),
        ("model.party", False),
    ],
)
def test_partial_names(name, partial):
    assert is_partial(name) == partial


def test_too_many_folders_for_inotify(src, monkeypatch, capsys):
    from watchdog import observers

    def refuse(_):
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(observers.Observer, "start", refuse)
    monkeypatch.setattr(observers.Observer, "join", lambda _: None)
    assert main(["compress", "--watch", "--in-place", str(src)]) == 1
    assert "sysctl fs.inotify.max_user_watches" in capsys.readouterr().err
