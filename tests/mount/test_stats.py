"""The file in a mount's root that tells what the daemon has counted."""

import errno
import os
import stat

import pytest
from mounts import bf16_bytes, drop_pages, put

from zipfs import names

SIZE = 3 << 20


def test_report(mounted, source):
    data = bf16_bytes(1, SIZE)
    put(source, "weights", data)
    (source / "notes").write_bytes(b"passed through")
    mount = mounted(source, cache_size=16 << 20, jobs=2)
    assert (mount.path / "weights").read_bytes() == data
    assert (mount.path / "notes").read_bytes() == b"passed through"
    report = mount.report()
    assert report["settings"]["cache_size"] == 16 << 20
    assert report["settings"]["jobs"] == 2
    by_name = {os.path.basename(file["name"]): file for file in report["files"]}
    weights, notes = by_name["weights.zipfs"], by_name["notes"]
    assert weights["size"] == weights["bytes_decoded"] == weights["bytes_read"] == SIZE
    assert weights["stored_bytes_read"] < 0.7 * SIZE
    assert weights["decode_ns"] > 0
    assert notes["bytes_passed"] == notes["bytes_read"] == (0 if report.get("passthrough") else 14)
    for counter in ("reads", "bytes_read", "bytes_decoded", "decode_ns", "chunks_decoded"):
        assert report["total"][counter] == weights[counter] + notes[counter]


def test_it_is_of_the_moment(mounted, source):
    """Each open tells what is so now, though nothing was read from it or anything else in between but what it tells."""
    put(source, "weights", bf16_bytes(2, SIZE))
    mount = mounted(source)
    assert mount.report()["total"]["reads"] == 0
    assert mount.report()["total"]["reads"] == 0
    for i in range(1, 3):
        drop_pages(mount.path / "weights")
        assert (mount.path / "weights").read_bytes()
        assert mount.report()["total"]["bytes_read"] == i * SIZE


def test_it_is_found_by_name_alone(mounted, source):
    (source / "folder").mkdir()
    (source / names.STATS).write_text("of the source")
    mount = mounted(source)
    assert os.listdir(mount.path) == ["folder"]
    found = os.stat(mount.path / names.STATS)
    assert stat.S_IMODE(found.st_mode) == 0o400
    assert found.st_uid == os.geteuid()
    assert "total" in mount.report()
    with pytest.raises(OSError) as caught:
        os.open(mount.path / names.STATS, os.O_WRONLY)
    assert caught.value.errno == errno.EROFS
    with pytest.raises(FileNotFoundError):
        os.stat(mount.path / "folder" / names.STATS)


def test_parts_of_it(mounted, source):
    """One open file is one report, in whatever pieces it is read."""
    mount = mounted(source)
    fd = os.open(mount.path / names.STATS, os.O_RDONLY)
    whole = os.pread(fd, 1 << 16, 0)
    assert b"".join(os.pread(fd, 7, at) for at in range(0, len(whole) + 7, 7)) == whole
    os.close(fd)


def test_names_of_any_bytes(mounted, source):
    name = b'quote" back\\slash \xff\xc3 \xe2\x82\xac \x01'
    (source / os.fsdecode(name)).write_bytes(b"x")
    mount = mounted(source)
    assert (mount.path / os.fsdecode(name)).read_bytes() == b"x"
    assert [os.path.basename(os.fsencode(file["name"])) for file in mount.report()["files"]] == [name]
