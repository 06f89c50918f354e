"""Checks whether this machine can mount, and well, for `zipfs doctor`: each finding says what to do about it."""

import contextlib
import importlib.util
import json
import os
import platform
import resource
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from zipfs import _native, mount_options
from zipfs import mountpoint as points
from zipfs.drivers import fusepy, native
from zipfs.errors import MountError
from zipfs.mount import mount
from zipfs.names import MOUNT_HELPERS, STATS, show, word
from zipfs.report import size_text
from zipfs.tune import READAHEAD, limit_paths, read_limit

OK, WARNING, FAILURE = "ok", "warning", "failure"
OVERHEAD = 64 << 20
"""Bytes that a daemon may need besides its cache."""
ENOUGH_FILES = 4096
ANSWER_TIMEOUT_S = 5


class Finding(NamedTuple):
    """What was looked at, OK, WARNING (mounts work, but not as well as they could) or FAILURE (they do not), what was
    found, and what to do, None: nothing.
    """

    name: str
    status: str
    found: str
    remedy: str | None = None


def examine() -> Iterator[Finding]:
    """All findings, each as soon as it is known. A mount is tried at a temporary folder."""
    yield check_device()
    yield check_helper()
    yield check_libfuse()
    yield check_kernel()
    yield from try_mount()
    yield check_allow_other()
    yield check_memory()
    yield check_open_files()
    yield check_codec()
    yield check_fstab()
    yield from find_dead_mounts()


def failing(name: str, status: str, error: Exception) -> Finding:
    """The finding of one of our messages, which tell what is wrong; and what to do."""
    found, _, remedy = str(error).partition("; ")
    return Finding(name, status, found, remedy or None)


def check_device() -> Finding:
    try:
        points.check_fuse()
    except MountError as error:
        return failing("fuse device", FAILURE, error)
    return Finding("fuse device", OK, "/dev/fuse can be opened")


def check_helper() -> Finding:
    program = points.find_fusermount()
    if program is None:
        status = WARNING if os.geteuid() == 0 else FAILURE
        return Finding("fuse helper", status, "fusermount3 is missing: only root can mount", "apt install fuse3")
    if not os.stat(program).st_mode & stat.S_ISUID:
        return Finding(
            "fuse helper", WARNING, f"{program} is not setuid root: only root can mount", f"chmod u+s {program}"
        )
    return Finding("fuse helper", OK, program)


def check_libfuse() -> Finding:
    found, problems = [], []
    try:
        found.append(f"native with libfuse {native.load().LIBFUSE_VERSION}")
    except MountError as error:
        problems.append(error)
    for name, (module, generations) in fusepy.BINDINGS.items():
        library, _ = fusepy.find_library(generations)
        if library and importlib.util.find_spec(module):
            found.append(f"{name} with {library}")
    if not found:
        return Finding("drivers", FAILURE, "no driver and no libfuse", "apt install fuse3, pip install mfusepy")
    if problems:
        return failing("drivers", WARNING, problems[0])._replace(found=f"{', '.join(found)}; {problems[0]}")
    return Finding("drivers", OK, ", ".join(found))


def check_kernel() -> Finding:
    release = platform.release()
    try:
        fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.close(_native.open_beneath(fd, b".", os.O_RDONLY | os.O_DIRECTORY))
        finally:
            os.close(fd)
    except OSError as error:
        found = f"{release} without openat2, which keeps a mount inside its source: {error.strerror}"
        return Finding("kernel", FAILURE, found, "use Linux 5.6 or newer, and a container runtime that lets openat2 by")
    max_pages = read_limit(Path("/proc/sys/fs/fuse/max_pages_limit"))
    uring = read_word("/sys/module/fuse/parameters/enable_uring")
    features = [
        f"requests of up to {size_text((max_pages or 256) * os.sysconf('SC_PAGESIZE'))}",
        f"io_uring for FUSE {'on' if uring == 'Y' else 'off' if uring else 'not there'} (unused)",
    ]
    return Finding("kernel", OK, f"{release}: {', '.join(features)}")


def try_mount() -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(prefix="zipfs-doctor-") as folder:
        source, mnt = Path(folder, "source"), Path(folder, "mnt")
        source.mkdir()
        mnt.mkdir()
        (source / "file").write_bytes(b"plain")
        try:
            with mount(source, mnt) as path:
                if (path / "file").read_bytes() != b"plain":
                    raise MountError("a file has other bytes in the mount; report this as a bug")
                yield Finding("mounting", OK, "a mount was made, read and taken away")
                yield check_passthrough(path)
                yield check_readahead(points.find_ours(path))
        except (MountError, OSError) as error:
            yield failing("mounting", FAILURE, error)


def check_passthrough(mountpoint: Path) -> Finding:
    if json.loads((mountpoint / STATS).read_bytes()).get("passthrough"):
        return Finding("passthrough", OK, "the kernel reads by itself what is no container")
    return Finding("passthrough", OK, "not here: it takes root, Linux 6.9 or newer and the native driver")


def check_readahead(trial: points.Mount) -> Finding:
    """Of a mount just made: whether it got what its profile wants."""
    wanted, present = mount_options.choose().readahead_kb, read_limit(limit_paths(trial)[READAHEAD])
    if present == wanted:
        return Finding("readahead", OK, f"may be set: {wanted} KiB")
    return Finding(
        "readahead",
        WARNING,
        f"the kernel reads {present} KiB ahead, and {wanted} is faster, which only root may set, outside of containers",
        "as root, after each mount: zipfs tune MNT",
    )


def check_allow_other() -> Finding:
    try:
        points.check_allow_other()
    except MountError as error:
        return failing("allow_other", WARNING, error)
    return Finding("allow_other", OK, "mounts can be opened to other users")


def check_memory() -> Finding:
    needed = mount_options.choose().cache_size + OVERHEAD
    limit = min([*memory_limits(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")])
    found = f"a mount may use {size_text(needed)} of {size_text(limit)}"
    if limit < 4 * needed:
        return Finding("memory", WARNING, found, "mount with --profile low-memory, or with less --cache-size")
    return Finding("memory", OK, found)


def memory_limits(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Bytes that the control groups of this process allow, those of version 1 and 2, from the process's up."""
    with contextlib.suppress(OSError):
        for line in proc.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                base, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
                group = base / path.strip("/")
                for folder in [group, *group.parents]:
                    word = read_word(folder / name)
                    if word and word.isdigit():
                        yield int(word)
                    if folder == base:
                        break


def read_word(path: str | Path) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def check_open_files() -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most >= ENOUGH_FILES:
        return Finding("open files", OK, "no limit" if most == resource.RLIM_INFINITY else f"{most} at a time")
    remedy = "raise it: ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of docker"
    return Finding(
        "open files", WARNING, f"{most} at a time; a mount needs one for each that readers have open", remedy
    )


def check_codec() -> Finding:
    try:
        used = _native.kernel()
    except RuntimeError as error:
        return Finding("codec", FAILURE, str(error), "unset ZIPFS_KERNEL")
    if used == "scalar":
        return Finding(
            "codec",
            WARNING,
            "scalar: this CPU, or ZIPFS_KERNEL, leaves the portable code alone",
            "zipfs info --kernels",
        )
    return Finding("codec", OK, used)


def check_fstab() -> Finding:
    path = f"/sbin/{MOUNT_HELPERS[0]}"
    found = "is there" if os.path.exists(path) else f'is not, which fstab needs: ln -s "$(command -v zipfs)" {path}'
    return Finding("mount -t zipfs", OK, f"{path} {found}")


def find_dead_mounts() -> Iterator[Finding]:
    """Mounts of ours whose daemon has gone, or does not answer."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    found = [
        entry for entry in (points.parse_mount(os.fsdecode(line)) for line in lines) if entry.fstype == points.FSTYPE
    ]
    for entry in found:
        path = show(entry.mountpoint)
        is_dead = answer_within(ANSWER_TIMEOUT_S, lambda mnt=entry.mountpoint: points.is_dead(mnt))
        if is_dead is None:
            remedy = f"zipfs umount {word(entry.mountpoint)}, or end its daemon"
            yield Finding("mounts", WARNING, f"{path}: does not answer", remedy)
        elif is_dead:
            yield Finding("mounts", WARNING, f"{path}: its daemon has gone", f"zipfs umount {word(entry.mountpoint)}")
    yield Finding("mounts", OK, f"{len(found)} zipfs mounts here")


def answer_within(timeout_s: float, function: Callable[[], bool]) -> bool | None:
    """What the function returns; None when that takes longer. Its thread is left behind then."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(function()), daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answers[0] if answers else None
