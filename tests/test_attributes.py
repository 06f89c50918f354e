"""What files have besides their bytes, and how many names, in mirrors: owner, extended attributes, ACLs, hard links."""

import errno
import os
from pathlib import Path

import pytest
from trees import fill, listing, put

import zipfs
from zipfs import attributes
from zipfs.errors import FailuresError

TEXT = b"text " * 10_000


@pytest.fixture
def src(rng, tmp_path) -> Path:
    fill(tmp_path / "src", rng)
    return tmp_path / "src"


def test_a_mirror_and_back_keeps_everything(src, tmp_path):
    before = listing(src)
    summary = zipfs.compress(src, tmp_path / "dst")
    assert (summary.num_files, summary.notes) == (11, ())
    zipfs.decompress(tmp_path / "dst", tmp_path / "back")
    assert listing(tmp_path / "back") == before
    assert listing(src) == before
    for name, what in listing(tmp_path / "dst").items():
        assert what[:5] == before[name.removesuffix(b".zipfs")][:5], name


def test_hard_links_are_stored_once(src, tmp_path):
    dst = tmp_path / "dst"
    summary = zipfs.compress(src, dst)
    for name in ("sub/linked.safetensors.zipfs", "also linked.zipfs"):
        assert os.path.samefile(dst / "model.safetensors.zipfs", dst / name)
    paths = (path for path in dst.rglob("*") if path.is_file() and not path.is_symlink())
    files = {path.stat().st_ino: path.stat().st_size for path in paths}
    assert summary.stored_size == sum(files.values())


def test_hard_links_that_lead_to_different_things(rng, tmp_path):
    """A name that is too long, one that is taken, one with our suffix; and noise, which is copied."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    put(src / "a", TEXT)
    for name in ("b", "n" * 250, "x.zipfs", "c"):
        os.link(src / "a", src / name)
    (src / "b.zipfs").mkdir()
    put(src / "noise", rng.bytes(5000))
    os.link(src / "noise", src / "noise 2")
    before = listing(src)
    zipfs.compress(src, dst)
    assert os.path.samefile(dst / "a.zipfs", dst / "c.zipfs")
    assert os.path.samefile(dst / "noise", dst / "noise 2")
    assert (dst / "b").read_bytes() == (dst / ("n" * 250)).read_bytes() == TEXT
    zipfs.decompress(dst, tmp_path / "back")
    for name, what in listing(tmp_path / "back").items():
        assert what[:6] == before[name][:6]


def test_hard_links_and_force(tmp_path):
    src, dst = tmp_path / "src", tmp_path / "dst"
    put(src / "a", TEXT)
    os.link(src / "a", src / "b")
    put(dst / "b", b"stale plain form")
    with pytest.raises(FailuresError, match="b: exists already"):
        zipfs.compress(src, dst)
    assert sorted(os.listdir(dst)) == ["a.zipfs", "b"]
    zipfs.compress(src, dst, force=True)
    assert sorted(os.listdir(dst)) == ["a.zipfs", "b.zipfs"]
    assert os.path.samefile(dst / "a.zipfs", dst / "b.zipfs")


def test_holes_come_back(tmp_path):
    (tmp_path / "src").mkdir()
    with open(tmp_path / "src/holes", "wb") as file:
        for at in (5 << 20, 11 << 20, 30 << 20):
            file.seek(at)
            file.write(b"text " * 100)
        file.truncate(50_000_001)
    zipfs.compress(tmp_path / "src", tmp_path / "dst")
    zipfs.decompress(tmp_path / "dst", tmp_path / "back")
    assert (tmp_path / "back/holes").read_bytes() == (tmp_path / "src/holes").read_bytes()
    assert (tmp_path / "back/holes").stat().st_blocks * 512 < 4 << 20


def test_a_file_system_without_attributes(src, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(attributes.os, "setxattr", refuse)
    zipfs.compress(src, tmp_path / "dst")
    assert os.listxattr(tmp_path / "dst/model.safetensors.zipfs") == []


def test_what_the_folder_would_give_goes(tmp_path):
    """A default ACL of the target folder is not the file's own."""
    put(tmp_path / "src", TEXT)
    (tmp_path / "dst").mkdir()
    default = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + (6).to_bytes(2, "little") + user.to_bytes(4, "little")
        for tag, user in ((1, 0xFFFFFFFF), (2, 12345), (4, 0xFFFFFFFF), (16, 0xFFFFFFFF), (32, 0xFFFFFFFF))
    )
    os.setxattr(tmp_path / "dst", "system.posix_acl_default", default)
    zipfs.compress(tmp_path / "src", tmp_path / "dst")
    assert os.listxattr(tmp_path / "dst/src.zipfs") == []
    assert (tmp_path / "dst/src.zipfs").stat().st_mode & 0o777 == 0o644
