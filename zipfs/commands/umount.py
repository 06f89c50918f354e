"""`zipfs umount`."""

from zipfs.commands import common


def add(commands) -> None:
    parser = common.add_command(
        commands, "umount", _umount, "take a mount away", "Takes the mount at MNT away, a dead one as well."
    )
    parser.add_argument("mnt", metavar="MNT")


def _umount(mnt: str) -> int:
    from zipfs.mount import umount_command

    return umount_command(mnt)
