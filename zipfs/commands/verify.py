"""`zipfs verify`."""

import json
import os
from typing import Any

from zipfs import names
from zipfs.commands import common
from zipfs.errors import DAMAGE_EXIT_CODE, BlobNameError, CorruptError, FormatError

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
    common.add_json(parser)


def _verify(paths: list[str], fast: bool, jobs: int | None, as_json: bool) -> int:
    from zipfs.pipeline import PipelinePool
    from zipfs.verify import verify

    code, num_containers, num_blobs, num_damaged = 0, 0, 0, 0
    told: list[dict[str, Any]] = []
    with PipelinePool(jobs) as pipelines:
        for path in paths:
            with common.progress("verify", path) as progress:
                for file, failures in verify(path, pipelines, fast=fast, progress=progress):
                    damaged = any(map(_is_damage, failures))
                    is_container = names.has_suffix(os.path.basename(file))
                    num_containers += is_container and (damaged or not failures)
                    num_blobs += not is_container and (damaged or not failures)
                    num_damaged += damaged
                    told.extend(_facts(file, error) for error in failures)
                    code = max(code, common.report(failures), DAMAGE_EXIT_CODE if damaged else 0)
    if as_json:
        counts = {"num_containers": num_containers, "num_blobs": num_blobs, "num_damaged": num_damaged}
        print(json.dumps(counts | {"failures": told}, indent=2))
    else:
        blobs = f" and {num_blobs} plain blobs" if num_blobs else ""
        print(f"{num_containers} containers{blobs} checked, {num_damaged} damaged")
    return code


def _is_damage(error: Exception) -> bool:
    return isinstance(error, (FormatError, BlobNameError))


def _facts(file: str, error: Exception) -> dict[str, Any]:
    """What a script may want to know of a failure."""
    facts = {"path": file, "is_damage": _is_damage(error), "message": common.describe(error)}
    if isinstance(error, FormatError):
        facts["status"] = error.status
    if isinstance(error, CorruptError):
        facts |= {"chunk": error.chunk, "last_chunk": error.last_chunk, "start": error.start, "end": error.end}
    return facts
