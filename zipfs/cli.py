"""The command line: parses arguments, calls the library, prints. Data goes to stdout, everything else to stderr.

Exit codes: 0 done, 1 something failed (each failure is named, the rest was done), 2 usage, 4 damage found by verify,
130 interrupted.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable

import zipfs
from zipfs.errors import DAMAGE_EXIT_CODE, FailuresError, FormatError, UsageError, ZipfsError
from zipfs.names import show
from zipfs.process import check_kernel, ending_in_order, prepare_streams

INTERRUPTED_EXIT_CODE = 130
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

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
_COMPRESS = """\
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
them.
"""
_DECOMPRESS = """\
The inverse of compress: restores the plain file of the container SRC as DST,
or all of the folder SRC in the folder DST, byte for byte, with mtime and
mode. Every checksum and the SHA-256 are checked before a file gets its name.

Outputs that exist are an error and stay as they are, unless --force replaces
them.
"""
_MOUNT = """\
Shows the plain files of the folder SRC, which holds containers, at the folder
MNT, read-only. Returns when the mount answers; a process in the background
serves it until `zipfs umount MNT`. Chunks are decompressed when they are
read. Nothing is written to SRC.
"""
_VERIFY = """\
Checks containers (folders: all in them): the checksum of every chunk, what it
decodes to, and the SHA-256 of the plain file. Names the damaged file, chunks
and plain byte range, and ends with exit code 4 when there is damage. Writes
nothing.
"""
_INFO = """\
Tells size, stored size, ratio (stored size by plain size), chunks, SHA-256
and tensors of a container, or the sizes of the files of a folder. Reads
headers only and writes nothing.

With --kernels instead: the code paths for different CPUs, best first, which
of them run here, and the one in use. ZIPFS_KERNEL=NAME demands one.
"""
_ESTIMATE = """\
Tells what compressing the file or folder would save, from a sample of its
chunks that is compressed in memory. Writes nothing.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    prepare_streams()
    arguments = vars(_parser().parse_args(argv))
    command = arguments.pop("command")
    try:
        check_kernel()
        with ending_in_order():
            code = command(**arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except FailuresError as error:
        return _report(error.failures)
    except (ZipfsError, OSError) as error:
        _complain(_describe(error))
        return getattr(error, "exit_code", 1)


def _compress(src: str, dst: str, jobs: int | None, level: str, force: bool, base: str | None) -> int:
    with _progress("compress", src) as progress:
        summary = zipfs.compress(src, dst, jobs=jobs, level=level, force=force, base=base, progress=progress)
    return _summarize(summary)


def _decompress(src: str, dst: str, jobs: int | None, force: bool) -> int:
    with _progress("decompress", src) as progress:
        summary = zipfs.decompress(src, dst, jobs=jobs, force=force, progress=progress)
    return _summarize(summary)


def _mount(src: str, mnt: str, **options) -> int:
    from zipfs.mount import mount_command

    return mount_command(src, mnt, **options)


def _umount(mnt: str) -> int:
    from zipfs.mount import umount_command

    return umount_command(mnt)


def _verify(paths: list[str], fast: bool, jobs: int | None) -> int:
    from zipfs.pipeline import PipelinePool
    from zipfs.verify import verify

    code, num_files, num_damaged = 0, 0, 0
    with PipelinePool(jobs) as pipelines:
        for path in paths:
            with _progress("verify", path) as progress:
                for _, failures in verify(path, pipelines, fast=fast, progress=progress):
                    damaged = any(isinstance(error, FormatError) for error in failures)
                    num_files += damaged or not failures
                    num_damaged += damaged
                    code = max(code, _report(failures), DAMAGE_EXIT_CODE if damaged else 0)
    print(f"{num_files} containers checked, {num_damaged} damaged")
    return code


def _info(path: str | None, kernels: bool, as_json: bool) -> int:
    from zipfs import info, report

    if kernels == (path is not None):
        raise UsageError("info takes either a PATH or --kernels")
    facts, failures = (info.kernels(), []) if path is None else info.info(path)
    describe = report.describe_kernels if path is None else report.describe_info
    print(json.dumps(facts, indent=2) if as_json else describe(facts))
    return _report(failures)


def _estimate(path: str, as_json: bool, level: str) -> int:
    from zipfs.estimate import estimate
    from zipfs.report import describe_estimate

    facts, failures = estimate(path, level)
    print(json.dumps(facts, indent=2) if as_json else describe_estimate(facts))
    return _report(failures)


def _progress(title: str, path: str):
    from zipfs.folder import total_size
    from zipfs.progress import Progress

    return Progress(title, lambda: total_size(path))


def _summarize(summary) -> int:
    from zipfs.report import describe_summary

    for note in summary.notes:
        _complain(note)
    print(describe_summary(summary), file=sys.stderr)
    return 0


def _report(failures: Iterable[Exception]) -> int:
    code = 0
    for error in failures:
        _complain(_describe(error))
        code = 1
    return code


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and not isinstance(error, ZipfsError):
        return f"{show(error.filename)}: {error.strerror}"
    return str(error)


def _complain(message: str) -> None:
    print(f"zipfs: {message}", file=sys.stderr)


def _size(text: str) -> int:
    """Bytes of a SIZE such as 512M or 2G."""
    match = re.fullmatch(r"(\d+)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512M or 2G")
    return int(match[1]) * _UNITS[match[2].upper()]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


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
    _add_conversions(commands)
    _add_mounts(commands)
    _add_inspections(commands)
    return parser


def _add(commands, name: str, function, summary: str, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(command=function)
    return parser


def _add_jobs(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--jobs", type=_count, metavar="N", help=f"{what} (default: one per CPU)")


def _add_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--level", choices=["fast", "default", "max"], default="default", help="effort (default: default)"
    )


def _add_conversions(commands) -> None:
    parser = _add(commands, "compress", _compress, "compress a file or a folder", _COMPRESS)
    parser.add_argument("src", metavar="SRC", help="a file or a folder")
    parser.add_argument("dst", metavar="DST", help="a name ending in .zipfs, or a folder, not inside SRC")
    _add_jobs(parser, "threads that encode")
    _add_level(parser)
    parser.add_argument("--force", action="store_true", help="replace existing outputs")
    parser.add_argument("--base", metavar="FILE", help="what the deltas of ZipNN in SRC were made against")

    parser = _add(commands, "decompress", _decompress, "restore plain files", _DECOMPRESS)
    parser.add_argument("src", metavar="SRC", help="a container or a folder of them")
    parser.add_argument("dst", metavar="DST", help="the plain file, or a folder, not inside SRC")
    _add_jobs(parser, "threads that decode")
    parser.add_argument("--force", action="store_true", help="replace existing outputs")


def _add_mounts(commands) -> None:
    parser = _add(commands, "mount", _mount, "show a folder of containers as plain files", _MOUNT)
    parser.add_argument("src", metavar="SRC", help="the folder that compress made")
    parser.add_argument("mnt", metavar="MNT", help="an existing folder to mount at")
    parser.add_argument("-f", dest="foreground", action="store_true", help="stay in the foreground, log to stderr")
    parser.add_argument("--cache-size", type=_size, metavar="SIZE", help="memory for decoded chunks, like 512M or 2G")
    _add_jobs(parser, "chunks decoded at one time")
    parser.add_argument(
        "-o", dest="options", action="append", default=[], metavar="OPT,…", help="allow_other, noexec, readahead_kb=N"
    )
    parser.add_argument(
        "--driver", choices=["native", "mfusepy", "fusepy"], help="FUSE binding (default: the best there is)"
    )
    parser.add_argument("--log-file", metavar="FILE", help="log there (default: syslog, or stderr with -f)")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on stderr")

    parser = _add(commands, "umount", _umount, "take a mount away", "Takes the mount at MNT away, a dead one as well.")
    parser.add_argument("mnt", metavar="MNT")


def _add_inspections(commands) -> None:
    parser = _add(commands, "verify", _verify, "check containers", _VERIFY)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a container or a folder of them")
    parser.add_argument("--fast", action="store_true", help="the stored checksums alone, without decoding")
    _add_jobs(parser, "threads that decode")

    parser = _add(commands, "info", _info, "sizes and tensors of containers, kernels of this CPU", _INFO)
    parser.add_argument("path", metavar="PATH", nargs="?", help="a container or a folder of them")
    parser.add_argument("--kernels", action="store_true", help="instead: what of the codec this CPU runs")
    parser.add_argument("--json", dest="as_json", action="store_true", help="as JSON")

    parser = _add(commands, "estimate", _estimate, "what compressing would save", _ESTIMATE)
    parser.add_argument("path", metavar="PATH", help="a file or a folder")
    _add_level(parser)
    parser.add_argument("--json", dest="as_json", action="store_true", help="as JSON")
