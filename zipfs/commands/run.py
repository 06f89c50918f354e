"""`zipfs run`."""

import argparse

from zipfs.commands import common
from zipfs.commands.mount import add_options
from zipfs.errors import UsageError

_DESCRIPTION = """\
Mounts the folder SRC at a temporary folder, runs the command with that
folder's path in $ZIPFS_MOUNT, and takes the mount away when the command ends.

  zipfs run stored/ -- sh -c 'exec python serve.py "$ZIPFS_MOUNT/model"'

The exit code is the command's, 128 + n if signal n ended it; 127 when there
is no such command.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "run", _run, "mount for the length of one command", _DESCRIPTION)
    parser.usage = "zipfs run [options] SRC -- CMD …"
    parser.add_argument("src", metavar="SRC", help="the folder that compress made")
    parser.add_argument("command_line", metavar="CMD", nargs=argparse.REMAINDER, help="the command and its arguments")
    add_options(parser)


def _run(src: str, command_line: list[str], **options) -> int:
    from zipfs.run import run

    if command_line[:1] == ["--"]:
        command_line = command_line[1:]
    elif command_line and command_line[0].startswith("-"):
        raise UsageError(f"{command_line[0]}: options of run go before SRC, and -- before the command")
    if not command_line:
        raise UsageError("name a command to run: zipfs run SRC -- CMD …")
    return run(src, command_line, **options)
