"""`zipfs warm`."""

import sys

from zipfs.commands import common

_DESCRIPTION = """\
Reads files, those in folders too, into the page cache at full speed, so that
who loads them next does not wait for the disk: files of a mount, or any
others. With --evict drops them from the page cache instead; what a process
has mapped stays.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "warm", _warm, "bring files into the page cache", _DESCRIPTION)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a file or a folder")
    parser.add_argument("--evict", action="store_true", help="drop them from the page cache instead")
    parser.add_argument("--jobs", type=common.count, metavar="N", default=1, help="files at one time (default: 1)")


def _warm(paths: list[str], evict: bool, jobs: int) -> int:
    from zipfs.progress import Progress
    from zipfs.report import size_text
    from zipfs.warm import total_size, warm

    with Progress("evict" if evict else "warm", lambda: total_size(paths)) as progress:
        done = warm(paths, evict=evict, jobs=jobs, progress=progress)
    files = "1 file" if done.num_files == 1 else f"{done.num_files} files"
    outcome = "dropped from" if evict else "in"
    print(f"{files}, {size_text(done.size)}, {outcome} the page cache", file=sys.stderr)
    return common.report(done.failures)
