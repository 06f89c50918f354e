"""The exceptions of zipfs.

    ZipfsError                  everything below; exit_code 1
    ├── UsageError              the call makes no sense (also a ValueError); exit_code 2
    ├── OutputExistsError       an output is there already (also a FileExistsError)
    ├── SourceChangedError      a source file changed while it was read
    ├── LeftAloneError          a file was not replaced in place, for a reason that the message tells
    ├── FormatError             a container breaks a rule of docs/format.md: status, path
    │   └── CorruptError        ... in one of its chunks: chunk, start, end
    ├── BlobNameError           a blob has other bytes than the digest in its name says: path
    ├── ImportedFileError       a file of another tool, which was to be imported, is damaged: path
    ├── FailuresError           some files of several failed: failures
    ├── MountError              a mount cannot be made, or be undone
    └── CommandError            a command that was to be run cannot be; exit_code 127

What the system refuses stays an OSError, which names the file. exit_code is what the command line ends with;
damage found by `zipfs verify` is 4 there.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from zipfs import _native
from zipfs.names import show

DAMAGE_EXIT_CODE = 4
NEWER = {"BAD_VERSION", "UNKNOWN_FEATURE", "UNKNOWN_LAYOUT", "UNKNOWN_CODING"}
"""Rules that containers of a later version of the format break, and damage as good as never."""


class ZipfsError(Exception):
    """Base of all errors that zipfs raises on its own account."""

    exit_code = 1


class UsageError(ZipfsError, ValueError):
    """The call makes no sense; the message says what would."""

    exit_code = 2


class OutputExistsError(ZipfsError, FileExistsError):
    """An output is there already and was not to be replaced."""


class SourceChangedError(ZipfsError):
    """A source file changed while it was read; nothing was written for it."""


class LeftAloneError(ZipfsError):
    """A file was to be replaced in place and stays as it is, for a reason that may be gone another time."""


class MountError(ZipfsError):
    """A mount cannot be made, or be undone; the message says the remedy."""


class CommandError(ZipfsError):
    """A command that was to be run cannot be found or executed."""

    exit_code = 127


class FormatError(ZipfsError, _native.FormatError):
    """A container breaks a rule of docs/format.md.

    status: the rule's name there ("BAD_MAGIC"); path: the container, or None when it has no name.
    """

    def __init__(self, status: str, message: str, path: str | os.PathLike | None = None):
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.path = path

    def __str__(self) -> str:
        where = "" if self.path is None else f"{show(self.path)}: "
        return f"{where}{self.message} ({self.status})"


class CorruptError(FormatError):
    """Chunks of a container are damaged, or what they copy is (BAD_TARGET).

    chunk, last_chunk: the first and the last of these neighbours; start, end: the plain bytes that cannot be had.
    """

    def __init__(
        self, status: str, path: str | os.PathLike, chunk: int, start: int, end: int, last_chunk: int | None = None
    ):
        self.chunk = chunk
        self.last_chunk = chunk if last_chunk is None else last_chunk
        self.start = start
        self.end = end
        which = f"chunk {chunk}" if self.last_chunk == chunk else f"chunks {chunk} to {self.last_chunk}"
        what = f"copies of damaged chunks in {which}" if status == "BAD_TARGET" else f"damaged {which}"
        super().__init__(status, f"{what}, plain bytes [{start}, {end})", path)


class BlobNameError(ZipfsError):
    """A blob has other bytes than the digest in its name says, and no checksum of ours that fails.

    path: the blob, or its container.
    """

    def __init__(self, algorithm: str, digest: str, path: str):
        super().__init__(
            f"{show(path)}: {algorithm} of its plain bytes is {digest}, not what its name says; download it again"
        )
        self.path = path


class ImportedFileError(ZipfsError):
    """A file of another tool that was to be imported breaks its format; nothing was written for it.

    path: that file.
    """

    def __init__(self, message: str, path: str):
        super().__init__(f"{show(path)}: {message}")
        self.path = path


class FailuresError(ZipfsError):
    """Some files failed; the others were done.

    failures: their exceptions, each of which names its file; summary: what was done (zipfs/folder.py), where that is told.
    """

    def __init__(self, failures: list[Exception], summary: Any = None):
        first = f"; the first: {failures[0]}" if failures else ""
        super().__init__(f"{len(failures)} failed{first}")
        self.failures = failures
        self.summary = summary


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Gives errors of the C module the name of the container that they come from."""
    try:
        yield
    except ZipfsError:
        raise
    except _native.FormatError as error:
        what = "needs a newer zipfs:" if error.status in NEWER else "damaged"
        raise FormatError(error.status, f"{what} {error.args[-1]}", path) from None
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise
