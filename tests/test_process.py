"""The command's process: closed streams, signals, and a kernel that cannot be had."""

import os
import signal
import subprocess
import sys

import pytest

from zipfs import names

ZIPFS = [sys.executable, "-m", "zipfs"]


def shell(line: str, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run(["sh", "-c", line, "sh", *ZIPFS, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path, closed):
    """A file that took the place of stderr would get the messages."""
    (tmp_path / "x").write_bytes(b"text " * 1000)
    done = shell(f'"$@" {closed}', "compress", tmp_path / "x", tmp_path / "x.zipfs")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    done = shell(f'"$@" {closed}', "verify", tmp_path / "x.zipfs", tmp_path / "missing")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert shell('"$@"', "verify", tmp_path / "x.zipfs").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_nothing(tmp_path, number):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    command = [*ZIPFS, "compress", tmp_path / "sparse", tmp_path / "x.zipfs"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not any(map(names.temporary_owner, os.listdir(tmp_path))):
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=20) == 128 + number
        assert process.stderr.read() == ""
    assert os.listdir(tmp_path) == ["sparse"]


def test_a_kernel_that_cannot_be_had(tmp_path):
    done = shell('ZIPFS_KERNEL=abacus "$@"', "compress", tmp_path, tmp_path / "dst")
    assert done.returncode == 2
    assert done.stderr.startswith("zipfs: ZIPFS_KERNEL") and len(done.stderr.splitlines()) == 1
