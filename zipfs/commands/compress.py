"""`zipfs compress`."""

import argparse
import json
import sys
from typing import Any

import zipfs
from zipfs.commands import common
from zipfs.errors import FailuresError, UsageError
from zipfs.selection import LEVELS

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
them. At the end a table tells the bytes of each dtype.

With --in-place and no DST each file of SRC is replaced by its container, with
owner, extended attributes and ACLs as well; what saves too little stays. A
file that is open for writing, changes meanwhile, or has hard links elsewhere
is left alone and named. A run that was killed is finished by the next.
`zipfs mount SRC` then shows the plain files at SRC itself, and
`zipfs decompress --in-place SRC` undoes it. Nothing is imported.

With --watch the folder SRC is watched until Ctrl-C or SIGTERM: files there
and files that come are compressed to DST, or in place, once they have not
changed for the settle time and nobody has them open for writing. Downloads
that are not whole yet (*.incomplete, *.part, *.crdownload, *.tmp, what aria2
works at) are left alone until they get their name. What is removed from SRC
stays in DST. A mount of DST, or of SRC, may be read all the while.
"""
_EPILOG = """\
A GLOB is matched against paths relative to SRC: * and ? stand for anything but
"/", [abc] for one of these, ** for any number of folders. Without "/" it means
the name in any folder, "/w.bin" the one at the top. A GLOB that matches a
folder matches all that is in it. What --exclude matches is not compressed,
whatever else says so; with --include only what one of these matches is. What
is not compressed for that is copied as it is, so that DST stays complete (but
for containers and such, which are wrapped, to keep their names). Of several
--level or --dtype that match, the last holds; a --level without GLOB is for
the files that none matches.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "compress", _compress, "compress a file or a folder", _DESCRIPTION)
    parser.epilog = _EPILOG
    parser.add_argument("src", metavar="SRC", help="a file or a folder")
    common.add_target(parser, "a name ending in .zipfs, or a folder, not inside SRC")
    common.add_jobs(parser, "threads that encode")
    add_selection(parser)
    parser.add_argument("--force", action="store_true", help="replace existing outputs")
    parser.add_argument("--base", metavar="FILE", help="what the deltas of ZipNN in SRC were made against")
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="tell what would be done and saved, from samples; write nothing"
    )
    parser.add_argument("--watch", action="store_true", help="go on with what comes or changes in the folder SRC")
    parser.add_argument(
        "--settle", metavar="SECONDS", type=_seconds, help="with --watch: how long a file must not change (default: 5)"
    )
    common.add_json(parser)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """The arguments that selection() takes."""
    for name, what in (("include", "compress only these files"), ("exclude", "do not compress these files")):
        parser.add_argument(f"--{name}", metavar="GLOB", action="append", default=[], help=f"{what}; may be repeated")
    parser.add_argument(
        "--level",
        metavar="[GLOB=]LEVEL",
        type=_level,
        action="append",
        default=[],
        help="effort, for all or for these files: fast (BF16 and F32 a little larger, but read fastest), default, or "
        "max (smallest, takes long); default: default; may be repeated",
    )
    parser.add_argument(
        "--dtype",
        metavar="GLOB=DTYPE",
        type=_rule,
        action="append",
        default=[],
        help="what raw files hold, like *.raw=BF16; those that tell it themselves are believed; may be repeated",
    )
    parser.add_argument(
        "--min-saving", metavar="PCT", type=float, default=2.0, help="copy what would not shrink by PCT %% (default: 2)"
    )


def selection(
    include: list[str],
    exclude: list[str],
    level: list[tuple[str | None, str]],
    dtype: list[tuple[str, str]],
    min_saving: float,
) -> dict[str, Any]:
    """The arguments of add_selection() as compress() and Selection (zipfs/selection.py) take them."""
    plain = [name for glob, name in level if glob is None]
    return {
        "include": include,
        "exclude": exclude,
        "level": plain[-1] if plain else "default",
        "levels": _latest([rule for rule in level if rule[0] is not None]),
        "dtypes": _latest(dtype),
        "min_saving": min_saving,
    }


def _latest(rules: list[tuple[str, str]]) -> dict[str, str]:
    """The rules by GLOB, each at the place where it was said last."""
    result: dict[str, str] = {}
    for glob, name in rules:
        result.pop(glob, None)
        result[glob] = name
    return result


def _level(text: str) -> tuple[str | None, str]:
    glob, separator, name = text.rpartition("=")
    if name not in LEVELS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(LEVELS)}")
    return glob if separator else None, name


def _rule(text: str) -> tuple[str, str]:
    glob, _, name = text.rpartition("=")
    if not glob:
        raise argparse.ArgumentTypeError(f"{text!r} is no GLOB=DTYPE such as *.raw=BF16")
    return glob, name


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _compress(
    src: str,
    dst: str | None,
    in_place: bool,
    jobs: int | None,
    force: bool,
    base: str | None,
    dry_run: bool,
    watch: bool,
    settle: float | None,
    as_json: bool,
    **rules: Any,
) -> int:
    unfit = {
        "--force": force,
        "--base": base is not None,
        "--dry-run; zipfs estimate tells what it would save": dry_run,
    }
    common.check_target(dst, in_place, [option for option, is_used in unfit.items() if is_used])
    chosen = selection(**rules)
    if watch:
        return _watch(
            src, dst, settle, {"--base": base is not None, "--dry-run": dry_run}, as_json, jobs, force, chosen
        )
    if settle is not None:
        raise UsageError("--settle goes with --watch only")
    if dry_run:
        return _rehearse(src, dst, chosen, force, base, as_json)
    try:
        with common.progress("compress", src) as progress:
            if in_place:
                from zipfs.in_place_run import compress_in_place

                summary = compress_in_place(src, jobs=jobs, progress=progress, **chosen)
            else:
                summary = zipfs.compress(src, dst, jobs=jobs, force=force, base=base, progress=progress, **chosen)
    except FailuresError as error:
        _tell(error.summary, as_json)
        raise
    _tell(summary, as_json)
    return 0


def _watch(
    src: str,
    dst: str | None,
    settle: float | None,
    unfit: dict[str, bool],
    as_json: bool,
    jobs: int | None,
    force: bool,
    chosen: dict[str, Any],
) -> int:
    from zipfs.watch import DEFAULT_SETTLE_S, watch

    for option in (option for option, is_used in unfit.items() if is_used):
        raise UsageError(f"--watch does not go with {option}")
    settle_s = DEFAULT_SETTLE_S if settle is None else settle
    ended = watch(src, dst, settle_s=settle_s, jobs=jobs, force=force, note=common.complain, **chosen)
    _tell(ended.summary, as_json)
    return 1 if ended.failed else 0


def _tell(summary: Any, as_json: bool) -> None:
    from zipfs import report

    for note in summary.notes:
        common.complain(note)
    if as_json:
        print(json.dumps(report.summary_facts(summary), indent=2))
    else:
        print(report.describe_summary(summary), file=sys.stderr)


def _rehearse(src: str, dst: str, chosen: dict[str, Any], force: bool, base: str | None, as_json: bool) -> int:
    from zipfs import report
    from zipfs.estimate import rehearse
    from zipfs.selection import Selection

    found = rehearse(src, dst, Selection(**chosen), force, base)
    print(json.dumps(report.rehearsal_facts(found), indent=2) if as_json else report.describe_rehearsal(found))
    return common.report(found.failures)
