"""Programs that move files, on a mount: they see the plain bytes, whichever system calls they use."""

import contextlib
import hashlib
import http.client
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from mounts import bf16_bytes, eventually

FIO_BLOCK = 4096
HOLE = 1 << 20


def write(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "weights").write_bytes(bf16_bytes(1, 3_000_001))
    (folder / "sub/holes").write_bytes(bf16_bytes(2, 300_000) + bytes(HOLE) + bf16_bytes(3, 300_000))
    (folder / "sub/config.json").write_text('{"layers": 2}')


@pytest.fixture(scope="module")
def shelf(shelve):
    return shelve(write)


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"this machine has no {program}")


def run(*command) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def assert_same(folder: Path, other: Path) -> None:
    assert files(folder) == files(other)
    for name in files(folder):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("sparse", ["always", "never"])
def test_cp(mounted, shelf, tmp_path, sparse):
    run("cp", "-r", f"--sparse={sparse}", f"{mounted(shelf.stored).path}/.", tmp_path / "copy")
    assert_same(tmp_path / "copy", shelf.plain)
    status = os.stat(tmp_path / "copy/sub/holes")
    assert (status.st_blocks * 512 <= status.st_size - HOLE + 8192) == (sparse == "always")


def test_tar(mounted, shelf, tmp_path):
    shown = mounted(shelf.stored).path
    run("tar", "-cf", tmp_path / "shown.tar", "-C", shown, "--sparse", ".")
    run("tar", "-df", tmp_path / "shown.tar", "-C", shelf.plain)
    (tmp_path / "copy").mkdir()
    run("tar", "-xf", tmp_path / "shown.tar", "-C", tmp_path / "copy")
    assert_same(tmp_path / "copy", shelf.plain)


def test_rsync(mounted, shelf, tmp_path):
    need("rsync")
    shown = mounted(shelf.stored).path
    assert run("rsync", "-rc", "--itemize-changes", "--dry-run", f"{shown}/", f"{shelf.plain}/") == ""
    run("rsync", "-a", f"{shown}/", tmp_path / "copy")
    assert_same(tmp_path / "copy", shelf.plain)
    with open(tmp_path / "copy/weights", "r+b") as file:
        file.seek(1_000_000)
        file.write(b"\0\0\0")
    shutil.copystat(shelf.plain / "weights", tmp_path / "copy/weights")
    assert run("rsync", "-rc", "--out-format=%n", f"{shown}/", f"{tmp_path}/copy/") == "weights\n"
    assert_same(tmp_path / "copy", shelf.plain)


def test_sha256sum(mounted, shelf, tmp_path):
    lines = [f"{hashlib.sha256((shelf.plain / name).read_bytes()).hexdigest()}  {name}" for name in files(shelf.plain)]
    (tmp_path / "sums").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        ["sha256sum", "-c", tmp_path / "sums"],
        cwd=mounted(shelf.stored).path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "".join(f"{name}: OK\n" for name in files(shelf.plain))


@pytest.mark.parametrize(("offset", "size"), [(0, None), (1_234_567, 1_000_000)])
def test_sendfile(mounted, shelf, offset, size):
    """As web servers send files: from the page cache to a socket."""
    wanted = (shelf.plain / "weights").read_bytes()[offset:][:size]
    ours, theirs = socket.socketpair()
    received = bytearray()

    def receive() -> None:
        while block := theirs.recv(1 << 16):
            received.extend(block)

    receiver = threading.Thread(target=receive)
    receiver.start()
    with open(mounted(shelf.stored).path / "weights", "rb") as file, theirs:
        with ours:
            assert ours.sendfile(file, offset, size) == len(wanted)
        receiver.join()
    assert received == wanted


NGINX = """\
daemon off;
master_process off;
pid {home}/pid;
error_log {home}/log;
events {{}}
http {{
    access_log off;
    sendfile on;
    {paths}
    server {{
        listen unix:{home}/socket;
        location / {{ root {root}; }}
    }}
}}
"""


class OverSocket(http.client.HTTPConnection):
    """Of a server that listens at a path."""

    def __init__(self, path: Path):
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


@pytest.fixture
def nginx(mounted, shelf, tmp_path):
    """nginx, serving a mount; the path of its socket."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("this machine has no nginx")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    configuration = NGINX.format(home=tmp_path, paths=paths, root=mounted(shelf.stored).path)
    (tmp_path / "configuration").write_text(configuration)
    command = [program, "-e", tmp_path / "log", "-c", tmp_path / "configuration"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            assert eventually((tmp_path / "socket").exists, 20), (tmp_path / "log").read_text()
            yield tmp_path / "socket"
        finally:
            process.terminate()


def test_nginx(nginx, shelf):
    wanted = (shelf.plain / "weights").read_bytes()
    connection = OverSocket(nginx)
    with contextlib.closing(connection):
        connection.request("GET", "/weights")
        assert connection.getresponse().read() == wanted
        connection.request("GET", "/weights", headers={"Range": "bytes=1234567-2345678"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (206, wanted[1_234_567:2_345_679])


def test_splice(mounted, shelf):
    wanted = (shelf.plain / "weights").read_bytes()
    reading, writing = os.pipe()
    with open(mounted(shelf.stored).path / "weights", "rb") as file, open(reading, "rb") as reader, open(writing, "wb"):
        count = os.splice(file.fileno(), writing, 60_000, offset_src=100_001)
        assert reader.read(count) == wanted[100_001 : 100_001 + count] and count > 4096


@pytest.fixture(scope="module")
def checked_by_fio(shelve):
    """A file of blocks, each with its own checksum, as fio writes them."""
    need("fio")
    options = ["--size=4M", "--bs=64k", "--buffer_compress_percentage=50", "--refill_buffers", "--randseed=17"]
    return shelve(lambda folder: fio(folder / "blocks", "--rw=write", "--do_verify=0", *options))


def fio(path: Path, *options: str) -> str:
    common = ["--name=job", "--ioengine=psync", "--verify=crc32c", f"--verify_interval={FIO_BLOCK}", "--verify_fatal=1"]
    common.append("--verify_state_save=0")  # else the working folder gets a file of it
    return run("fio", *common, f"--filename={path}", *options)


@pytest.mark.parametrize("size", ["4k", "128k", "1M"])
def test_fio_verifies_by_o_direct(mounted, checked_by_fio, size):
    shown = mounted(checked_by_fio.stored).path / "blocks"
    for way in ("read", "randread"):
        fio(shown, f"--rw={way}", "--direct=1", f"--bs={size}", "--readonly", "--randseed=3", "--size=4M")


def test_fio_would_see_other_bytes(checked_by_fio, tmp_path):
    data = bytearray((checked_by_fio.plain / "blocks").read_bytes())
    data[2_000_000] ^= 1
    (tmp_path / "blocks").write_bytes(data)
    with pytest.raises(AssertionError, match="verify"):
        fio(tmp_path / "blocks", "--rw=read", "--bs=128k", "--readonly", "--size=4M")


def test_fsspec_local(mounted, shelf, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    system, shown = fsspec.filesystem("file"), str(mounted(shelf.stored).path)
    assert sorted(os.path.relpath(path, shown) for path in system.find(shown)) == files(shelf.plain)
    wanted = (shelf.plain / "weights").read_bytes()
    assert system.info(f"{shown}/weights")["size"] == len(wanted)
    assert system.cat_file(f"{shown}/weights", 1_000_001, 1_500_000) == wanted[1_000_001:1_500_000]
    ends = [(0, 10), (2_999_990, 3_000_001), (777_777, 999_999)]
    parts = system.cat_ranges([f"{shown}/weights"] * 3, *map(list, zip(*ends, strict=True)))
    assert parts == [wanted[start:end] for start, end in ends]
    system.get(f"{shown}/", f"{tmp_path}/copy/", recursive=True)
    assert_same(tmp_path / "copy", shelf.plain)
    with system.open(f"{shown}/weights") as file:
        assert np.array_equal(np.frombuffer(file.read(), np.uint8), np.frombuffer(wanted, np.uint8))
    with pytest.raises(OSError, match="Read-only file system"):
        system.pipe_file(f"{shown}/new", b"")
