"""What a file has besides its bytes, for the file that takes its place: owner, group, extended attributes and ACLs.

Mode and times are set by Output.copy_attributes, after these: a change of the owner takes rights out of the mode.
"""

import contextlib
import errno
import os

_TOLERATED = ("security.", "trusted.", "system.nfs4")
"""Name spaces that a file system or a security module fills itself, and that only root may write."""
_NO_XATTRS = {errno.ENOTSUP, errno.ENOSYS}


def copy_owner(source: os.stat_result, fd: int) -> None:
    """Owner and group; OSError EPERM where they are those of others."""
    own = os.fstat(fd)
    if (source.st_uid, source.st_gid) != (own.st_uid, own.st_gid):
        os.fchown(fd, source.st_uid, source.st_gid)


def copy_xattrs(source: int, target: int) -> None:
    """Extended attributes, ACLs among them, from one open file or folder to another; what the folder above gave the
    other goes. OSError for one that cannot be had there, unless it is one that only root may write.
    """
    wanted = _xattrs(source)
    for name in wanted | _xattrs(target):
        try:
            if name in wanted:
                os.setxattr(target, name, os.getxattr(source, name))
            else:
                os.removexattr(target, name)
        except OSError:
            if not name.startswith(_TOLERATED):
                raise


def copy_possible(source_fd: int, source: os.stat_result, fd: int) -> None:
    """Both, as far as they can be had: owner and group by root alone, attributes where the file system has them."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            copy_owner(source, fd)
    with contextlib.suppress(OSError):
        copy_xattrs(source_fd, fd)


def read(fd: int) -> dict[str, bytes]:
    """All extended attributes of an open file."""
    return {name: os.getxattr(fd, name) for name in _xattrs(fd)}


def _xattrs(fd: int) -> set[str]:
    try:
        return set(os.listxattr(fd))
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            raise
        return set()
