"""What a file has besides its bytes, for the file that takes its place: owner, group, extended attributes and ACLs.

Mode and times are set by Output.copy_attributes, after these: a change of the owner takes rights out of the mode.
"""

import errno
import os

_TOLERATED = ("security.", "trusted.", "system.nfs4")
"""Name spaces that a file system or a security module fills itself, and that only root may write."""
_NO_XATTRS = {errno.ENOTSUP, errno.ENOSYS}


def copy_owner(source_fd: int, fd: int) -> None:
    """Owner and group; OSError EPERM where they are those of others."""
    theirs, own = os.fstat(source_fd), os.fstat(fd)
    if (theirs.st_uid, theirs.st_gid) != (own.st_uid, own.st_gid):
        os.fchown(fd, theirs.st_uid, theirs.st_gid)


def copy_xattrs(source_fd: int, fd: int) -> None:
    """Extended attributes, ACLs among them; what the folder gave the other file goes. OSError for one that cannot be
    had on the other file, unless it is one that only root may write.
    """
    wanted = _xattrs(source_fd)
    for name in wanted | _xattrs(fd):
        try:
            if name in wanted:
                os.setxattr(fd, name, os.getxattr(source_fd, name))
            else:
                os.removexattr(fd, name)
        except OSError:
            if not name.startswith(_TOLERATED):
                raise


def _xattrs(fd: int) -> set[str]:
    try:
        return set(os.listxattr(fd))
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            raise
        return set()
