"""`zipfs tune`."""

from zipfs.commands import common
from zipfs.commands.mount import add_profile

_DESCRIPTION = """\
Sets the kernel's limits of the mount at MNT: how far ahead of a reader it
reads, which mount does itself when root runs it, and how many requests it
sends at a time. Only root may. Says what each was before.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "tune", _tune, "raise the kernel's limits of a mount, as root", _DESCRIPTION)
    parser.add_argument("mnt", metavar="MNT", help="where it is mounted")
    add_profile(parser)
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="OPT,…", help="readahead_kb=N")


def _tune(mnt: str, **options) -> int:
    from zipfs.tune import CONNECTIONS, tune

    for limit in tune(mnt, **options):
        if limit.now is None:
            print(f"{limit.name}: not shown here; see after: mount -t fusectl fusectl {CONNECTIONS}")
        else:
            print(f"{limit.name}: {limit.now}, was {limit.before}")
    return 0
