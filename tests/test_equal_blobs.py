"""Equal blobs of several repositories of a hub cache: one container in DST, when they really are equal."""

import os
from pathlib import Path

import hub
import pytest
from trees import listing

import zipfs
from zipfs.cli import main
from zipfs.usage import usage

WEIGHTS = b"weights " * 50_000
LARGE = 100_000


@pytest.fixture
def cache(rng, tmp_path) -> Path:
    files = {"model.safetensors": WEIGHTS, "noise.bin": rng.bytes(LARGE), "config.json": b'{"key": 1}' * 100, "no": b""}
    for repository in ("a/x", "b/y"):
        hub.add_snapshot(tmp_path / "hub", repository, files, large=LARGE)
    return tmp_path / "hub"


def blobs(cache: Path, name: str) -> tuple[Path, Path]:
    """The blob of both repositories that the snapshots call `name`, in the source."""
    one, other = (cache / f"models--{repo}/snapshots/{hub.COMMIT}" / name for repo in ("a--x", "b--y"))
    return one.resolve(), other.resolve()


def are_linked(cache: Path, dst: Path, name: str) -> bool:
    stored = [dst / path.relative_to(cache) for path in blobs(cache, name)]
    one, other = (path if path.exists() else Path(f"{path}.zipfs") for path in stored)
    return os.path.samefile(one, other)


def contents(root: Path) -> dict[bytes, tuple]:
    """Modes and bytes: the mtime of an equal blob is that of the first."""
    return {name: (what[0], what[5]) for name, what in listing(root).items()}


@pytest.fixture
def dst(tmp_path) -> Path:
    return tmp_path / "dst"


def test_equal_blobs_are_stored_once(cache, dst, tmp_path, capsys):
    one, other = blobs(cache, "model.safetensors")
    os.utime(other, (7, 7))
    summary = zipfs.compress(cache, dst)
    assert all(are_linked(cache, dst, name) for name in ("model.safetensors", "noise.bin", "config.json", "no"))
    assert (dst / f"{other.relative_to(cache)}.zipfs").stat().st_mtime == one.stat().st_mtime
    assert summary.stored_size == sum(_sizes(dst).values())
    assert summary.num_files == sum(path.is_file() and not path.is_symlink() for path in cache.rglob("*"))
    assert summary.plain_size == sum(row.plain_size for row in summary.rows)
    assert main(["verify", str(dst)]) == 0
    assert capsys.readouterr().out.endswith(", 0 damaged\n")
    zipfs.decompress(dst, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(cache)
    assert are_linked(cache, tmp_path / "back", "model.safetensors")


def _sizes(root: Path) -> dict[int, int]:
    found = (path.lstat() for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {status.st_ino: status.st_size for status in found}


def test_what_is_told_beforehand_and_of_the_disk(cache, dst):
    rehearsed = zipfs.compress(cache, dst, dry_run=True)
    summary = zipfs.compress(cache, dst)
    assert (rehearsed.num_files, rehearsed.plain_size) == (summary.num_files, summary.plain_size)
    assert abs(rehearsed.stored_size - summary.stored_size) < 2000
    used = list(usage(str(dst), []))[-1]
    blocks = {path.lstat().st_ino: path.lstat().st_blocks * 512 for path in [dst, *dst.rglob("*")]}
    assert used.stored_size == sum(blocks.values())


@pytest.mark.parametrize("name", ["model.safetensors", "noise.bin"])
def test_names_are_not_believed(cache, dst, tmp_path, name):
    other = blobs(cache, name)[1]
    data = bytearray(other.read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    zipfs.compress(cache, dst)
    assert not are_linked(cache, dst, name)
    zipfs.decompress(dst, tmp_path / "back")
    assert listing(tmp_path / "back").keys() == listing(cache).keys()
    assert contents(tmp_path / "back") == contents(cache)


@pytest.mark.parametrize("differ", ["mode", "attribute", "rule", "folder"])
def test_blobs_that_differ_otherwise(cache, dst, tmp_path, differ):
    other = blobs(cache, "model.safetensors")[1]
    rules = {}
    if differ == "mode":
        other.chmod(0o600)
    elif differ == "attribute":
        try:
            os.setxattr(other, "user.of", b"mine")
        except OSError:
            pytest.skip("no extended attributes here")
    elif differ == "rule":
        rules = {"exclude": ["models--b--y"]}
    else:
        for path in list(cache.rglob("blobs")):
            path.rename(path.with_name("files"))
    zipfs.compress(cache, dst, **rules)
    folder = "files" if differ == "folder" else "blobs"
    stored = [next(dst.glob(f"models--{repo}/{folder}/{other.name}*")) for repo in ("a--x", "b--y")]
    assert not os.path.samefile(*stored)
    zipfs.decompress(dst, tmp_path / "back")
    assert listing(tmp_path / "back").keys() == listing(cache).keys()
    assert contents(tmp_path / "back") == contents(cache)


def test_a_first_one_that_changes_after_it_was_compressed(cache, dst, monkeypatch):
    """The second one is compared with what was compressed, not with what is there now."""
    one, other = blobs(cache, "model.safetensors")
    other.write_bytes(WEIGHTS[::-1])
    convert = zipfs.compressor.Compressor.convert

    def convert_and_change(self, path, *args, **options):
        sizes = convert(self, path, *args, **options)
        if Path(path) == one:
            one.write_bytes(WEIGHTS[::-1])
        return sizes

    monkeypatch.setattr("zipfs.compressor.Compressor.convert", convert_and_change)
    zipfs.compress(cache, dst)
    assert not are_linked(cache, dst, "model.safetensors")


def test_file_systems_without_hard_links(cache, dst, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", refuse)
        summary = zipfs.compress(cache, dst)
    assert not are_linked(cache, dst, "model.safetensors")
    assert summary.stored_size == sum(_sizes(dst).values())
    zipfs.decompress(dst, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(cache)


def test_outputs_that_exist(cache, dst):
    one, other = blobs(cache, "model.safetensors")
    (dst / other.relative_to(cache)).parent.mkdir(parents=True)
    (dst / f"{other.relative_to(cache)}.zipfs").write_bytes(b"stale")
    with pytest.raises(zipfs.errors.FailuresError, match="exists already"):
        zipfs.compress(cache, dst)
    assert (dst / f"{other.relative_to(cache)}.zipfs").read_bytes() == b"stale"
    with pytest.raises(zipfs.errors.FailuresError, match="exists already"):
        zipfs.compress(cache, dst, dry_run=True)
    zipfs.compress(cache, dst, force=True)
    assert are_linked(cache, dst, "model.safetensors")
