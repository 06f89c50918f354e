"""A folder whose files were compressed in place, mounted over itself: every path shows what it showed before."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from trees import fill, listing, put

from zipfs import mountpoint as points
from zipfs.cli import main
from zipfs.errors import MountError
from zipfs.in_place_run import compress_in_place, decompress_in_place
from zipfs.mount import start, stop

TEXT = b"text " * 10_000


@pytest.fixture
def tree(rng, tmp_path) -> Iterator[Path]:
    fill(tmp_path / "tree", rng)
    yield tmp_path / "tree"
    while points.find_mount(str(tmp_path / "tree")):
        points.unmount(str(tmp_path / "tree"), lazy=True)


def plain(folder: Path) -> dict[bytes, tuple]:
    """What a mount shows as the source has it: no attributes or number of links."""
    return {name: what[:4] + what[5:6] for name, what in listing(folder).items()}


def test_no_path_changes(driver, tree):
    before = plain(tree)
    compress_in_place(tree)
    packed = listing(tree)
    daemon = start(tree, driver=driver)
    try:
        assert plain(tree) == before
        with pytest.raises(OSError, match="Read-only"):
            (tree / "new").write_bytes(b"")
    finally:
        stop(daemon)
    assert listing(tree) == packed
    decompress_in_place(tree)
    assert plain(tree) == before


def test_the_commands(driver, tree, tmp_path, capfd):
    before = plain(tree)
    put(tmp_path / "model", TEXT)
    assert main(["compress", "--in-place", str(tree)]) == 0
    packed = listing(tree)
    assert main(["mount", str(tree), "--driver", driver]) == 0
    assert plain(tree) == before
    capfd.readouterr()
    for command in ("compress", "decompress"):
        for path in (tree, tree / "sub", tree / "sub/deep/config.json"):
            assert main([command, "--in-place", str(path)]) == 1
            told = capfd.readouterr().err
            assert f"{path}: is shown by a mount, which is read-only; first: zipfs umount {tree}" in told
    for target in (tree / "noise.zipfs", tree / "sub"):
        assert main(["compress", str(tmp_path / "model"), str(target)]) == 1
        assert f"is shown by a mount, which is read-only; first: zipfs umount {tree}" in capfd.readouterr().err
    assert main(["mount", str(tree)]) == 1
    assert f"mounted here already; first: zipfs umount {tree}" in capfd.readouterr().err
    assert main(["umount", str(tree)]) == 0
    assert listing(tree) == packed


def test_a_dead_mount_over_itself_is_recovered(driver, tree):
    before = plain(tree)
    compress_in_place(tree)
    packed = listing(tree)
    dead = start(tree, driver=driver)
    dead.process.kill()
    dead.process.wait()
    for path in (tree, tree / "sub"):
        with pytest.raises(MountError, match="zipfs umount"):
            compress_in_place(path)
    daemon = start(tree, driver=driver)
    assert plain(tree) == before
    stop(daemon)
    assert listing(tree) == packed


def test_a_mount_below_is_passed_over(driver, tree, tmp_path):
    put(tmp_path / "source/x", TEXT)
    compress_in_place(tmp_path / "source")
    (tree / "mnt").mkdir()
    daemon = start(tmp_path / "source", tree / "mnt", driver=driver)
    try:
        assert compress_in_place(tree).notes == ()
        assert (tree / "mnt/x").read_bytes() == TEXT
    finally:
        stop(daemon)
    assert os.listdir(tree / "mnt") == []


def test_readers_of_a_mount_elsewhere_notice_no_switch(driver, mounted, tmp_path):
    """The source is compressed and restored in place while its mount is read."""
    for number in range(20):
        put(tmp_path / "source" / str(number), b"%d " % number * 100_000)
    mount = mounted(tmp_path / "source")
    command = f"""
for way in compress decompress compress; do {sys.executable} -m zipfs $way --in-place {tmp_path / "source"} || exit 1; done
"""
    with subprocess.Popen(["sh", "-c", command], stderr=subprocess.PIPE, text=True) as runs:
        rounds = 0
        while runs.poll() is None or not rounds:
            for number in range(20):
                with open(mount.path / str(number), "rb") as file:
                    assert file.read() == b"%d " % number * 100_000
            rounds += 1
        assert runs.returncode == 0, runs.stderr.read()
    assert sorted(os.listdir(mount.path)) == sorted(map(str, range(20)))
    assert sorted(os.listdir(tmp_path / "source")) == sorted(f"{number}.zipfs" for number in range(20))
