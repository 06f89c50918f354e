"""`zipfs estimate`."""

import json

from zipfs.commands import common

_DESCRIPTION = """\
Tells what compressing the file or folder would save, from a sample of its
chunks that is compressed in memory. Writes nothing.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "estimate", _estimate, "what compressing would save", _DESCRIPTION)
    parser.add_argument("path", metavar="PATH", help="a file or a folder")
    common.add_level(parser)
    common.add_json(parser)


def _estimate(path: str, as_json: bool, level: str) -> int:
    from zipfs.estimate import estimate
    from zipfs.report import describe_estimate

    facts, failures = estimate(path, level)
    print(json.dumps(facts, indent=2) if as_json else describe_estimate(facts))
    return common.report(failures)
