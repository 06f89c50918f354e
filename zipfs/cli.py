"""The command line: parses arguments, calls the library, prints. Data goes to stdout, everything else to stderr.

Exit codes: 0 done, 1 something failed (each failure is named, the rest was done), 2 usage, 4 damage found by verify,
130 interrupted.
"""

import argparse
import os
import sys

import zipfs
from zipfs.commands import add_all, common, mount_helper
from zipfs.errors import FailuresError, ZipfsError
from zipfs.names import MOUNT_HELPERS
from zipfs.process import check_kernel, prepare_streams
from zipfs.signals import ending_in_order

INTERRUPTED_EXIT_CODE = 130

_DESCRIPTION = """\
Losslessly compressed model weights, mounted as plain files.

  zipfs compress models/ stored/       every file x becomes stored/x.zipfs, about a third smaller
  zipfs mount stored/ /mnt/models      /mnt/models shows the plain files; any framework reads them
  zipfs umount /mnt/models
  zipfs decompress stored/ models2/    the plain files back, byte for byte
"""
_EPILOG = """\
Exit codes: 0 done; 1 something failed, each failure is named and the rest was
done; 2 wrong usage; 4 verify found damage.
`zipfs COMMAND --help` tells more about a command.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    prepare_streams()
    if argv is None and os.path.basename(sys.argv[0]) in MOUNT_HELPERS:
        return mount_helper.main(sys.argv[1:])
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        import argcomplete

        argcomplete.autocomplete(parser)
    arguments = vars(parser.parse_args(argv))
    command = arguments.pop("command")
    try:
        check_kernel()
        with ending_in_order():
            code = command(**arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        common.complain("interrupted")
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except FailuresError as error:
        return common.report(error.failures)
    except (ZipfsError, OSError) as error:
        common.complain(common.describe(error))
        return getattr(error, "exit_code", 1)


class _Version(argparse.Action):
    def __call__(self, parser, *_) -> None:
        from zipfs import _native

        print(f"zipfs {zipfs.__version__}, container version 1, kernel {_native.kernel()}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "zipfs", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print version and kernel, and exit"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_all(commands)
    return parser
