"""A user who is not root: compresses his folder in place, mounts it over itself, unmounts it and restores it.

Run by root, the commands drop to another user; nothing here needs user_allow_other.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mounts import why_not

import zipfs
from zipfs import _native
from zipfs import mountpoint as points
from zipfs.drivers import native
from zipfs.names import word

USER = "nobody"
NAMES = [b"model.safetensors", b"sub dir/-dash.bin", b"new\nline/a'b", b"\xff\xfe.bin"]

Run = Callable[..., subprocess.CompletedProcess]


def copy_package(target: Path) -> None:
    """zipfs as a folder that any Python of this version imports: an editable install is found by the test's own alone."""
    shutil.copytree(Path(zipfs.__file__).parent, target, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for module in (_native, native.load()):
        shutil.copy(module.__file__, target)
    target.parent.chmod(0o755)


def environment(home: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(home / "python"), *(path for path in sys.path if "site-packages" in path)])
    return {"PYTHONPATH": paths, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def drop() -> dict[str, object]:
    """Arguments of subprocess.run() that make the child another user's; none where this user is not root."""
    if os.geteuid():
        return {}
    user = pwd.getpwnam(USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def python(home: Path) -> str:
    """An interpreter that the user may run and that finds zipfs; the test's own may lie in root's home."""
    why = ""
    for program in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        try:
            command = [program, "-c", "import zipfs.daemon, zipfs.cli"]
            result = subprocess.run(command, env=environment(home), cwd="/", capture_output=True, text=True, **drop())
        except OSError as error:
            why = str(error)
            continue
        if result.returncode == 0:
            return program
        why = result.stderr
    pytest.skip(f"{USER} can run no Python that finds zipfs here: {why.strip()}")


@pytest.fixture
def tree(rng) -> Iterator[Path]:
    """A folder of the user, outside the folders that pytest keeps for root."""
    home = Path(tempfile.mkdtemp(prefix="zipfs-user-"))
    home.chmod(0o755)
    tree = home / "mo del"
    for name in NAMES:
        path = tree / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.normal(0, 0.02, 100_000).astype("float32").tobytes())
    (tree / "link").symlink_to("model.safetensors")
    if os.geteuid() == 0:
        for path in [tree, *tree.rglob("*")]:
            os.chown(path, drop()["user"], drop()["group"], follow_symlinks=False)
    try:
        yield tree
    finally:
        while points.find_mount(str(tree)):
            points.unmount(str(tree), lazy=True)
        shutil.rmtree(home)


@pytest.fixture
def run(tree) -> Run:
    """Runs `zipfs ARGUMENTS` as the user."""
    for reason in filter(None, [why_not("native"), None if points.find_fusermount() else "there is no fusermount3"]):
        pytest.skip(reason)
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        pytest.skip("users may not open /dev/fuse here")
    home = tree.parent
    copy_package(home / "python" / "zipfs")
    program = python(home)

    def run(*arguments: object, ok: bool = True) -> subprocess.CompletedProcess:
        command = [program, "-m", "zipfs", *map(str, arguments)]
        result = subprocess.run(command, env=environment(home), cwd=home, capture_output=True, text=True, **drop())
        assert (result.returncode == 0) == ok, result
        return result

    return run


def sums(tree: Path) -> bytes:
    """Names and digests of the folder's files, as the user sees them; root may not look into his mount."""
    command = 'cd "$1" && find . -xtype f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum'
    arguments = ["bash", "-o", "pipefail", "-c", command, "bash", str(tree)]
    return subprocess.run(arguments, cwd="/", check=True, capture_output=True, **drop()).stdout


def end_daemon(tree: Path) -> None:
    """Kills the daemon of the mount at `tree`."""
    wanted = os.fsencode(str(tree))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"\0zipfs.daemon\0" in command and wanted in command:
            os.kill(int(process.name), signal.SIGKILL)
            break
    else:
        pytest.fail("there is no daemon")
    deadline = time.monotonic() + 10
    while not points.is_dead(str(tree)) and time.monotonic() < deadline:
        time.sleep(0.02)


def test_in_place_and_over_itself(tree, run):
    before = sums(tree)
    run("compress", "--in-place", tree)
    packed = sums(tree)
    assert packed.count(b".zipfs\n") == len(NAMES)
    run("mount", tree)
    mount = points.find_mount(str(tree))
    assert mount is not None and "allow_other" not in mount.options
    assert sums(tree) == before
    if os.geteuid() == 0:
        with pytest.raises(PermissionError):
            os.listdir(tree)
    told = run("decompress", "--in-place", tree, ok=False).stderr
    assert f"zipfs umount '{tree}'" in told
    run("umount", tree)
    assert sums(tree) == packed
    run("decompress", "--in-place", tree)
    assert sums(tree) == before


def test_after_the_daemon_was_killed(tree, run):
    before = sums(tree)
    run("compress", "--in-place", tree)
    run("mount", tree)
    end_daemon(tree)
    assert "a dead mount is here" in run("decompress", "--in-place", tree, ok=False).stderr
    run("mount", tree)
    assert sums(tree) == before
    end_daemon(tree)
    run("umount", tree)
    run("decompress", "--in-place", tree)
    assert sums(tree) == before
    assert not [path for path in tree.rglob("*") if "zipfs" in path.name]


@pytest.mark.parametrize("name", [*NAMES, b"plain", b"it's", b"\\back", b"\x01a'\\", "\u00e4 \u2028".encode()])
def test_paths_in_messages_can_be_typed(name):
    typed = word(os.fsdecode(name))
    assert typed.isprintable()
    assert subprocess.run(["bash", "-c", f"printf %s {typed}"], check=True, capture_output=True).stdout == name


def test_who_holds_a_mount_is_told(tree, run):
    run("compress", "--in-place", tree)
    run("mount", tree)
    command = ["bash", "-c", 'cd "$1" && echo && exec sleep 60', "bash", str(tree)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, **drop())
    try:
        holder.stdout.readline()
        told = run("umount", tree, ok=False).stderr
    finally:
        holder.kill()
        holder.communicate()
    assert f" ({holder.pid}); end that" in told and told.count("(") == 1, "the daemon, or who asks, is told as well"
    run("umount", tree)
