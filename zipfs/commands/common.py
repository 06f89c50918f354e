"""What commands share: arguments, and how failures and results are told."""

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

from zipfs.errors import UsageError, ZipfsError
from zipfs.names import show
from zipfs.sizes import parse_size


def add_command(
    commands: argparse._SubParsersAction, name: str, function: Callable[..., int], summary: str, description: str
) -> argparse.ArgumentParser:
    """A command's parser; `function` gets its arguments by name and returns the exit code."""
    parser = commands.add_parser(
        name, help=summary, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(command=function)
    return parser


def add_jobs(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--jobs", type=count, metavar="N", help=f"{what} (default: one per CPU)")


def add_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--level",
        choices=["fast", "default", "max"],
        default="default",
        help="effort: fast decodes BF16 and F32 fastest, max takes long to be smallest (default: default)",
    )


def add_target(parser: argparse.ArgumentParser, what: str) -> None:
    """DST, or --in-place instead of it."""
    parser.add_argument("dst", metavar="DST", nargs="?", help=what)
    parser.add_argument("--in-place", action="store_true", help="without DST: replace each file of SRC where it is")


def check_target(dst: str | None, in_place: bool, unfit: Iterable[str] = ()) -> None:
    """UsageError unless there is either DST or --in-place; unfit: options in use that do not go with the latter."""
    if not in_place and dst is None:
        raise UsageError("DST is missing; name where to write, or say --in-place")
    if in_place and dst is not None:
        raise UsageError(f"--in-place replaces the files of SRC and takes no DST such as {show(dst)}")
    if in_place:
        for option in unfit:
            raise UsageError(f"--in-place does not go with {option}")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", dest="as_json", action="store_true", help="as JSON")


def size(text: str) -> int:
    """Bytes of a SIZE such as 512M or 2G."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


def progress(title: str, path: str) -> Any:
    """A Progress over the bytes of the files at `path`."""
    from zipfs.folder import total_size
    from zipfs.progress import Progress

    return Progress(title, lambda: total_size(path))


def summarize(summary: Any) -> int:
    """Tells a Summary of zipfs.folder."""
    from zipfs.report import describe_summary

    for note in summary.notes:
        complain(note)
    print(describe_summary(summary), file=sys.stderr)
    return 0


def report(failures: Iterable[Exception]) -> int:
    """Tells each failure; the exit code."""
    code = 0
    for error in failures:
        complain(describe(error))
        code = 1
    return code


def describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and not isinstance(error, ZipfsError):
        return f"{show(error.filename)}: {error.strerror}"
    return str(error)


def complain(message: str) -> None:
    print(f"zipfs: {message}", file=sys.stderr)
