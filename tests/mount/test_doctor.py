"""`zipfs doctor`: what it finds on a machine that works, and on those that lack something."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mounts import eventually, why_not

from zipfs import doctor
from zipfs.cli import main
from zipfs.doctor import FAILURE, OK, WARNING, examine
from zipfs.errors import MountError
from zipfs.mount import start, umount_command


@pytest.fixture
def able():
    reason = why_not("native") or why_not("mfusepy")
    if reason:
        pytest.skip(reason)


def by_name(findings):
    return {finding.name: finding for finding in findings}


def test_importlib_util_is_imported():
    """On Python 3.13 nothing else had done so, and doctor ended with an AttributeError."""
    code = "import importlib, sys; vars(importlib).pop('util', None); sys.modules.pop('importlib.util', None)"
    subprocess.run([sys.executable, "-c", f"{code}; import zipfs.doctor; importlib.util"], check=True)


def test_a_machine_that_mounts(able, capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok       mounting         ") for line in lines)
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert [list(finding) for finding in findings] == [["name", "status", "found", "remedy"]] * len(findings)
    names = {"fuse device", "fuse helper", "drivers", "kernel", "mounting", "passthrough", "readahead", "allow_other"}
    assert names | {"memory", "open files", "codec", "mount -t zipfs", "mounts"} == {finding["name"] for finding in findings}
    assert all(finding["remedy"] for finding in findings if finding["status"] != OK)


def test_a_machine_that_cannot_mount(tmp_path):
    environment = os.environ | {"FUSE_LIBRARY_PATH": "libfuse-that-is-not.so", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "zipfs", "doctor"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("failure")]
    assert "mounting" in line and "FUSE_LIBRARY_PATH=libfuse-that-is-not.so is no libfuse" in line
    assert "-> unset it" in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_missing_device(monkeypatch):
    def check_fuse():
        raise MountError("/dev/fuse is missing; modprobe fuse")

    monkeypatch.setattr(doctor.points, "check_fuse", check_fuse)
    findings = by_name(examine())
    assert findings["fuse device"] == ("fuse device", FAILURE, "/dev/fuse is missing", "modprobe fuse")
    assert findings["mounting"].status == FAILURE


def test_a_missing_helper(monkeypatch, tmp_path):
    for user, status in ((0, WARNING), (1000, FAILURE)):
        monkeypatch.setattr(doctor.points, "find_fusermount", lambda: None)
        monkeypatch.setattr(doctor.os, "geteuid", lambda user=user: user)
        assert doctor.check_helper().status == status
    program = tmp_path / "fusermount3"
    program.touch(0o755)
    monkeypatch.setattr(doctor.points, "find_fusermount", lambda: str(program))
    assert doctor.check_helper()[1:] == (
        *(WARNING, f"{program} is not setuid root: only root can mount", f"chmod u+s {program}"),
    )


def test_missing_drivers(monkeypatch):
    def load():
        raise MountError("this build has none; apt install libfuse3-dev")

    monkeypatch.setattr(doctor.native, "load", load)
    monkeypatch.setattr(doctor.fusepy, "find_library", lambda generations: ("libfuse3.so.3", 3))
    assert doctor.check_libfuse().status == WARNING
    assert doctor.check_libfuse().remedy == "apt install libfuse3-dev"
    monkeypatch.setattr(doctor.fusepy, "find_library", lambda generations: (None, 0))
    assert doctor.check_libfuse().status == FAILURE


def test_an_old_kernel(monkeypatch):
    def open_beneath(dir_fd, path, flags):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(doctor._native, "open_beneath", open_beneath)
    finding = doctor.check_kernel()
    assert finding.status == FAILURE and "openat2" in finding.found


def test_readahead_that_only_root_may_set(able, monkeypatch, tmp_path):
    monkeypatch.setattr("zipfs.tune.BDI", tmp_path)
    finding = by_name(examine())["readahead"]
    assert (finding.status, finding.remedy) == (WARNING, "as root, after each mount: zipfs tune MNT")


@pytest.mark.parametrize(
    ("lines", "folder", "file"),
    [("0::/a/b\n", "a", "memory.max"), ("4:memory:/a/b\n3:cpu:/\n", "memory/a", "memory.limit_in_bytes")],
)
def test_memory_of_control_groups(monkeypatch, tmp_path, lines, folder, file):
    (tmp_path / "cgroup").write_text(lines)
    group = tmp_path / folder
    (group / "b").mkdir(parents=True)
    (group / "b" / file).write_text("max\n")
    (group / file).write_text(f"{400 << 20}\n")
    limits = list(doctor.memory_limits(tmp_path / "cgroup", tmp_path))
    assert limits == [400 << 20]
    monkeypatch.setattr(doctor, "memory_limits", lambda: limits)
    assert doctor.check_memory().status == WARNING
    monkeypatch.setattr(doctor, "memory_limits", lambda: [])
    assert doctor.check_memory().status == OK


def test_few_open_files(monkeypatch):
    for most, status in ((1024, WARNING), (1 << 20, OK), (doctor.resource.RLIM_INFINITY, OK)):
        monkeypatch.setattr(doctor.resource, "getrlimit", lambda _, most=most: (1024, most))
        assert doctor.check_open_files().status == status


def test_the_codecs_code(monkeypatch):
    monkeypatch.setattr(doctor._native, "kernel", lambda: "scalar")
    assert doctor.check_codec().status == WARNING


def test_dead_mounts_are_named(driver, source, tmp_path):
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    dead = start(source, mnt, driver=driver)
    dead.process.kill()
    dead.process.wait()
    try:
        found = [finding for finding in doctor.find_dead_mounts() if str(mnt) in finding.found]
        assert [finding[1:] for finding in found] == [
            (WARNING, f"{mnt}: its daemon has gone", f"zipfs umount {mnt}"),
        ]
    finally:
        umount_command(mnt)
    assert not [finding for finding in doctor.find_dead_mounts() if str(mnt) in finding.found]


def is_stopped(pid: int) -> bool:
    """Whether each thread is: some run on for a while after kill() has returned, and would answer."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {stat.rpartition(")")[2].split()[0] for stat in stats} == {"T"}


def test_a_mount_that_hangs_does_not_hang_it(mounted, source, monkeypatch):
    mount = mounted(source)
    monkeypatch.setattr(doctor, "ANSWER_TIMEOUT_S", 0.2)
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        assert eventually(lambda: is_stopped(mount.pid), 10)
        (found,) = [finding for finding in doctor.find_dead_mounts() if str(mount.path) in finding.found]
        assert (found.status, found.found) == (WARNING, f"{mount.path}: does not answer")
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    assert Path(mount.path).is_dir()
