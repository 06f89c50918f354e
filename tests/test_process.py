"""The command's process: closed streams, signals, and a kernel that cannot be had."""

import os
import signal
import subprocess
import sys

import pytest

from zipfs import names, signals

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


def start(folder, number: int, action: signal.Handlers) -> subprocess.Popen:
    """A compress that has begun and would take hours, with `action` for the signal `number` from its birth."""
    with open(folder / "sparse", "wb") as file:
        file.truncate(1 << 40)
    command = [*ZIPFS, "compress", folder / "sparse", folder / "x.zipfs"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(number, action)
    )
    while not any(map(names.temporary_owner, os.listdir(folder))):
        assert process.poll() is None
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_nothing(tmp_path, number):
    process = start(tmp_path, number, signal.SIG_DFL)
    try:
        process.send_signal(number)
        assert process.wait(timeout=20) == 128 + number
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
    assert os.listdir(tmp_path) == ["sparse"]


def test_nohup_holds(tmp_path):
    """Who starts a command with SIGHUP ignored wants it to go on."""
    process = start(tmp_path, signal.SIGHUP, signal.SIG_IGN)
    try:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
    finally:
        process.kill()
        process.communicate()


def test_a_kernel_that_cannot_be_had(tmp_path):
    done = shell('ZIPFS_KERNEL=abacus "$@"', "compress", tmp_path, tmp_path / "dst")
    assert done.returncode == 2
    assert done.stderr.startswith("zipfs: ZIPFS_KERNEL") and len(done.stderr.splitlines()) == 1


def test_signals_wait_while_names_change():
    """What ends a command leaves no output half published."""
    done = []
    with pytest.raises(SystemExit) as ended, signals.ending_in_order():
        with signals.held_back():
            with signals.held_back():
                os.kill(os.getpid(), signal.SIGTERM)
            done.append("inner")
        done.append("never")
    assert done == ["inner"] and ended.value.code == 128 + signal.SIGTERM
    with pytest.raises(KeyboardInterrupt), signals.ending_in_order():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
