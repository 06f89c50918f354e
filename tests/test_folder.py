"""Mirrors of folders: what becomes of each kind of entry, and back."""

import os
import socket
import stat
import subprocess

import pytest
from models import safetensors_bytes, weights

import zipfs
from zipfs import batch, compressor, names
from zipfs.errors import FailuresError

MTIME_NS = 1_600_000_000_123_456_789


def put(folder, name: str | bytes, data: bytes, mode: int = 0o644):
    path = os.path.join(os.fsencode(folder), os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    os.utime(path, ns=(MTIME_NS, MTIME_NS))


def listing(folder) -> dict[bytes, tuple]:
    """Everything in a folder: relative path -> kind, mode, mtime and content."""
    result, root = {}, os.fsencode(folder)
    for parent, folders, regular in os.walk(root):
        for name in folders + regular:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            content: bytes | None = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            result[os.path.relpath(path, root)] = status.st_mode, status.st_mtime_ns, content
    return result


def sorted_names(folder) -> list[bytes]:
    return sorted(os.listdir(os.fsencode(folder)))


@pytest.fixture
def model(rng, tmp_path):
    """A folder with everything that a mirror has to keep."""
    src = tmp_path / "src"
    put(src, "model.safetensors", safetensors_bytes({"w": ("BF16", [300_000], weights(rng, "BF16", 300_000))}), 0o640)
    put(src, "sub/deep/config.json", b'{"key": "value"}\n' * 1000, 0o600)
    put(src, "noise.bin", rng.bytes(700_000), 0o444)
    put(src, "empty", b"")
    put(src, b"bytes \xff\xfe", b"text " * 5000)
    put(src, b"new\nline", b"text " * 5000)
    (src / "no files").mkdir(mode=0o750)
    os.symlink("model.safetensors", src / "link")
    os.symlink("/nowhere/at all", src / "sub/broken")
    os.symlink("sub", src / "folder link")
    for path in (src / "sub/broken", src / "no files", src / "sub/deep", src / "sub"):
        os.utime(path, ns=(MTIME_NS, MTIME_NS), follow_symlinks=False)
    (src / "sub").chmod(0o555)
    yield src
    (src / "sub").chmod(0o755)


def test_mirror_and_back(model, tmp_path):
    summary = zipfs.compress(model, tmp_path / "dst")
    assert (summary.num_files, summary.notes) == (6, ())
    assert sorted_names(tmp_path / "dst") == sorted(
        [b"bytes \xff\xfe.zipfs", b"empty", b"folder link", b"link", b"model.safetensors.zipfs"]
        + [b"new\nline.zipfs", b"no files", b"noise.bin", b"sub"]
    )
    before, stored = listing(model), listing(tmp_path / "dst")
    for path, (mode, mtime, _) in stored.items():
        assert (mode, mtime) == before[path.removesuffix(b".zipfs")][:2], path
    zipfs.decompress(tmp_path / "dst", tmp_path / "back")
    assert listing(tmp_path / "back") == before
    assert listing(model) == before
    for folder in ("dst", "back"):
        (tmp_path / folder / "sub").chmod(0o755)


def test_folders_that_were_there_get_times_too(tmp_path):
    """A second run with --force once left them with the time of their last new name."""
    put(tmp_path / "src" / "sub", "a", b"text " * 1000)
    os.utime(tmp_path / "src" / "sub", ns=(10**18, 10**18))
    for _ in range(2):
        zipfs.compress(tmp_path / "src", tmp_path / "dst", force=True)
        zipfs.decompress(tmp_path / "dst", tmp_path / "back", force=True)
        assert {(tmp_path / name / "sub").stat().st_mtime_ns for name in ("dst", "back")} == {10**18}


def test_what_looks_like_ours_is_wrapped(rng, tmp_path):
    src = tmp_path / "src"
    put(src, "a", b"text " * 1000)
    put(src, "noise.zipfs", rng.bytes(500))
    put(src, "magic", names.MAGIC + rng.bytes(500))
    put(src, ".a.1234.zipfs-tmp", rng.bytes(500))
    zipfs.compress(src / "a", src / "b.zipfs")
    zipfs.compress(src, tmp_path / "dst")
    expected = [b".a.1234.zipfs-tmp.zipfs", b"a.zipfs", b"b.zipfs.zipfs", b"magic.zipfs", b"noise.zipfs.zipfs"]
    assert sorted_names(tmp_path / "dst") == expected
    zipfs.decompress(tmp_path / "dst", tmp_path / "back")
    assert {k: v[2] for k, v in listing(tmp_path / "back").items()} == {k: v[2] for k, v in listing(src).items()}


@pytest.mark.parametrize(("noise", "kept"), [(1_000_000, True), (985_000, True), (965_000, False), (500_000, False)])
def test_two_per_cent(rng, tmp_path, noise, kept):
    """Noise with zeros behind it: the share of the zeros is what a container saves."""
    put(tmp_path / "src", "x", rng.bytes(noise) + bytes(1_000_000 - noise))
    zipfs.compress(tmp_path / "src", tmp_path / "dst")
    assert sorted_names(tmp_path / "dst") == [b"x" if kept else b"x.zipfs"]
    assert not kept or (tmp_path / "dst/x").read_bytes() == (tmp_path / "src/x").read_bytes()


def test_a_large_file_of_noise_is_not_even_tried(rng, tmp_path, monkeypatch):
    put(tmp_path / "src", "noise", rng.bytes(40 << 20))
    put(tmp_path / "src", "half", rng.bytes(20 << 20) + bytes(20 << 20))
    tried = []
    monkeypatch.setattr(compressor, "LARGE", 32 << 20)
    write = compressor.write_container
    monkeypatch.setattr(compressor, "write_container", lambda s, *a, **k: tried.append(s.path) or write(s, *a, **k))
    zipfs.compress(tmp_path / "src", tmp_path / "dst")
    assert sorted_names(tmp_path / "dst") == [b"half.zipfs", b"noise"]
    assert tried == [str(tmp_path / "src/half")]


def test_a_container_without_its_suffix_is_not_copied_by_mistake(tmp_path):
    put(tmp_path, "x", b"text " * 1000)
    zipfs.compress(tmp_path / "x", tmp_path / "x.zipfs")
    (tmp_path / "x.zipfs").rename(tmp_path / "renamed")
    with pytest.raises(zipfs.UsageError, match="without the suffix"):
        zipfs.decompress(tmp_path / "renamed", tmp_path / "back")
    (tmp_path / "folder").mkdir()
    with pytest.raises(zipfs.UsageError, match="without the suffix"):
        zipfs.decompress(tmp_path / "renamed", tmp_path / "folder")
    assert sorted_names(tmp_path) == [b"folder", b"renamed", b"x"] and sorted_names(tmp_path / "folder") == []


def test_long_names_are_copied(tmp_path):
    data = b"text " * 1000
    put(tmp_path / "src", "n" * 249, data)
    put(tmp_path / "src", "n" * 250, data)
    put(tmp_path / "src", "ü" * 127, data)
    put(tmp_path / "src", "n" * 255, data)
    zipfs.compress(tmp_path / "src", tmp_path / "dst")
    expected = sorted([b"n" * 249 + b".zipfs", b"n" * 250, b"n" * 255, "ü".encode() * 127])
    assert sorted_names(tmp_path / "dst") == expected
    zipfs.decompress(tmp_path / "dst", tmp_path / "back")
    assert listing(tmp_path / "back") == listing(tmp_path / "src")


def test_a_container_with_a_long_name_is_a_failure_not_a_wrong_file(tmp_path):
    long = "n" * 248 + ".zipfs"
    put(tmp_path / "src", long, names.MAGIC + bytes(1000))
    with pytest.raises(FailuresError, match="rename it"):
        zipfs.compress(tmp_path / "src", tmp_path / "dst")
    assert sorted_names(tmp_path / "dst") == []


def test_name_of_the_container_is_taken_by_something_else(tmp_path):
    src = tmp_path / "src"
    for name in ("a", "b", "c", "n" * 249):
        put(src, name, b"text " * 1000)
    (src / "a.zipfs").mkdir()
    os.symlink("b", src / "b.zipfs")
    put(src, "n" * 249 + ".zipfs", b"other")
    zipfs.compress(src, tmp_path / "dst")
    assert (tmp_path / "dst/a").read_bytes() == (src / "a").read_bytes()
    assert os.readlink(tmp_path / "dst/b.zipfs") == "b"
    zipfs.decompress(tmp_path / "dst", tmp_path / "back")
    assert {k: v[2] for k, v in listing(tmp_path / "back").items()} == {k: v[2] for k, v in listing(src).items()}


def test_special_files_are_left_out_and_named(tmp_path):
    src = tmp_path / "src"
    put(src, "a", b"text " * 1000)
    os.mkfifo(src / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(src / "socket"))
        summary = zipfs.compress(src, tmp_path / "dst")
    assert sorted_names(tmp_path / "dst") == [b"a.zipfs"]
    assert [note.split(": ")[0] for note in summary.notes] == [str(src / "fifo"), str(src / "socket")]


@pytest.mark.parametrize("inside", ["src", "src/dst", "src/sub/deeper", "link/dst"])
def test_target_inside_the_source_is_refused(tmp_path, inside):
    put(tmp_path / "src", "sub/a", b"text")
    os.symlink("src", tmp_path / "link")
    for run in (zipfs.compress, zipfs.decompress):
        with pytest.raises(zipfs.UsageError, match="inside"):
            run(tmp_path / "src", tmp_path / inside)
    assert listing(tmp_path / "src").keys() == {b"sub", b"sub/a"}


def test_one_failure_does_not_stop_the_others(rng, tmp_path):
    src, dst = tmp_path / "src", tmp_path / "dst"
    for name in ("a", "b", "c"):
        put(src, name, b"text " * 1000)
    put(dst, "b.zipfs", b"old")
    with pytest.raises(FailuresError, match="b.zipfs: exists already") as caught:
        zipfs.compress(src, dst)
    assert len(caught.value.failures) == 1
    assert sorted_names(dst) == [b"a.zipfs", b"b.zipfs", b"c.zipfs"]
    assert (dst / "b.zipfs").read_bytes() == b"old"

    zipfs.compress(src, dst, force=True)
    damaged = bytearray((dst / "b.zipfs").read_bytes())
    damaged[300] ^= 1
    (dst / "b.zipfs").write_bytes(damaged)
    with pytest.raises(FailuresError, match="b.zipfs: damaged chunk 0") as caught:
        zipfs.decompress(dst, tmp_path / "back")
    assert isinstance(caught.value.failures[0], zipfs.CorruptError)
    assert sorted_names(tmp_path / "back") == [b"a", b"c"]


def test_stale_outputs_of_the_other_form(rng, tmp_path):
    """A mount would show the plain x instead of x.zipfs, so both must never stand side by side."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    noise, text = rng.bytes(100_000), b"text " * 20_000
    for old, new, expected in ((noise, text, [b"x.zipfs"]), (text, noise, [b"x"])):
        put(src, "x", old)
        zipfs.compress(src, dst, force=True)
        put(src, "x", new)
        with pytest.raises(FailuresError, match="exists already"):
            zipfs.compress(src, dst)
        zipfs.compress(src, dst, force=True)
        assert sorted_names(dst) == expected


def test_force_replaces_symlinks_not_their_targets(tmp_path):
    src, dst = tmp_path / "src", tmp_path / "dst"
    put(src, "sub/x", b"text " * 1000)
    os.symlink("a", src / "link")
    put(tmp_path, "outside/x.zipfs", b"precious")
    dst.mkdir()
    os.symlink("b", dst / "link")
    os.symlink("../outside", dst / "sub")
    with pytest.raises(FailuresError, match="sub: exists already and is no folder"):
        zipfs.compress(src, dst, force=True)
    assert os.readlink(dst / "link") == "a"
    assert (tmp_path / "outside/x.zipfs").read_bytes() == b"precious"


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    src, dst = tmp_path / "src", tmp_path / "dst"
    put(src, "x", b"text " * 1000)
    with subprocess.Popen(["true"]) as process:
        dead = process.pid
    put(dst, f".x.{dead}.zipfs-tmp", b"torn")
    put(dst, ".x.1.zipfs-tmp", b"of a living process")
    put(dst, f".x.{dead}.zipfs-tmp.txt", b"not ours")
    os.symlink("x", dst / f".l.{dead}.zipfs-tmp")
    zipfs.compress(src, dst)
    assert sorted_names(dst) == [b".x.1.zipfs-tmp", b".x.%d.zipfs-tmp.txt" % dead, b"x.zipfs"]


def test_many_small_files_share_syncs(tmp_path, monkeypatch):
    for i in range(300):
        put(tmp_path / "src", f"{i}.json", b'{"key": 1}' * (50 + i))
    syncs = []
    sync = batch.sync_file_system
    monkeypatch.setattr(batch, "sync_file_system", lambda fd: syncs.append(fd) or sync(fd))
    zipfs.compress(tmp_path / "src", tmp_path / "dst")
    assert len(syncs) == 3
    zipfs.decompress(tmp_path / "dst", tmp_path / "back")
    assert listing(tmp_path / "back") == listing(tmp_path / "src")


def test_plain_file_beside_its_container(tmp_path):
    """As in a mount, the plain one counts."""
    put(tmp_path / "src", "x", b"text " * 1000)
    zipfs.compress(tmp_path / "src/x", tmp_path / "src/x.zipfs")
    with pytest.raises(FailuresError, match="hides it"):
        zipfs.decompress(tmp_path / "src", tmp_path / "back")
    assert sorted_names(tmp_path / "back") == [b"x"]


def test_file_into_a_folder(rng, tmp_path):
    put(tmp_path, "text", b"text " * 1000)
    put(tmp_path, "noise", rng.bytes(5000))
    (tmp_path / "dst").mkdir()
    (tmp_path / "back").mkdir()
    for name in ("text", "noise"):
        zipfs.compress(tmp_path / name, tmp_path / "dst")
    assert sorted_names(tmp_path / "dst") == [b"noise", b"text.zipfs"]
    for name in ("text.zipfs", "noise"):
        zipfs.decompress(tmp_path / "dst" / name, tmp_path / "back")
    for name in ("text", "noise"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / name).read_bytes()
    zipfs.compress(tmp_path / "text", tmp_path)
    assert sorted_names(tmp_path) == [b"back", b"dst", b"noise", b"text", b"text.zipfs"]
    with pytest.raises(zipfs.ZipfsError, match="left as it is"):
        zipfs.compress(tmp_path / "noise", tmp_path, force=True)
    assert (tmp_path / "noise").stat().st_size == 5000


def test_suffix_without_magic_is_damage(tmp_path):
    put(tmp_path / "src", "x.zipfs", b"no container")
    with pytest.raises(FailuresError, match="BAD_MAGIC"):
        zipfs.decompress(tmp_path / "src", tmp_path / "back")
    assert sorted_names(tmp_path / "back") == []


@pytest.mark.parametrize("force", [False, True])
def test_a_file_and_one_with_its_name_and_our_suffix(tmp_path, monkeypatch, force):
    """x becomes x.zipfs and x.zipfs becomes x.zipfs.zipfs: neither is an old form of the other."""
    monkeypatch.setattr(batch.Batch, "MAX_WAITING", 1)
    src, dst = tmp_path / "src", tmp_path / "dst"
    put(src, "x", b"text " * 1000)
    put(src, "x.zipfs", b"no container" * 100)
    zipfs.compress(src / "x", src / "y.zipfs")
    put(src, "y", b"other")
    for _ in range(1 + force):
        zipfs.compress(src, dst, force=force)
        assert sorted_names(dst) == [b"x.zipfs", b"x.zipfs.zipfs", b"y", b"y.zipfs.zipfs"]
    zipfs.decompress(dst, tmp_path / "back")
    assert listing(tmp_path / "back") == listing(src)
