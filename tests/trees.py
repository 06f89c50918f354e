"""Folders as they really are, for tests of what is done to them in place."""

import os
import stat
import struct
from pathlib import Path

import numpy as np
from models import safetensors_bytes, weights

MTIME_NS = 1_600_000_000_123_456_789
ACL = "system.posix_acl_access"


def put(path: Path | bytes, data: bytes, mode: int = 0o644) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    os.utime(path, ns=(MTIME_NS, MTIME_NS))


def acl(uid: int) -> bytes:
    """An access ACL: rw for the owner and the user `uid`, r for all others."""
    entries = [(1, 6, 0xFFFFFFFF), (2, 6, uid), (4, 4, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def fill(root: Path, rng: np.random.Generator) -> None:
    """A bit of everything: weights, noise, hard links, symlinks, holes, odd names and attributes."""
    put(root / "model.safetensors", safetensors_bytes({"w": ("BF16", [300_000], weights(rng, "BF16", 300_000))}), 0o640)
    put(root / "noise.bin", rng.bytes(70_000), 0o444)
    put(root / "empty", b"")
    put(root / "sub/deep/config.json", b'{"key": "value"}\n' * 1000, 0o4710)
    put(os.fsencode(root) + b"/bytes \xff\xfe", b"text " * 5000)
    put(root / "new\nline", b"text " * 5000)
    put(root / ("n" * 249), b"long name " * 500)
    put(root / ("n" * 250), b"longer name " * 500)
    with open(root / "sub/holes", "wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"text " * 1000)
    os.link(root / "model.safetensors", root / "sub/linked.safetensors")
    os.link(root / "model.safetensors", root / "also linked")
    (root / "no files").mkdir(mode=0o750)
    os.symlink("model.safetensors", root / "link")
    os.symlink("/nowhere/at all", root / "sub/broken")
    os.setxattr(root / "model.safetensors", "user.origin", b"\0\xff anywhere")
    os.setxattr(root / "sub/deep/config.json", ACL, acl(12345))
    if os.geteuid() == 0:
        os.chown(root / "sub/deep/config.json", 1001, 1002)
        os.chmod(root / "sub/deep/config.json", 0o4764)
    for path in ("sub/holes", "sub/deep", "sub", "no files", "."):
        os.utime(root / path, ns=(MTIME_NS, MTIME_NS))


def listing(root: Path) -> dict[bytes, tuple]:
    """Everything in a folder: relative path -> kind and mode, owner, group, mtime, attributes, content, and the other
    names of the file.
    """
    found: dict[bytes, tuple] = {}
    inodes: dict[int, list[bytes]] = {}
    for parent, folders, files in os.walk(os.fsencode(root)):
        for path in [parent, *(os.path.join(parent, name) for name in files + folders)]:
            status = os.lstat(path)
            name = os.path.relpath(path, os.fsencode(root))
            xattrs = {key: os.getxattr(path, key, follow_symlinks=False) for key in _xattrs(path)}
            found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs, _content(path))
            if stat.S_ISREG(status.st_mode):
                inodes.setdefault(status.st_ino, []).append(name)
    links = {name: tuple(sorted(names)) for names in inodes.values() for name in names}
    return {name: (*what, links.get(name)) for name, what in found.items()}


def _xattrs(path: bytes) -> list[str]:
    return [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("security.")]


def _content(path: bytes) -> bytes | None:
    if os.path.islink(path):
        return os.readlink(path)
    if os.path.isdir(path):
        return None
    with open(path, "rb") as file:
        return file.read()
