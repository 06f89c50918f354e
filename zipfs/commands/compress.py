"""`zipfs compress`."""

import zipfs
from zipfs.commands import common

_DESCRIPTION = """\
Compresses the file SRC to the container DST, or each file of the folder SRC
to the folder DST, which then mirrors SRC. Each file x becomes x.zipfs; one
that would not shrink by 2 % is copied as it is. Symlinks stay symlinks; mtime
and mode are kept. SRC is not changed. A container is decoded and compared
with its source, and on disk, before it gets its name.

Files that ZipNN made are converted: x.znn and x.znn.safetensors become the
container of x and of x.safetensors, X_delta_Y.znn with --base Y that of X, and
weight maps (*.index.json) beside them name the plain files. docs/import.md
tells more.

Outputs that exist are an error and stay as they are, unless --force replaces
them.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "compress", _compress, "compress a file or a folder", _DESCRIPTION)
    parser.add_argument("src", metavar="SRC", help="a file or a folder")
    parser.add_argument("dst", metavar="DST", help="a name ending in .zipfs, or a folder, not inside SRC")
    common.add_jobs(parser, "threads that encode")
    common.add_level(parser)
    parser.add_argument("--force", action="store_true", help="replace existing outputs")
    parser.add_argument("--base", metavar="FILE", help="what the deltas of ZipNN in SRC were made against")


def _compress(src: str, dst: str, jobs: int | None, level: str, force: bool, base: str | None) -> int:
    with common.progress("compress", src) as progress:
        summary = zipfs.compress(src, dst, jobs=jobs, level=level, force=force, base=base, progress=progress)
    return common.summarize(summary)
