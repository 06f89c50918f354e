"""`zipfs report`."""

from zipfs.commands import common

_DESCRIPTION = """\
Writes a page about a container or a folder of them: what is stored where, and
what was saved by dtype, kind of tensor, folder, file and tensor. The page is
one HTML file that loads nothing, for screens of any width. Reads headers only.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "report", _report, "a page with charts of what was saved", _DESCRIPTION)
    parser.add_argument("path", metavar="PATH", help="a container or a folder of them")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the HTML file to write")
    parser.add_argument("--force", action="store_true", help="replace an existing FILE")


def _report(path: str, output: str, force: bool) -> int:
    from zipfs.page import write_report

    return common.report(write_report(path, output, force))
