"""Files are compressed while a mount shows their folder: readers notice no switch."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from mounts import bf16_bytes, eventually, mounting, put

from zipfs import settling
from zipfs.cli import main
from zipfs.errors import MountError
from zipfs.mount import start, stop
from zipfs.watch import watch

pytest.importorskip("watchdog")
NUM_FILES = 12
SIZE = 400_000


@pytest.fixture
def watching(source):
    """A watch of source in place, in a process of its own; it ends well."""
    command = [sys.executable, "-m", "zipfs", "compress", "--watch", "--in-place", "--settle", "0.2", source]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    yield process
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 0, told


class Reader(threading.Thread):
    """Reads one file over and over: from a handle that stays open, and from new ones. wrong: what was not as it was."""

    def __init__(self, path, plain: bytes):
        super().__init__()
        self.path, self.plain = path, plain
        self.wrong: list[object] = []
        self.rounds = 0
        self.is_ending = threading.Event()

    def run(self) -> None:
        with open(self.path, "rb") as kept:
            while not self.is_ending.is_set():
                try:
                    self.round(kept.fileno())
                except OSError as error:
                    self.wrong.append(error)
                    return
                self.rounds += 1

    def round(self, kept: int) -> None:
        os.posix_fadvise(kept, 0, 0, os.POSIX_FADV_DONTNEED)
        at = self.rounds * 12_345 % SIZE
        self.compare("handle that was open", os.pread(kept, 50_000, at), self.plain[at : at + 50_000])
        self.compare("new handle", self.path.read_bytes(), self.plain)
        if self.path.name not in os.listdir(self.path.parent) or self.path.stat().st_size != SIZE:
            self.wrong.append("listing")

    def compare(self, name: str, got: bytes, plain: bytes) -> None:
        if got != plain:
            differing = [at for at, (ours, theirs) in enumerate(zip(got, plain)) if ours != theirs]
            self.wrong.append(f"{name}: {len(got)} of {len(plain)} bytes, {len(differing)} wrong from {differing[:1]}")


def test_readers_notice_no_switch(mounted, source, watching):
    shown = mounted(source).path
    files = {f"model {number}": bf16_bytes(number, SIZE) for number in range(NUM_FILES)}
    readers = []
    try:
        for name, plain in files.items():
            (source / name).write_bytes(plain)
            assert eventually((shown / name).exists)
            readers.append(Reader(shown / name, plain))
            readers[-1].start()
        stored = [source / f"{name}.zipfs" for name in files]
        assert eventually(lambda: all(path.exists() for path in stored), 60)
        done = [reader.rounds for reader in readers]
        pairs = list(zip(readers, done, strict=True))
        assert eventually(lambda: all(reader.wrong or reader.rounds > before + 2 for reader, before in pairs), 60)
    finally:
        for reader in readers:
            reader.is_ending.set()
            reader.join()
    assert [reader.wrong for reader in readers] == [[]] * NUM_FILES
    assert not any((source / name).exists() for name in files)


def test_a_folder_mounted_over_itself_is_refused(driver, source, tmp_path, capsys):
    put(source, "x", bf16_bytes(1, SIZE))
    with mounting(driver, tmp_path, source) as there:
        assert main(["compress", "--watch", "--in-place", str(there.path)]) == 1
        told = capsys.readouterr().err
        assert "is shown by a mount" in told and f"zipfs mount {there.path}.stored {there.path}" in told
        assert (there.path / "x").read_bytes() == bf16_bytes(1, SIZE)
    command = [sys.executable, "-m", "zipfs"]
    subprocess.run([*command, "mount", source, "-o", "noexec", "--driver", driver], check=True)
    try:
        assert main(["compress", "--watch", "--in-place", str(source)]) == 1
        assert "zipfs umount" in capsys.readouterr().err
    finally:
        subprocess.run([*command, "umount", source], check=True)


def test_a_mount_that_comes_to_cover_the_folder_ends_the_watch(driver, source, monkeypatch):
    monkeypatch.setattr(settling, "RESCAN_S", 0.2)
    found = []

    def run() -> None:
        try:
            watch(source, settle_s=0.1)
        except MountError as error:
            found.append(error)

    watcher = threading.Thread(target=run)
    watcher.start()
    put(source, "x", bf16_bytes(1, SIZE))
    daemon = start(source, None, driver=driver, log_file=source.parent / "log")
    try:
        watcher.join(30)
    finally:
        stop(daemon)
    assert len(found) == 1 and "is shown by a mount" in str(found[0])
