"""`zipfs mount`."""

import argparse

from zipfs.commands import common
from zipfs.mount_options import PROFILES

_DESCRIPTION = """\
Shows the plain files of the folder SRC, which holds containers, at the folder
MNT, read-only. Returns when the mount answers; a process in the background
serves it until `zipfs umount MNT`. Chunks are decompressed when they are
read. Nothing is written to SRC.

Without MNT the plain files are shown at SRC itself, so that no path changes,
after `zipfs compress --in-place SRC`; `zipfs umount SRC` shows the containers
again. While it is mounted so, nothing can be written there.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "mount", _mount, "show a folder of containers as plain files", _DESCRIPTION)
    parser.add_argument("src", metavar="SRC", help="the folder that compress made")
    parser.add_argument("mnt", metavar="MNT", nargs="?", help="an existing folder to mount at (default: SRC itself)")
    parser.add_argument("-f", dest="foreground", action="store_true", help="stay in the foreground, log to stderr")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on stderr")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """How to mount, for all commands that do."""
    add_profile(parser)
    parser.add_argument(
        "--cache-size", type=common.size, metavar="SIZE", help="memory for decoded chunks, like 512M or 2G"
    )
    parser.add_argument(
        "--ahead-size", type=common.size, metavar="SIZE", help="of these, for chunks decoded ahead of readers"
    )
    parser.add_argument(
        "--resident",
        dest="resident_size",
        type=common.size,
        metavar="SIZE",
        help="memory for files that are kept whole once they were read, to load again as fast as plain ones (root; Linux "
        "6.9 and newer)",
    )
    parser.add_argument(
        "--drop-source-cache",
        action="store_const",
        const=True,
        help="drop containers from the page cache behind readers, so that it does not hold both forms",
    )
    common.add_jobs(parser, "threads that decode and copy at one time")
    parser.add_argument(
        "-o",
        dest="options",
        action="append",
        default=[],
        metavar="OPT,…",
        help="allow_other, noexec, readahead_kb=N, idle_s=N",
    )
    parser.add_argument(
        "--driver", choices=["native", "mfusepy", "fusepy"], help="FUSE binding (default: the best there is)"
    )
    parser.add_argument("--log-file", metavar="FILE", help="log there (default: syslog, or stderr with -f)")


def add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile",
        choices=list(PROFILES),
        help="what readers do: whole files (default), parts here and there, or whole files in little memory",
    )


def _mount(src: str, mnt: str | None, **options) -> int:
    from zipfs.mount import mount_command

    return mount_command(src, mnt, **options)
