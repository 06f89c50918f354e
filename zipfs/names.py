"""What counts as a container and what files are called: the one place for the suffix, the magic and our temporary
names.

Paths are `str` as os.fsdecode() makes them, so that a name of any bytes passes through unchanged.
"""

import os
import re
import shlex
import stat
import zlib

SUFFIX = ".zipfs"
MAGIC = b"\x89ZIPFS\r\n"
STATS = ".zipfs-stats"
"""A file in the root of every mount, in no listing: the daemon's counters as JSON (_native.Cache.report)."""
MOUNT_HELPERS = ("mount.zipfs", "mount.fuse.zipfs")
"""What mount(8) runs in /sbin for our mounts: links to the command."""
HEADER_SIZE = 256
"""Bytes of a container's header, docs/format.md section 2."""
MAX_NAME = 255 - len(SUFFIX)
"""Bytes of the longest name that can take the suffix."""

_MAX_STEM = 200
_TEMPORARY = re.compile(r"\..*\.(\d+)\.zipfs-tmp", re.DOTALL)


def has_suffix(name: str) -> bool:
    return len(name) > len(SUFFIX) and name.endswith(SUFFIX)


def has_magic(fd: int) -> bool:
    return os.pread(fd, len(MAGIC), 0) == MAGIC


def is_shown(path: str) -> bool:
    """Whether a mount shows `path` under its own name: it is there, is of a kind that is served, and no container."""
    try:
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        if kind != stat.S_IFREG or not has_suffix(os.path.basename(path)):
            return kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return not has_magic(fd)
    finally:
        os.close(fd)


def plain_name(name: str) -> str:
    """Name of the plain file of a container called `name`."""
    return name[: -len(SUFFIX)] if has_suffix(name) else name


def takes_suffix(name: str) -> bool:
    """Whether `name` plus the suffix is still a name that file systems allow (255 bytes)."""
    return len(os.fsencode(name)) <= MAX_NAME


def temporary_name(name: str) -> str:
    """Name of the file that becomes `name` when it is finished.

    .<name>.<pid>.zipfs-tmp, with a long name cut and numbered.
    """
    raw = os.fsencode(name)
    if len(raw) > _MAX_STEM:
        raw = raw[:_MAX_STEM] + b"~%08x" % zlib.crc32(raw)
    return f".{os.fsdecode(raw)}.{os.getpid()}.zipfs-tmp"


def temporary_owner(name: str) -> int | None:
    """Process id in a name that temporary_name() made, or None for any other name."""
    match = _TEMPORARY.fullmatch(name)
    return int(match[1]) if match else None


def show(path: str | bytes | os.PathLike) -> str:
    """`path` for one line of a message: bytes that are no text and control characters are escaped."""
    text = os.fsdecode(path)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def word(path: str | bytes | os.PathLike) -> str:
    """`path` as a word of a command that a message tells to type, in a shell that knows $'...'."""
    text = os.fsdecode(path)
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(c if c.isprintable() and c not in "\\'" else _bytes_of(c) for c in text) + "'"


def _bytes_of(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(text))
