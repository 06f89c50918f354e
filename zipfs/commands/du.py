"""`zipfs du`."""

import argparse
import json
import sys
from typing import Any

from zipfs.commands import common
from zipfs.names import show

_DESCRIPTION = """\
Tells for each folder at PATH, which holds containers or is a mount, how much
disk its plain files would take and how much it takes as it is stored, as du
counts: in whole blocks, folders themselves, files of several names once.
Reads headers only.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "du", _du, "plain and stored bytes per folder", _DESCRIPTION)
    parser.add_argument("path", metavar="PATH", help="a folder, a file or a mount")
    parser.add_argument("-a", "--all", dest="files_too", action="store_true", help="tell of files as well")
    parser.add_argument(
        "-d", "--max-depth", type=_depth, metavar="N", help="tell of folders down to N below PATH; 0: of PATH alone"
    )
    parser.add_argument("-b", "--bytes", dest="exact", action="store_true", help="in bytes, not in KiB, MiB and so on")
    common.add_json(parser)


def _depth(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 or more")
    return int(text)


def _du(path: str, files_too: bool, max_depth: int | None, exact: bool, as_json: bool) -> int:
    from zipfs.usage import usage

    failures: list[Exception] = []
    told = []
    for entry in usage(path, failures):
        is_told = (entry.is_folder or files_too) and (max_depth is None or entry.depth <= max_depth)
        if is_told or entry.depth == 0:
            told.append(entry.facts())
            if not as_json:
                print(_line(told[-1], exact))
    if as_json:
        print(json.dumps({"entries": told, "total": told[-1]}, indent=2))
    else:
        total = told[-1]
        print(f"saved {_size(total['saved_size'], exact)} of {_size(total['plain_size'], exact)}", file=sys.stderr)
    return common.report(failures)


def _line(facts: dict[str, Any], exact: bool) -> str:
    plain, stored = _size(facts["plain_size"], exact), _size(facts["stored_size"], exact)
    return f"{plain:>11} {stored:>11} {facts['ratio']:8.2%}  {show(facts['path'])}"


def _size(size: int, exact: bool) -> str:
    from zipfs.report import size_text

    return str(size) if exact else size_text(size)
