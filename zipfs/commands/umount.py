"""`zipfs umount`."""

from zipfs.commands import common

_DESCRIPTION = """\
Takes the mount at MNT away, a dead one as well. A folder that was mounted over
itself shows its containers again.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "umount", _umount, "take a mount away", _DESCRIPTION)
    parser.add_argument("mnt", metavar="MNT", help="where it is mounted")


def _umount(mnt: str) -> int:
    from zipfs.mount import umount_command

    return umount_command(mnt)
