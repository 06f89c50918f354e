"""`zipfs decompress`."""

import zipfs
from zipfs.commands import common
from zipfs.errors import FailuresError

_DESCRIPTION = """\
The inverse of compress: restores the plain file of the container SRC as DST,
or all of the folder SRC in the folder DST, byte for byte, with mtime and
mode. Every checksum and the SHA-256 are checked before a file gets its name.

Outputs that exist are an error and stay as they are, unless --force replaces
them.

With --in-place and no DST every container of SRC is replaced by its plain
file, with owner, extended attributes and ACLs as well. A container that is
open for writing, changes meanwhile, or has hard links elsewhere is left alone
and named. A run that was killed is finished by the next.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "decompress", _decompress, "restore plain files", _DESCRIPTION)
    parser.add_argument("src", metavar="SRC", help="a container or a folder of them")
    common.add_target(parser, "the plain file, or a folder, not inside SRC")
    common.add_jobs(parser, "threads that decode")
    parser.add_argument("--force", action="store_true", help="replace existing outputs")


def _decompress(src: str, dst: str | None, in_place: bool, jobs: int | None, force: bool) -> int:
    common.check_target(dst, in_place, ["--force"] if force else [])
    try:
        with common.progress("decompress", src) as progress:
            if in_place:
                from zipfs.in_place_run import decompress_in_place

                summary = decompress_in_place(src, jobs=jobs, progress=progress)
            else:
                summary = zipfs.decompress(src, dst, jobs=jobs, force=force, progress=progress)
    except FailuresError as error:
        common.summarize(error.summary)
        raise
    return common.summarize(summary)
