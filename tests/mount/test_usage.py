"""`zipfs du` counts as du does, on the folder and on its mount alike; `df` on the mount is the source's."""

import errno
import json
import os
import subprocess

import pytest
from mounts import bf16_bytes, put

from zipfs.cli import main
from zipfs.usage import usage

CONTAINERS = [(300_000, "weights.zipfs"), (100_001, "sub/other\nname.zipfs")]


def in_blocks(size: int) -> int:
    return -(-size // 4096) * 4096


@pytest.fixture
def stored(source):
    """Containers, files as they are, an empty one, links of both kinds and folders."""
    put(source, "weights", bf16_bytes(1, 300_000))
    (source / "sub/deep").mkdir(parents=True)
    put(source / "sub", "other\nname", bf16_bytes(2, 100_001), source.parent / "scratch")
    (source / "sub/deep/small.json").write_bytes(b"{}")
    (source / "sub/deep/empty").touch()
    os.link(source / "weights.zipfs", source / "second name.zipfs")
    os.symlink("weights", source / "link")
    return source


def du(*arguments) -> dict:
    """{path: bytes} by coreutils."""
    done = subprocess.run(["du", "--null", "-B1", *map(str, arguments)], check=True, capture_output=True)
    lines = [line.split(b"\t", 1) for line in done.stdout.split(b"\0") if line]
    return {os.fsdecode(path): int(size) for size, path in lines}


def by_path(path, root=None) -> dict:
    failures = []
    found = {
        os.path.relpath(one.path, root or path): (one.plain_size, one.stored_size) for one in usage(str(path), failures)
    }
    assert failures == []
    return found


def test_folder(stored):
    """Stored bytes are what du says of the source, plain ones what it would say of the plain files."""
    failures = []
    entries = [one for one in usage(str(stored), failures) if one.is_folder]
    assert failures == []
    assert {one.path: one.stored_size for one in entries} == du(stored)
    weights, other = (in_blocks(size) - du(stored / name)[str(stored / name)] for size, name in CONTAINERS)
    saved = {os.path.relpath(one.path, stored): one.plain_size - one.stored_size for one in entries}
    assert saved == {".": weights + other, "sub": other, "sub/deep": 0}
    assert weights > 90_000 and other > 20_000


def test_mount_is_as_its_source(mounted, stored):
    shown = mounted(stored).path
    on_mount, on_source = by_path(shown), by_path(stored)
    assert on_mount == {path.removesuffix(".zipfs"): sizes for path, sizes in on_source.items()}
    assert du("-s", shown) == {str(shown): on_mount["."][1]} == {str(shown): du("-s", stored)[str(stored)]}


def test_df_is_the_source_s(mounted, stored):
    shown, behind = os.statvfs(mounted(stored).path), os.statvfs(stored)
    for field in ("f_bsize", "f_frsize", "f_blocks", "f_files", "f_namemax"):
        assert getattr(shown, field) == getattr(behind, field), field
    assert abs(shown.f_bavail - behind.f_bavail) * shown.f_frsize < 1 << 30
    assert 0 < shown.f_bavail <= shown.f_bfree


def test_one_file(mounted, stored):
    ((path, plain, kept, depth, is_folder),) = usage(str(stored / "weights.zipfs"), [])
    assert (path, plain, depth, is_folder) == (str(stored / "weights.zipfs"), in_blocks(300_000), 0, False)
    assert kept == os.stat(stored / "weights.zipfs").st_blocks * 512 < plain
    shown = mounted(stored).path / "weights"
    assert list(usage(str(shown), []))[0][1:3] == (plain, kept)


def test_a_container_in_a_container_is_plain_on_the_mount(mounted, source, tmp_path):
    """Its own plain size is nobody's there."""
    inner = put(tmp_path, "inner", bf16_bytes(3, 200_000))
    put(source, "inner.zipfs", inner.read_bytes())
    assert by_path(mounted(source).path)["inner.zipfs"][0] == in_blocks(inner.stat().st_size)


def test_folders_that_cannot_be_listed_are_named(stored, monkeypatch):
    whole = list(usage(str(stored), []))[-1]

    def refuse(path, *args, open=os.open, **options):
        if path == str(stored / "sub"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return open(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    failures = []
    last = list(usage(str(stored), failures))[-1]
    assert [error.filename for error in failures] == [str(stored / "sub")]
    assert last.path == str(stored) and 0 < last.stored_size < whole.stored_size


def test_command(stored, capsys):
    assert main(["du", str(stored), "--json", "-a"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["path"] for entry in told["entries"]][-1] == str(stored) == told["total"]["path"]
    assert len(told["entries"]) == 9
    total = told["total"]
    assert total["saved_size"] == total["plain_size"] - total["stored_size"] > 0
    assert main(["du", str(stored), "-d", "1", "-b"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[-1] for line in out.splitlines()] == [str(stored / "sub"), str(stored)]
    assert out.split()[-4:-2] == [str(total["plain_size"]), str(total["stored_size"])]
    assert err == f"saved {total['saved_size']} of {total['plain_size']}\n"
    assert main(["du", str(stored), "-d", "0"]) == 0
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1 and " KiB " in out
    assert main(["du", str(stored / "missing")]) == 1
