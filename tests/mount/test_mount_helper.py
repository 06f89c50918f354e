"""mount(8) and fstab: zipfs called as mount.zipfs or mount.fuse.zipfs, with the conventions of mount's helpers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mounts import bf16_bytes, put

from zipfs import mountpoint as points
from zipfs.commands.mount_helper import select_words
from zipfs.errors import UsageError
from zipfs.mount import umount_command

DATA = bf16_bytes(1, 300_000)
SCRIPT = """\
#!{python}
import sys
sys.path.insert(0, {home!r})
from zipfs.cli import main
sys.exit(main())
"""
BARE = {"PATH": "/usr/bin:/bin"}
"""An environment without a virtual environment, such as fstab's mounts have."""


@pytest.fixture
def helper(tmp_path) -> Path:
    """A link called mount.zipfs to a script like the one that pip installs."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "zipfs"
    script.write_text(SCRIPT.format(python=sys.executable, home=os.getcwd()))
    script.chmod(0o755)
    link = tmp_path / "mount.zipfs"
    link.symlink_to(script)
    return link


@pytest.fixture
def folders(source, tmp_path):
    put(source, "weights", DATA)
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    return source, mnt


def run(helper: Path, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run([helper, *arguments], env=BARE, cwd="/", capture_output=True, text=True, timeout=60)


def test_it_mounts_as_mount_asks(helper, folders):
    source, mnt = folders
    words = "rw,dev,suid,exec,relatime,x-systemd.automount,nofail,cache_size=8M,readahead_kb=256"
    done = run(helper, source, mnt, "-n", "-v", "-o", words, "-t", "zipfs")
    try:
        assert done.returncode == 0, done.stderr
        assert (mnt / "weights").read_bytes() == DATA
        mount = points.find_mount(str(mnt))
        assert {"ro", "nosuid", "nodev"} <= mount.options
        assert not {"dev", "suid", "rw"} & mount.options
        assert "cache_size 8388608" in done.stderr
    finally:
        umount_command(mnt)


def test_the_other_name(helper, folders, tmp_path):
    other = tmp_path / "mount.fuse.zipfs"
    other.symlink_to(helper)
    assert run(other, *folders, "-o", "rw").returncode == 0
    umount_command(folders[1])


def test_exit_codes_are_those_of_mount(helper, folders, tmp_path):
    source, mnt = folders
    failed = run(helper, source, tmp_path / "none", "-o", "rw")
    assert failed.returncode == 32
    assert "mkdir -p" in failed.stderr
    for arguments in ([source], [source, mnt, "-o", "uid=0"], [source, mnt, "--driver", "native"]):
        assert run(helper, *arguments).returncode == 1
    assert points.find_mount(str(mnt)) is None


def test_faking_checks_and_mounts_nothing(helper, folders, tmp_path):
    source, mnt = folders
    assert run(helper, source, mnt, "-f", "-o", "rw").returncode == 0
    assert points.find_mount(str(mnt)) is None
    assert run(helper, source, tmp_path / "none", "-f").returncode == 32


def test_what_is_mounted_already(helper, folders, tmp_path):
    source, mnt = folders
    assert run(helper, source, mnt).returncode == 0
    try:
        again = run(helper, source, mnt, "-o", "rw")
        assert (again.returncode, again.stderr) == (0, f"zipfs: {mnt}: mounted already\n")
        (tmp_path / "other").mkdir()
        other = run(helper, tmp_path / "other", mnt, "-o", "rw")
        assert other.returncode == 32
        assert "mounted here already" in other.stderr
    finally:
        umount_command(mnt)


def test_sloppiness(helper, folders):
    done = run(helper, *folders, "-s", "-o", "rw,uid=0,noexec")
    try:
        assert done.returncode == 0
        assert "-o uid=0: unknown, passed over" in done.stderr
        assert "noexec" in points.find_mount(str(folders[1])).options
    finally:
        umount_command(folders[1])


def test_words():
    assert list(select_words(["rw,noexec,nosuid", "nodev,user=me,allow_other"], False)) == [
        *("noexec", "nosuid", "nodev", "allow_other")
    ]
    assert list(select_words(["user,noexec,exec,comment=a"], False)) == []
    assert list(select_words(["exec,noexec"], False)) == ["noexec"]
    with pytest.raises(UsageError, match="remount"):
        list(select_words(["remount,ro"], False))


MOUNTING = """\
set -e
mount -t tmpfs tmpfs $(readlink -f /sbin)
cp -P {helper} /sbin/mount.zipfs
ln -s mount.zipfs /sbin/mount.fuse.zipfs
trap 'umount -l {mnt} 2>/dev/null || true' EXIT
cd /
mount -t zipfs -o dev,suid {source} {mnt}
findmnt -n -o FSTYPE,OPTIONS {mnt}
cmp {mnt}/weights {plain}
umount {mnt}
mount -t fuse.zipfs {source} {mnt}
cmp {mnt}/weights {plain}
umount {mnt}
mount -T {fstab} {mnt}
findmnt -n -o FSTYPE,OPTIONS {mnt}
umount {mnt}
mount -a -T {fstab}
mount -a -T {fstab}
cmp {mnt}/weights {plain}
umount {mnt}
! mount -t zipfs {source} {mnt}/none
"""


def test_mount_and_fstab_themselves(helper, folders, tmp_path):
    """In a mount namespace of its own, where helpers can be installed without changing the machine."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("this needs root, and unshare")
    source, mnt = folders
    (tmp_path / "plain").write_bytes(DATA)
    (tmp_path / "fstab").write_text(f"{source} {mnt} zipfs defaults,noexec,nofail,profile=random,x-test=1 0 0\n")
    paths = {"helper": helper, "source": source, "mnt": mnt, "plain": tmp_path / "plain", "fstab": tmp_path / "fstab"}
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", MOUNTING.format(**paths)]
    done = subprocess.run(command, env=BARE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = (set(line.split(maxsplit=1)[1].split(",")) for line in done.stdout.splitlines())
    assert {"ro", "nosuid", "nodev"} <= first and "noexec" not in first
    assert {"ro", "nosuid", "nodev", "noexec"} <= second
    assert "mountpoint does not exist" in done.stderr or "does not exist" in done.stderr


def test_the_unit_in_the_documentation_is_valid(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    text = (Path(__file__).parents[2] / "docs" / "mounting.md").read_text()
    unit = text.split("```ini\n")[1].split("```")[0]
    assert "ExecStart=/opt/zipfs/bin/zipfs mount" in unit
    path = tmp_path / "zipfs-models.service"
    path.write_text(unit.replace("/opt/zipfs/bin/zipfs", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
