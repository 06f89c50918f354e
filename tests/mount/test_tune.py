"""The kernel's limits of a mount: chosen by its profile, set where that is allowed, told where it is not."""

import os
from pathlib import Path

import pytest
from mounts import Mounted

from zipfs import tune as tuning
from zipfs.cli import main
from zipfs.errors import MountError
from zipfs.mount_options import PROFILES
from zipfs.tune import limit_paths, tune


def setting(mount: Mounted) -> Path:
    return limit_paths(mount.daemon.mount)["read_ahead_kb"]


@pytest.fixture
def as_root(mounted, source):
    """A mount whose limits may be set."""
    mount = mounted(source)
    if not os.access(setting(mount), os.W_OK):
        pytest.skip("the kernel's limits may not be set here")
    return mount


def test_the_command(as_root, capsys):
    assert setting(as_root).read_text() == f"{PROFILES['serving'].readahead_kb}\n"
    assert main(["tune", "--profile", "random", str(as_root.path)]) == 0
    was = PROFILES["serving"].readahead_kb
    assert capsys.readouterr().out.splitlines()[0] == f"read_ahead_kb: {PROFILES['random'].readahead_kb}, was {was}"
    assert setting(as_root).read_text() == f"{PROFILES['random'].readahead_kb}\n"
    assert main(["tune", "-o", "readahead_kb=512", str(as_root.path)]) == 0
    assert setting(as_root).read_text() == "512\n"
    assert main(["tune", str(as_root.path), "-o", "readahead_kb=lots"]) == 2


def test_limits_of_the_connection(as_root, tmp_path, monkeypatch):
    """As where fusectl is mounted, or without a mount of it here."""
    connection = tmp_path / as_root.daemon.mount.device.split(":")[1]
    connection.mkdir()
    monkeypatch.setattr(tuning, "CONNECTIONS", tmp_path)
    (connection / "max_background").write_text("12\n")
    (connection / "congestion_threshold").write_text("9\n")
    limits = {limit.name: (limit.before, limit.now) for limit in tune(as_root.path)}
    assert limits["max_background"] == (12, 64)
    assert limits["congestion_threshold"] == (9, 48)
    (connection / "max_background").unlink()
    limits = {limit.name: (limit.before, limit.now) for limit in tune(as_root.path)}
    assert limits["max_background"] == (None, None)
    assert not (connection / "max_background").exists()


def test_who_may_not_is_told_how(mounted, source, tmp_path, monkeypatch):
    """As where /sys is read-only: for users, and in containers."""
    monkeypatch.setattr(tuning, "BDI", tmp_path / "bdi")
    mount = mounted(source, options="readahead_kb=777")
    command = f"echo 777 > {setting(mount)}, or: zipfs tune -o readahead_kb=777 {mount.path}"
    assert [note for note in mount.daemon.notes if command in note] == mount.daemon.notes != []
    with pytest.raises(MountError, match=f"as root, outside of containers: echo 512 > {setting(mount)}"):
        tune(mount.path, profile="low-memory")


def test_nothing_is_said_where_nothing_is_to_be_raised(mounted, source, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "BDI", tmp_path / "bdi")
    monkeypatch.setattr(tuning, "read_limit", lambda path: 128)
    assert mounted(source, profile="random").daemon.notes == []


def test_it_is_no_mount(tmp_path):
    with pytest.raises(MountError, match="no zipfs mount is here"):
        tune(tmp_path)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_in_force_is_told(driver, source, tmp_path, capsys, profile):
    (tmp_path / "mnt").mkdir()
    options = ["-v", "--profile", profile, "--driver", driver, "--jobs", "3"]
    assert main(["mount", *options, str(source), str(tmp_path / "mnt")]) == 0
    try:
        said = capsys.readouterr().err
        words = set(said.replace(": ", ", ").split(", "))
        chosen = PROFILES[profile]
        assert {f"profile {profile}", "jobs 3", f"cache_size {chosen.cache_size}"} <= words
        assert f"ahead_size {chosen.ahead_size}" in words
        assert f"drop_source_cache {chosen.drop_source_cache}" in words
        assert any(word.startswith("read_ahead_kb ") for word in words)
    finally:
        assert main(["umount", str(tmp_path / "mnt")]) == 0
