"""`zipfs verify`."""

import os

from zipfs import names
from zipfs.commands import common
from zipfs.errors import DAMAGE_EXIT_CODE, BlobNameError, FormatError

_DESCRIPTION = """\
Checks containers (folders: all in them): the checksum of every chunk, what it
decodes to, and the SHA-256 of the plain file. Names the damaged file, chunks
and plain byte range, and ends with exit code 4 when there is damage. Writes
nothing.

In folders named blobs, as Hugging Face's cache and Ollama have them, plain
bytes are compared with the digest in the file's name as well, whether the
blob is in a container or stored as it is: SHA-256 for 64 digits, git's SHA-1
for 40.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "verify", _verify, "check containers", _DESCRIPTION)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a container or a folder of them")
    parser.add_argument("--fast", action="store_true", help="the stored checksums alone, without decoding")
    common.add_jobs(parser, "threads that decode")


def _verify(paths: list[str], fast: bool, jobs: int | None) -> int:
    from zipfs.pipeline import PipelinePool
    from zipfs.verify import verify

    code, num_containers, num_blobs, num_damaged = 0, 0, 0, 0
    with PipelinePool(jobs) as pipelines:
        for path in paths:
            with common.progress("verify", path) as progress:
                for file, failures in verify(path, pipelines, fast=fast, progress=progress):
                    damaged = any(isinstance(error, (FormatError, BlobNameError)) for error in failures)
                    is_container = names.has_suffix(os.path.basename(file))
                    num_containers += is_container and (damaged or not failures)
                    num_blobs += not is_container and (damaged or not failures)
                    num_damaged += damaged
                    code = max(code, common.report(failures), DAMAGE_EXIT_CODE if damaged else 0)
    blobs = f" and {num_blobs} plain blobs" if num_blobs else ""
    print(f"{num_containers} containers{blobs} checked, {num_damaged} damaged")
    return code
