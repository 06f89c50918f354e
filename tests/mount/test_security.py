"""Whom a mount serves what: never more than the source would."""

import errno
import itertools
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest
from mounts import bf16_bytes, eventually, put

from zipfs import _native
from zipfs.tree import Tree

NOBODY = 65534
SECRET = b"the secret " * 1000

READER = """
import os, sys
uid, seconds, *names = sys.argv[1:]
os.setgroups([]); os.setgid(int(uid)); os.setuid(int(uid))
import time
deadline = time.monotonic() + float(seconds)
while True:
    for name in names:
        try:
            with open(name, "rb") as file:
                print(name, "secret" if b"secret" in file.read() else "read")
        except OSError as error:
            print(name, error.errno)
    if time.monotonic() >= deadline:
        break
"""


def read_as_nobody(folder, *names: str, seconds: float = 0) -> list[str]:
    """Lines `name outcome` of a process of another user, which stands in the folder already and opens the names."""
    command = [sys.executable, "-S", "-c", READER, str(NOBODY), str(seconds), *names]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return result.stdout.splitlines()


@pytest.fixture
def as_root():
    if os.geteuid() != 0:
        pytest.skip("only root can start processes of another user")


def test_another_user_may_read_what_the_source_lets_him(as_root, mounted, source):
    put(source, "open", bf16_bytes(1, 100_000))
    put(source, "closed", bf16_bytes(2, 100_000))
    (source / "passed").write_bytes(SECRET)
    os.chmod(source / "open.zipfs", 0o644)
    os.chmod(source / "closed.zipfs", 0o600)
    os.chmod(source / "passed", 0o600)
    os.chmod(source, 0o755)
    path = mounted(source, options="allow_other").path
    lines = read_as_nobody(path, "open", "closed", "passed")
    assert lines == ["open read", f"closed {errno.EACCES}", f"passed {errno.EACCES}"]


def test_without_allow_other_another_user_sees_nothing(as_root, mounted, source):
    (source / "passed").write_bytes(b"x")
    os.chmod(source, 0o755)
    assert read_as_nobody(mounted(source).path, "passed") == [f"passed {errno.EACCES}"]


@pytest.mark.parametrize("denied", ["g::---,u:12345:r--,m::r--", f"u:{NOBODY}:---,m::r--", f"g:{NOBODY}:---,m::r--"])
def test_an_access_list_never_lets_in_whom_it_keeps_out(as_root, mounted, source, denied):
    """The mode has the list's mask for the group's rights, and others' may be those of somebody who is named."""
    setfacl = shutil.which("setfacl")
    if not setfacl:
        pytest.skip("setfacl (package acl) is not installed")
    (source / "folder").mkdir()
    put(source, "container", bf16_bytes(1, 100_000))
    secrets = [source / "passed", source / "folder" / "passed", source / "container.zipfs"]
    for path in secrets[:2]:
        path.write_bytes(SECRET)
    for path in secrets:
        os.chmod(path, 0o604 if denied.startswith("u:") else 0o640)
        if not denied.startswith("u:"):
            os.chown(path, 0, NOBODY if denied.startswith("g::") else 0)
        if subprocess.run([setfacl, "-m", denied, path], capture_output=True, check=False).returncode:
            pytest.skip("the file system has no access lists")
    os.chmod(source / "folder", 0o755)
    os.chmod(source, 0o755)
    names = ["passed", "folder/passed"]
    denied_lines = [f"{name} {errno.EACCES}" for name in names]
    assert read_as_nobody(source, *names) == denied_lines
    path = mounted(source, options="allow_other").path
    assert read_as_nobody(path, *names, "container") == [*denied_lines, f"container {errno.EACCES}"]
    assert (path / "passed").read_bytes() == SECRET
    for folder, _, files in os.walk(path):  # with attributes that come with the listing
        assert [stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) for name in files] == [0o600] * len(files)


def test_permissions_taken_away_hold_at_once(as_root, mounted, source):
    (source / "passed").write_bytes(SECRET)
    os.chmod(source / "passed", 0o644)
    os.chmod(source, 0o755)
    path = mounted(source, options="allow_other").path
    assert read_as_nobody(path, "passed") == ["passed secret"]
    os.stat(path / "passed")  # the kernel may believe this for a second
    os.chmod(source / "passed", 0o600)
    assert read_as_nobody(path, "passed") == [f"passed {errno.EACCES}"]


def test_a_file_swapped_for_a_link_to_a_secret_is_never_served(as_root, mounted, source, tmp_path):
    """Files flip between public, a link to a secret, and the secret itself, while another user opens them."""
    (tmp_path / "secret").write_bytes(SECRET)
    os.chmod(tmp_path / "secret", 0o600)
    (tmp_path / "public").write_bytes(b"public")
    os.chmod(tmp_path / "public", 0o644)
    os.chmod(source, 0o755)
    # The kernel believes what it saw for a second: many names make many looks.
    names = [f"file{i}" for i in range(20)]
    flips = [
        lambda target: os.link(tmp_path / "public", target),
        lambda target: os.symlink(tmp_path / "secret", target),
        lambda target: os.link(tmp_path / "secret", target),
    ]
    done = threading.Event()

    def flip() -> None:
        for number, make in enumerate(itertools.cycle(flips)):  # 20 and 3 have no common factor: all names get all
            if done.is_set():
                return
            make(tmp_path / "next")
            os.replace(tmp_path / "next", source / names[number % len(names)])
            if number % len(names) == 0:
                time.sleep(0.002)

    flipper = threading.Thread(target=flip)
    path = mounted(source, options="allow_other").path
    flipper.start()
    try:
        lines = read_as_nobody(path, *names, seconds=3)
    finally:
        done.set()
        flipper.join()
    assert not [line for line in lines if line.endswith("secret")]
    assert [line for line in lines if line.endswith("read")], "the test must also reach the public files"


def test_fifos_sockets_and_devices_do_not_exist(mounted, source):
    os.mkfifo(source / "fifo")
    os.mkfifo(source / "pipe.zipfs")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
        if os.geteuid() == 0:
            os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (source / "file").write_bytes(b"x")
        path = mounted(source).path
        assert os.listdir(path) == ["file"]
        for name in ("fifo", "pipe", "pipe.zipfs", "socket", "null"):
            with pytest.raises(FileNotFoundError):
                os.stat(path / name)


def test_a_file_swapped_for_a_fifo_does_not_hang(mounted, source):
    (source / "file").write_bytes(b"x")
    path = mounted(source).path
    os.stat(path / "file")
    os.remove(source / "file")
    os.mkfifo(source / "file")
    with pytest.raises(FileNotFoundError):
        open(path / "file", "rb")


def test_links_out_of_the_source_are_not_followed(source, tmp_path):
    """What the tree itself would do if asked for a path through a link, which the kernel never does."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    os.symlink(tmp_path / "outside", source / "link")
    (source / "file").write_bytes(b"public")
    dir_fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = Tree(dir_fd, _native.Cache(1 << 20), b"source")
        for path in (b"link/secret", b"../outside/secret", os.fsencode(tmp_path / "outside" / "secret")):
            with pytest.raises(OSError) as caught:
                tree.lookup(path)
            assert caught.value.errno in (errno.ELOOP, errno.EXDEV), path
        node = tree.lookup(b"file")
        os.remove(source / "file")
        os.symlink(tmp_path / "outside" / "secret", source / "file")
        with pytest.raises(OSError) as caught:
            tree.open(node)
        assert caught.value.errno == errno.ESTALE
    finally:
        os.close(dir_fd)


def test_a_link_swapped_in_shows_as_a_link(mounted, source):
    (source / "file").write_bytes(b"x")
    path = mounted(source).path
    os.stat(path / "file")
    os.remove(source / "file")
    os.symlink("elsewhere", source / "file")
    assert eventually(lambda: os.path.islink(path / "file"))
