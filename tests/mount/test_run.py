"""`zipfs run`: the command's view, its exit code, and what is left when one of the two is ended from outside."""

import os
import signal
import subprocess
import sys
import time

import pytest
from mounts import bf16_bytes, eventually, put

from zipfs import mountpoint as points
from zipfs.cli import main
from zipfs.errors import CommandError, MountError
from zipfs.run import run

DATA = bf16_bytes(1, 1_000_000)
WAITING = """
import os, signal, sys, time
def note(number, frame):
    signal.signal(number, signal.SIG_IGN)
    os.write(1, b"got %d\\n" % number)  # print() may have been under way when the signal came
    sys.exit(7)
signal.signal(signal.SIGTERM, note)
signal.signal(signal.SIGINT, note)
print(os.environ["ZIPFS_MOUNT"], flush=True)
time.sleep(60)
"""


@pytest.fixture
def weights(source):
    put(source, "weights", DATA)
    return source


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where mountpoints are made; empty at the end, and nothing mounted."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield path
    assert eventually(lambda: os.listdir(path) == [], 10)


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def running(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "zipfs", "run", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def test_other_threads_may_get_the_signal():
    """One that did not block SIGCHLD got it, and run() waited for ever: of 300 short commands, for one or more."""
    code = """if True:
        import signal, threading, time
        from zipfs.run import PASSED_ON, blocked, run_command
        for _ in range(4):
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        with blocked({*PASSED_ON, signal.SIGCHLD}) as mask:
            for _ in range(300):
                assert run_command(["true"], {"PATH": "/usr/bin:/bin"}, mask) == 0
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_command_reads_plain_files(driver, weights, tmp_path):
    assert run(weights, shell(f'cp "$ZIPFS_MOUNT/weights" {tmp_path}/copy'), driver=driver) == 0
    assert (tmp_path / "copy").read_bytes() == DATA


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_the_exit_code_is_the_commands(weights, script, code):
    assert main(["run", str(weights), "--", *shell(script)]) == code


def test_arguments_are_passed_as_they_are(weights, capfd):
    assert main(["run", "--cache-size", "1M", str(weights), "--", "printf", "%s,", "--", "-v", "--help", "a b"]) == 0
    assert capfd.readouterr().out == "--,-v,--help,a b,"
    assert main(["run", str(weights), "printf", "%s", "--jobs"]) == 0
    assert capfd.readouterr().out == "--jobs"


def test_what_cannot_be_run(weights, tmp_path, capfd):
    with pytest.raises(CommandError, match="no-such-command"):
        run(weights, ["no-such-command"])
    assert main(["run", str(weights), "--", "no-such-command"]) == 127
    with pytest.raises(MountError, match="does not exist"):
        run(tmp_path / "none", ["true"])
    assert main(["run", str(weights)]) == 2
    assert main(["run", str(weights), "--jobs", "1", "true"]) == 2
    assert "options of run go before SRC" in capfd.readouterr().err


def test_the_command_has_streams_signals_and_environment_as_usual(weights):
    script = 'cat; echo " $KEPT"; grep ^Sig /proc/self/status'
    process = running(weights, "--", *shell(script), stdin=subprocess.PIPE, env=os.environ | {"KEPT": "kept"})
    said, _ = process.communicate("typed", timeout=30)
    first, *lines = said.splitlines()
    assert first == "typed kept"
    masks = {name: int(mask, 16) for name, mask in (line.split(":") for line in lines if "Q" not in line)}
    assert masks["SigBlk"] == 0
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not masks["SigIgn"] >> (number - 1) & 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to_group", [False, True])
def test_a_signal_ends_the_command_and_then_the_mount(weights, number, to_group):
    with running(weights, "--", sys.executable, "-c", WAITING, start_new_session=True) as process:
        path = process.stdout.readline().strip()
        assert points.find_mount(path)
        (os.killpg if to_group else os.kill)(process.pid, number)
        assert process.wait(10) == 7
        assert process.stdout.read() == f"got {number}\n"
    assert not os.path.exists(path)


def test_a_terminals_interrupt_reaches_the_command_once(weights, tmp_path):
    """The terminal tells all processes in its foreground: what passed it on as well would tell the command twice."""
    noting = WAITING.replace("signal.signal(number, signal.SIG_IGN)", "").replace("sys.exit(7)", "")
    script = noting.replace("time.sleep(60)", "time.sleep(1); time.sleep(1)")
    pid, terminal = os.forkpty()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "zipfs", "run", weights, "--", sys.executable, "-c", script])
    said = b""
    while b"zipfs-run-" not in said or not said.endswith(b"\n"):
        said += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    try:
        while part := os.read(terminal, 1000):
            said += part
    except OSError:  # how a terminal ends
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert said.count(b"got 2") == 1


def test_it_may_be_killed(driver, weights):
    """Then the daemon unmounts, also while the command, which nobody can end now, has files open."""
    script = "exec 3<$ZIPFS_MOUNT/weights; echo $ZIPFS_MOUNT $$; sleep 60"
    with running("--driver", driver, weights, "--", *shell(script), start_new_session=True) as process:
        path, command_pid = process.stdout.readline().split()
        process.kill()
        process.wait()
        assert eventually(lambda: points.find_mount(path) is None and not os.path.exists(path), 10)
        os.kill(int(command_pid), 0)
        os.killpg(process.pid, signal.SIGKILL)


def test_what_the_command_leaves_running_does_not_hold_the_mount(weights):
    script = "exec 3<$ZIPFS_MOUNT/weights; sleep 60 >/dev/null 2>&1 & echo $! $ZIPFS_MOUNT"
    with running(weights, "--", *shell(script)) as process:
        pid, path = process.stdout.readline().split()
        began = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - began < 10
        os.kill(int(pid), signal.SIGKILL)
    assert points.find_mount(path) is None


def test_an_interrupt_while_it_mounts(weights):
    for delay_s in (0.05, 0.15, 0.25, 0.35):
        with running(weights, "--", "sleep", "1") as process:
            time.sleep(delay_s)
            process.terminate()
            assert process.wait(10) in (-signal.SIGTERM, 128 + signal.SIGTERM)
