"""`zipfs info`."""

import json

from zipfs.commands import common
from zipfs.errors import UsageError

_DESCRIPTION = """\
Tells size, stored size, ratio (stored size by plain size), chunks, SHA-256
and tensors of a container, or the sizes of the files of a folder. Reads
headers only and writes nothing.

With --tensors instead: how well they compress, by dtype and one by one, those
that save most first.

With --kernels instead: the code paths for different CPUs, best first, which
of them run here, and the one in use. ZIPFS_KERNEL=NAME demands one.
"""


def add(commands) -> None:
    parser = common.add_command(
        commands, "info", _info, "sizes and tensors of containers, kernels of this CPU", _DESCRIPTION
    )
    parser.add_argument("path", metavar="PATH", nargs="?", help="a container or a folder of them")
    parser.add_argument("--tensors", action="store_true", help="what each dtype and each tensor saves")
    parser.add_argument("--kernels", action="store_true", help="instead: what of the codec this CPU runs")
    common.add_json(parser)


def _info(path: str | None, tensors: bool, kernels: bool, as_json: bool) -> int:
    from zipfs import info, report
    from zipfs.tensors import tensors as tensors_of

    if kernels == (path is not None) or (kernels and tensors):
        raise UsageError("info takes either a PATH or --kernels")
    facts, failures = (info.kernels(), []) if path is None else info.info(path)
    describe = report.describe_kernels if path is None else report.describe_info
    if tensors:
        facts, describe = tensors_of(facts), report.describe_tensors
    print(json.dumps(facts, indent=2) if as_json else describe(facts))
    return common.report(failures)
