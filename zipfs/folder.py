"""Mirrors a folder: every file goes through a converter, everything else keeps its place.

Symlinks stay symlinks, hard links within the folder hard links, empty folders stay. Mode and mtime are kept, and as far
as they can be had owner, extended attributes and ACLs. FIFOs, sockets and devices are left out and noted.
One failure does not stop the others. Names get visible only when their bytes are on disk (batch.Batch).
"""

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Any, NamedTuple, Protocol

from zipfs import attributes, mountpoint, names
from zipfs.batch import Batch
from zipfs.errors import FailuresError, OutputExistsError, UsageError, ZipfsError, naming
from zipfs.leftovers import remove_leftovers
from zipfs.links import HardLinks
from zipfs.names import show
from zipfs.output import refuse_existing
from zipfs.tally import Row


class Summary(NamedTuple):
    """What was done.

    Regular files, their plain and stored bytes, remarks (a line each) on what is not as a user may expect, and of what
    was compressed the bytes by dtype.
    """

    num_files: int = 0
    plain_size: int = 0
    stored_size: int = 0
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()

    def plus(self, plain_size: int, stored_size: int) -> "Summary":
        return self._replace(num_files=self.num_files + 1).adding(plain_size, stored_size)

    def adding(self, plain_size: int, stored_size: int) -> "Summary":
        """Bytes of a file that counts already."""
        return self._replace(plain_size=self.plain_size + plain_size, stored_size=self.stored_size + stored_size)

    def noting(self, *notes: str) -> "Summary":
        return self._replace(notes=(*self.notes, *notes))


class Converter(Protocol):
    """Makes one output from one file, hands it to `batch` and returns plain and stored size."""

    force: bool

    def convert(
        self, path: str, directory: str, kept: Collection[str], batch: Batch, follow: bool = False
    ) -> tuple[int, int]:
        """Makes the output for the file `path` in `directory`.

        kept: names in the folder of `path` that its outputs have as well, other than those of converted files. follow:
        path is what a user named, perhaps a symlink, not what a folder holds.
        """

    def convert_to(self, path: str, output: str, batch: Batch) -> tuple[int, int]:
        """Makes the output under the name that the user chose."""

    def sharing(self, path: str) -> Hashable | None:
        """What equal blobs must have in common to share an output (zipfs/links.py); None where they do not."""


def mirror(src: str, dst: str, converter: Converter) -> Summary:
    """Mirrors the folder src to dst; FailuresError after all else was done when something failed."""
    refuse_inside(src, dst)
    mountpoint.refuse_mounted(dst)
    job = _Mirror(converter)
    with job.batch:
        job.walk(src, dst)
        job.batch.flush()
        job.make_links()
    job.finish_folders()
    failures = job.failures + job.batch.failures
    if failures:
        raise FailuresError(failures, job.summary)
    return job.summary


def convert_file(src: str, dst: str, converter: Converter) -> Summary:
    """Converts the file src into the folder dst, or to the file dst."""
    mountpoint.refuse_mounted(dst)
    into_folder = os.path.isdir(dst)
    directory, name = (dst, os.path.basename(src)) if into_folder else os.path.split(dst)
    remove_leftovers(directory or ".", {name, name + names.SUFFIX, names.plain_name(name)})
    with naming(src), Batch() as batch:
        if into_folder:
            sizes = converter.convert(src, dst, (), batch, follow=True)
        else:
            sizes = converter.convert_to(src, dst, batch)
    if batch.failures:
        raise batch.failures[0]
    return Summary().plus(*sizes)


def refuse_inside(src: str, dst: str) -> None:
    """UsageError when dst is the folder src or lies inside it."""
    inside = os.path.realpath(dst)
    while True:
        if os.path.exists(inside) and os.path.samefile(inside, src):
            raise UsageError(f"{show(dst)}: lies inside the source {show(src)}; choose a place outside")
        parent = os.path.dirname(inside)
        if parent == inside:
            return
        inside = parent


def regular_files(path: str, failures: list[Exception]) -> Iterator[str]:
    """Regular files of the folder and those below it in the order of their names, or the path itself when it is no
    folder.

    Symlinks are not followed. The OSError of a folder that cannot be listed goes to `failures`.
    """
    if not os.path.isdir(path):
        yield path
        return
    for parent, folders, files in os.walk(path, onerror=failures.append):
        folders.sort()
        for name in sorted(files):
            file = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(os.lstat(file).st_mode):
                    yield file


def total_size(path: str) -> int:
    """Bytes of the regular files at `path`; what cannot be looked at counts nothing."""
    total = 0
    for file in regular_files(path, []):
        with contextlib.suppress(OSError):
            total += os.stat(file).st_size
    return total


class _Mirror:
    """One run of mirror()."""

    def __init__(self, converter: Converter):
        self.converter = converter
        self.batch = Batch()
        self.links = HardLinks(converter.force)
        self.failures: list[Exception] = []
        self.summary = Summary()
        self._root = ""
        self._mirrored: list[tuple[str, str, os.stat_result]] = []

    def walk(self, src: str, dst: str) -> None:
        self._root = dst
        waiting = [(src, dst)]
        while waiting:
            source, target = waiting.pop()
            folders: list[str] = []
            self._attempt(source, self._folder, source, target, folders)
            waiting += [(os.path.join(source, name), os.path.join(target, name)) for name in reversed(folders)]

    def finish_folders(self) -> None:
        """Gives the folders their mode and times, the deepest first, since every name in them changes
        these.
        """
        for source, path, status in reversed(self._mirrored):
            self._attempt(path, _copy_attributes, source, status, path)

    def _attempt(self, path: str, action: Callable[..., None], *args: Any) -> None:
        """Calls action(*args), keeping its failure, which names `path` when it names nothing."""
        try:
            action(*args)
        except ZipfsError as error:
            self.failures.append(error)
        except OSError as error:
            if error.filename is None:
                error.filename = path
            self.failures.append(error)

    def _folder(self, source: str, target: str, folders: list[str]) -> None:
        with os.scandir(source) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        self._make_folder(source, target)
        kept = {e.name for e in entries if not e.is_file(follow_symlinks=False) or not names.takes_suffix(e.name)}
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_symlink():
                self._attempt(entry.path, self._symlink, entry, os.path.join(target, entry.name))
            elif entry.is_file(follow_symlinks=False):
                self._attempt(entry.path, self._file, entry, target, kept)
            else:
                self.summary = self.summary.noting(f"{show(entry.path)}: is no file, folder or symlink; left out")

    def _make_folder(self, source: str, target: str) -> None:
        try:
            os.mkdir(target, 0o700)
        except FileExistsError:
            status = os.stat(target) if target == self._root else os.lstat(target)
            if not stat.S_ISDIR(status.st_mode):
                raise OutputExistsError(f"{show(target)}: exists already and is no folder") from None
            remove_leftovers(target)
            if target == self._root:  # the user's own, perhaps with other things in it
                return
        else:
            self.batch.touched(os.path.dirname(target) or ".")
        self._mirrored.append((source, target, os.stat(source)))

    def _file(self, entry: os.DirEntry, target: str, kept: Collection[str]) -> None:
        status = entry.stat(follow_symlinks=False)
        sharing = self.converter.sharing(entry.path)
        if self.links.takes(status, entry.path, sharing, target, kept):
            self.summary = self.summary.plus(0, 0)
            return
        sizes = self.converter.convert(entry.path, target, kept, self.batch)
        self.links.note(status, entry.path, sharing, self.batch.latest)
        self.summary = self.summary.plus(*sizes)

    def make_links(self) -> None:
        """What gets no link, and is counted as one, is converted."""
        for path, target, kept in self.links.make(self.batch):
            self._attempt(path, self._convert_after_all, path, target, kept)

    def _convert_after_all(self, path: str, target: str, kept: Collection[str]) -> None:
        self.summary = self.summary.adding(*self.converter.convert(path, target, kept, self.batch))

    def _symlink(self, entry: os.DirEntry, target: str) -> None:
        status = entry.stat(follow_symlinks=False)
        temporary = os.path.join(os.path.dirname(target), names.temporary_name(entry.name))
        refuse_existing(target, self.converter.force)
        try:
            os.symlink(os.readlink(entry.path), temporary)
            if os.geteuid() == 0:
                os.chown(temporary, status.st_uid, status.st_gid, follow_symlinks=False)
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
            os.rename(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        self.batch.touched(os.path.dirname(target))


def _copy_attributes(source: str, status: os.stat_result, path: str) -> None:
    with _opened(source) as source_fd, _opened(path) as fd:
        attributes.copy_possible(source_fd, status, fd)
        os.fchmod(fd, stat.S_IMODE(status.st_mode))
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
