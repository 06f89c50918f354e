"""Life and death of mounts: starting, explaining, ending, recovering."""

import contextlib
import errno
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from mounts import ALLOW_OTHER, IS_ROOT, bf16_bytes, eventually, mounting, put, why_not

import zipfs
from zipfs import mountpoint as points
from zipfs.drivers import fusepy, native
from zipfs.errors import MountError, UsageError
from zipfs.mount import mount_command, start, stop, umount_command
from zipfs.tree import MAX_IDLE_FILES

DATA = bf16_bytes(1, 1_000_000)


@pytest.fixture
def weights(source):
    put(source, "weights", DATA)
    return source


def libraries_of(pid: int) -> str:
    with open(f"/proc/{pid}/maps") as maps:
        return maps.read()


def test_the_mount_has_its_options(mounted, weights):
    mount = points.find_mount(str(mounted(weights, options=",".join(["noexec", *ALLOW_OTHER])).path))
    assert mount.fstype == "fuse.zipfs"
    assert mount.source == "zipfs"
    assert {"ro", "nosuid", "nodev", "noexec", "default_permissions", *ALLOW_OTHER} <= mount.options


def test_requests_are_as_large_as_libfuse_lets_them(mounted, weights, driver):
    data = bf16_bytes(2, 8 << 20)
    put(weights, "large", data)
    mount = mounted(weights)
    assert (mount.path / "large").read_bytes() == data
    stats = mount.stats()
    mean = stats["bytes_read"] / stats["reads"]
    assert mean > (400 << 10 if driver != "fusepy" and IS_ROOT else 100 << 10), "users have the kernel's readahead"


def test_readahead_can_be_set(mounted, weights):
    mount = mounted(weights, options="readahead_kb=512")
    if mount.daemon.notes:
        assert f"echo 512 > /sys/class/bdi/{mount.daemon.mount.device}/read_ahead_kb" in mount.daemon.notes[0]
    else:
        with open(f"/sys/class/bdi/{mount.daemon.mount.device}/read_ahead_kb") as setting:
            assert setting.read() == "512\n"


def test_the_daemon_loads_the_library_asked_for_and_no_numpy(mounted, weights, driver):
    mount = mounted(weights)
    (mount.path / "weights").read_bytes()
    libraries = libraries_of(mount.pid)
    assert ("libfuse3" in libraries, "libfuse.so.2" in libraries) == (driver != "fusepy", driver == "fusepy")
    assert "numpy" not in libraries
    assert "multiarray" not in libraries


def test_descriptors_are_given_back(mounted, source):
    for i in range(MAX_IDLE_FILES + 40):
        (source / f"file{i}").write_bytes(b"x")
    mount = mounted(source)
    before = len(os.listdir(f"/proc/{mount.pid}/fd"))
    with contextlib.ExitStack() as files:
        for path in mount.path.iterdir():
            assert files.enter_context(open(path, "rb")).read() == b"x"
        # `before` may have counted one that was open for a moment
        assert len(os.listdir(f"/proc/{mount.pid}/fd")) > before + MAX_IDLE_FILES + 30
    assert eventually(lambda: len(os.listdir(f"/proc/{mount.pid}/fd")) <= before + MAX_IDLE_FILES)


@contextlib.contextmanager
def closing_anyway(path):
    """An open file, whose mount may be gone when it is closed."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


def test_sigterm_unmounts_although_files_are_open(driver, tmp_path, weights):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with mounting(driver, tmp_path, weights) as mount, closing_anyway(mount.path / "weights") as fd:
            assert os.pread(fd, 10, 0) == DATA[:10]
            began = time.monotonic()
            mount.daemon.process.send_signal(number)
            assert mount.daemon.process.wait(5) == 0
            assert time.monotonic() - began < 5
            assert points.find_mount(str(mount.path)) is None
        assert os.listdir(tmp_path / "mnt") == []


def test_the_daemon_leaves_the_process_group_once_it_has_mounted(mounted, weights, monkeypatch):
    """Not before: where autofs waits for the mount that systemd makes, it lets only systemd's group get through. But
    then, or Ctrl-C would end it.
    """
    spawned = []
    module = sys.modules["zipfs.mount"]
    spawn = module.spawn

    def note(settings):
        process = spawn(settings)
        spawned.append(os.getpgid(process.pid))
        return process

    monkeypatch.setattr(module, "spawn", note)
    mount = mounted(weights)
    assert spawned == [os.getpgid(0)]
    assert os.getpgid(mount.pid) == os.getsid(mount.pid) == mount.pid


def test_a_killed_daemon_is_recovered(driver, tmp_path, weights):
    path = tmp_path / "mnt"
    path.mkdir()
    dead = start(weights, path, driver=driver)
    dead.process.kill()
    dead.process.wait()
    with pytest.raises(OSError) as caught:
        os.statvfs(path)
    assert caught.value.errno == errno.ENOTCONN
    with mounting(driver, tmp_path, weights) as mount:
        assert (mount.path / "weights").read_bytes() == DATA


def test_a_dead_mount_can_be_unmounted(driver, tmp_path, weights):
    path = tmp_path / "mnt"
    path.mkdir()
    dead = start(weights, path, driver=driver)
    dead.process.kill()
    dead.process.wait()
    assert umount_command(path) == 0
    assert os.listdir(path) == []


def test_unmounting(driver, tmp_path, weights):
    with mounting(driver, tmp_path, weights) as mount:
        with open(mount.path / "weights", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
            with pytest.raises(MountError, match=rf"in use by .*\({os.getpid()}\)"):
                umount_command(mount.path)
        assert umount_command(mount.path) == 0
        assert mount.daemon.process.wait(5) == 0
        with pytest.raises(MountError, match="no zipfs mount is here"):
            umount_command(mount.path)


def test_a_live_mount_is_not_mounted_over(mounted, weights):
    mount = mounted(weights)
    with pytest.raises(MountError, match="mounted here already"):
        start(weights, mount.path)


def test_mounting_over_the_source_itself(driver, weights):
    daemon = start(weights, weights, driver=driver)
    try:
        assert os.listdir(weights) == ["weights"]
        assert (weights / "weights").read_bytes() == DATA
    finally:
        stop(daemon)
    assert os.listdir(weights) == ["weights.zipfs"]


def test_the_source_may_go_away(mounted, weights):
    mount = mounted(weights)
    with open(mount.path / "weights", "rb") as file:
        shutil.rmtree(weights)
        assert file.read() == DATA
        assert eventually(lambda: os.listdir(mount.path) == [])
        with pytest.raises(FileNotFoundError):
            open(mount.path / "never", "rb")


def test_the_context_manager_serves_its_own_process(driver, tmp_path, weights):
    (tmp_path / "mnt").mkdir()
    with contextlib.ExitStack() as stack:
        with zipfs.mount(weights, tmp_path / "mnt", driver=driver) as path:
            fd = stack.enter_context(closing_anyway(path / "weights"))
            mapped = stack.enter_context(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
            assert mapped[:] == DATA
        assert os.listdir(tmp_path / "mnt") == []  # although it is still mapped


def test_the_command_line(tmp_path, weights):
    path = tmp_path / "mnt"
    path.mkdir()
    zipfs_command = [sys.executable, "-m", "zipfs"]
    subprocess.run(
        [*zipfs_command, "mount", weights, path, "--cache-size", "64M", "-o", ",".join(["noexec", *ALLOW_OTHER])],
        check=True,
        timeout=30,
    )
    try:
        assert (path / "weights").read_bytes() == DATA
        assert {"noexec", *ALLOW_OTHER} <= points.find_mount(str(path)).options
    finally:
        subprocess.run([*zipfs_command, "umount", path], check=True, timeout=30)
    result = subprocess.run([*zipfs_command, "mount", weights, tmp_path / "none"], capture_output=True, text=True)
    assert result.returncode == 1
    assert f"mkdir -p {tmp_path / 'none'}" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_foreground_ends_on_a_signal(tmp_path, weights, number):
    path = tmp_path / "mnt"
    path.mkdir()
    command = [sys.executable, "-m", "zipfs", "mount", "-f", weights, path]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert eventually(lambda: os.path.exists(path / "weights"), 20)
            time.sleep(0.1)
            process.send_signal(number)
            assert process.wait(5) == (-number if number == signal.SIGKILL else 0)
        finally:
            process.kill()
    assert eventually(lambda: points.find_mount(str(path)) is None, 5)


def test_the_foreground_logs_to_stderr(tmp_path, weights):
    path = tmp_path / "mnt"
    path.mkdir()
    os.truncate(weights / "weights.zipfs", 1000)
    command = [sys.executable, "-m", "zipfs", "mount", "-f", weights, path]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert eventually(lambda: os.path.exists(path / "weights"), 20)
            with pytest.raises(OSError):
                open(path / "weights", "rb")
        finally:
            process.terminate()
        _, log = process.communicate(timeout=10)
    assert log.count(f"{weights}/weights.zipfs: not opened: container: ") == 1


def test_what_is_wrong_is_said_with_the_remedy(tmp_path, weights, monkeypatch):
    path = tmp_path / "mnt"
    file = tmp_path / "file"
    file.touch()
    cases = {
        "mkdir -p": (weights, path),
        "not a folder": (weights, file),
        "the source does not exist": (tmp_path / "none", tmp_path),
        "the source is not a folder": (file, tmp_path),
        "inside the source": (tmp_path, weights),
    }
    for message, (source, mountpoint) in cases.items():
        with pytest.raises(MountError, match=message):
            mount_command(source, mountpoint)
    path.mkdir()
    for error, message in {errno.ENOENT: "modprobe fuse", errno.EACCES: "chmod 666", errno.EPERM: "chmod 666"}.items():
        with monkeypatch.context() as patched:
            patched.setattr(points.os, "open", refusing("/dev/fuse", error))
            with pytest.raises(MountError, match=message):
                mount_command(weights, path)


def refusing(refused_path: str, code: int):
    real_open = os.open

    def fake_open(path, *args, **kwargs):
        if path == refused_path:
            raise OSError(code, os.strerror(code), path)
        return real_open(path, *args, **kwargs)

    return fake_open


def test_users_need_permission_from_fuse_conf(tmp_path, monkeypatch):
    conf = tmp_path / "fuse.conf"
    monkeypatch.setattr(points.os, "geteuid", lambda: 1000)
    conf.write_text("# user_allow_other\n")
    with pytest.raises(MountError, match="user_allow_other"):
        points.check_allow_other(str(conf))
    conf.write_text("user_allow_other\n")
    points.check_allow_other(str(conf))


def test_a_missing_library_is_said_with_the_remedy(monkeypatch):
    monkeypatch.setattr(fusepy, "LIBRARIES", {3: ("libfuse-that-is-not.so",), 2: ()})
    with pytest.raises(MountError, match="apt install fuse3; .*apt install libfuse2"):
        fusepy.load(None)


def test_a_missing_binding_leaves_the_next_its_library(monkeypatch):
    """mfusepy would take libfuse 3, which fusepy cannot."""
    libraries = {(3, 2): ("libfuse3.so.3", 3), (2,): ("libfuse.so.2", 2)}
    monkeypatch.delenv("FUSE_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(
        fusepy, "find_library", lambda wanted: (None, 0) if "FUSE_LIBRARY_PATH" in os.environ else libraries[wanted]
    )
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    monkeypatch.setitem(sys.modules, "fuse", sys)
    assert fusepy.load(None) == (sys, 2)
    os.environ.pop("FUSE_LIBRARY_PATH")


def test_a_failing_start_leaves_nothing_behind(tmp_path, weights, monkeypatch):
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "libfuse-that-is-not.so")
    (tmp_path / "mnt").mkdir()
    with pytest.raises(MountError, match="FUSE_LIBRARY_PATH=libfuse-that-is-not.so is no libfuse 3 or 2 for mfusepy"):
        start(weights, tmp_path / "mnt")
    with pytest.raises(UsageError, match="driver 'other': unknown; known are native, mfusepy, fusepy"):
        start(weights, tmp_path / "mnt", driver="other")
    for numbers in ({"jobs": 0}, {"jobs": 1025}, {"cache_size": -1}, {"cache_size": 1 << 63}):
        with pytest.raises(UsageError, match="must be"):
            start(weights, tmp_path / "mnt", **numbers)


def test_mfusepy_falls_back_to_libfuse_2(tmp_path, weights, monkeypatch):
    path, _ = fusepy.find_library((2,))
    if path is None:
        pytest.skip("this machine has no libfuse 2")
    monkeypatch.setenv("FUSE_LIBRARY_PATH", path)
    with mounting("mfusepy", tmp_path, weights) as mount:
        assert (mount.path / "weights").read_bytes() == DATA
        assert "libfuse.so.2" in libraries_of(mount.pid)
        assert len(mount.log_lines("libfuse 2", "apt install fuse3")) == 1


def test_the_native_driver_is_the_default(tmp_path, weights, monkeypatch):
    reason = why_not("native")
    if reason:
        pytest.skip(reason)
    monkeypatch.delenv("FUSE_LIBRARY_PATH", raising=False)
    with mounting(None, tmp_path, weights) as mount:
        assert "/_fuse.abi3.so" in libraries_of(mount.pid)
    path, _ = fusepy.find_library((3, 2))
    monkeypatch.setenv("FUSE_LIBRARY_PATH", path)  # for those who set it, which the native driver does not look at
    with mounting(None, tmp_path, weights) as mount:
        assert "/_fuse.abi3.so" not in libraries_of(mount.pid)


def test_a_build_without_the_native_driver_says_so(tmp_path, weights, monkeypatch):
    lacking = tmp_path / "lacking"
    shutil.copytree(os.path.dirname(zipfs.__file__), lacking / "zipfs", ignore=shutil.ignore_patterns("_fuse.*"))
    # An editable install keeps extension modules elsewhere, and finds its own zipfs before PYTHONPATH; sitecustomize
    # runs after that was set up.
    shutil.copy(zipfs._native.__file__, lacking / "zipfs")
    (lacking / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in type(f).__module__]\n"
    )
    (tmp_path / "mnt").mkdir()
    command = [sys.executable, "-P", "-m", "zipfs", "mount", weights, tmp_path / "mnt"]
    environment = os.environ | {"PYTHONPATH": str(lacking)}
    result = subprocess.run([*command, "--driver", "native"], env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert "this build of zipfs has no native driver" in result.stderr
    assert "apt install libfuse3-dev" in result.stderr
    subprocess.run(command, env=environment, check=True)
    try:
        assert (tmp_path / "mnt" / "weights").read_bytes() == DATA
    finally:
        umount_command(tmp_path / "mnt")


def test_a_native_driver_without_its_library_says_so(monkeypatch):
    def import_module(name):
        raise ImportError("libfuse3.so.3: cannot open shared object file", name=name)

    monkeypatch.setattr(native.importlib, "import_module", import_module)
    with pytest.raises(MountError, match="libfuse3.so.3: cannot open .* --driver mfusepy"):
        native.load()


def test_mountinfo_lines():
    line = r"71 27 0:40 / /mnt/with\040space ro,nosuid - fuse.zipfs zipfs ro,user_id=0,default_permissions"
    mount = points.parse_mount(line)
    assert (mount.mountpoint, mount.device, mount.fstype, mount.source) == (
        "/mnt/with space",
        "0:40",
        "fuse.zipfs",
        "zipfs",
    )
    assert {"ro", "nosuid", "default_permissions"} <= mount.options
    with pytest.raises(MountError, match="mounted without allow_other"):
        points.check_options(mount, {"ro", "allow_other"})
