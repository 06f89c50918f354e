"""`zipfs decompress`."""

import zipfs
from zipfs.commands import common

_DESCRIPTION = """\
The inverse of compress: restores the plain file of the container SRC as DST,
or all of the folder SRC in the folder DST, byte for byte, with mtime and
mode. Every checksum and the SHA-256 are checked before a file gets its name.

Outputs that exist are an error and stay as they are, unless --force replaces
them.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "decompress", _decompress, "restore plain files", _DESCRIPTION)
    parser.add_argument("src", metavar="SRC", help="a container or a folder of them")
    parser.add_argument("dst", metavar="DST", help="the plain file, or a folder, not inside SRC")
    common.add_jobs(parser, "threads that decode")
    parser.add_argument("--force", action="store_true", help="replace existing outputs")


def _decompress(src: str, dst: str, jobs: int | None, force: bool) -> int:
    with common.progress("decompress", src) as progress:
        summary = zipfs.decompress(src, dst, jobs=jobs, force=force, progress=progress)
    return common.summarize(summary)
