"""Compresses and restores a folder, or one file, where it is: `--in-place`. What becomes of a file is zipfs/in_place.py.

Symlinks, empty folders and whatever is no regular file stay. Hard links within the folder stay hard links.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from zipfs import mountpoint, names
from zipfs.batch import Batch
from zipfs.compressor import Progress
from zipfs.errors import FailuresError, LeftAloneError, UsageError, ZipfsError
from zipfs.folder import Summary
from zipfs.importers import Importer
from zipfs.in_place import Containers, Form, InPlace, Outcome, Plains
from zipfs.leftovers import remove_leftovers
from zipfs.names import show
from zipfs.pipeline import PipelinePool
from zipfs.selection import MIN_SAVING, Selection

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def compress_in_place(
    path: str | os.PathLike,
    *,
    jobs: int | None = None,
    level: str = "default",
    levels: Mapping[str, str] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    dtypes: Mapping[str, str] | None = None,
    min_saving: float = MIN_SAVING,
    progress: Progress = lambda size, stored_size: None,
) -> Summary:
    """Replaces a file, or each file of a folder, by its container, which was read back and compared before.

    Files that would not shrink by min_saving percent stay as they are, and so do those that are not selected; a file
    that is open for writing, changes meanwhile, or has hard links elsewhere is left alone, and a note of the Summary
    names it. Owner, mode, mtime, extended attributes and ACLs are kept. The other parameters are those of compress().

    UsageError; MountError where a mount shows the path; FailuresError after everything else was done.
    """
    path = os.fsdecode(path)
    rules = Selection(include, exclude, level, levels, dtypes, min_saving)
    root = path if os.path.isdir(path) else None
    with PipelinePool(jobs) as pipelines:
        form = Containers(pipelines, Importer(), rules, root, False, progress)
        try:
            return form.complete(_run(path, form, jobs))
        except FailuresError as error:
            error.summary = form.complete(error.summary)
            raise


def decompress_in_place(
    path: str | os.PathLike, *, jobs: int | None = None, progress: Callable[[int], None] = lambda size: None
) -> Summary:
    """The inverse: replaces a container, or each container in a folder, by its plain file, checked as by decompress().

    The guarantees, notes and errors are those of compress_in_place(); damage is a FormatError.
    """
    with PipelinePool(jobs) as pipelines:
        return _run(os.fsdecode(path), Plains(pipelines, False, progress), jobs)


def _run(path: str, form: Form, jobs: int | None) -> Summary:
    mountpoint.refuse_mounted(path)
    run = _Run(InPlace(form, jobs))
    with run.batch:
        if os.path.isdir(path):
            run.folder(path)
        else:
            run.file(path)
    return run.finish()


class _Run:
    """One run over a folder or a file."""

    def __init__(self, in_place: InPlace):
        self.batch = Batch()
        self._in_place = in_place
        self._failures: list[Exception] = []
        self._summary = Summary()
        self._links: dict[tuple[int, int], list[str]] = {}
        self._folders: list[tuple[str, os.stat_result, int]] = []

    def file(self, path: str) -> None:
        if os.path.islink(path):
            raise UsageError(f"{show(path)}: is a symlink; name the file that it leads to")
        os.stat(path)
        directory, name = os.path.split(path)
        remove_leftovers(directory or ".", {name, name + names.SUFFIX, names.plain_name(name)})
        self._attempt([path])

    def folder(self, root: str) -> None:
        folders = list(self._walk(root))
        for folder in folders:
            with self._noting_failures():
                times = os.stat(folder)
                remove_leftovers(folder)
                self._folders.append((folder, times, _contents(folder)))
            for path, status in _files(folder):
                if status.st_nlink > 1:
                    self._links.setdefault((status.st_dev, status.st_ino), []).append(path)
        for folder in folders:
            for path, status in _files(folder):
                if paths := self._names(path, status):
                    self._attempt(paths)

    def _names(self, path: str, status: os.stat_result) -> list[str]:
        """All names of the file in the folder; none where it was met before."""
        if status.st_nlink == 1:
            return [path]
        inode = status.st_dev, status.st_ino
        found = self._links.get(inode, [path])
        self._links[inode] = []
        return found

    def finish(self) -> Summary:
        """After the batch was left: the summary, or FailuresError."""
        for failure in self.batch.failures:
            self._note(failure)
        for folder, status, contents in self._folders:
            with contextlib.suppress(OSError):
                if os.stat(folder).st_mtime_ns != status.st_mtime_ns and _contents(folder) == contents:
                    os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))
        if self._failures:
            raise FailuresError(self._failures, self._summary)
        return self._summary

    def _walk(self, root: str) -> Iterator[str]:
        """The folder and those below it, but for mounts of ours."""
        devices = mountpoint.devices()
        for folder, below, _ in os.walk(root, onerror=self._note):
            yield folder
            if devices:
                below[:] = [name for name in below if _device(os.path.join(folder, name)) not in devices]
            below.sort()

    def _attempt(self, paths: list[str]) -> None:
        with self._noting_failures():
            try:
                self._begin(paths)
            except FileNotFoundError:
                if os.path.lexists(paths[0]):
                    raise  # else somebody took it away, perhaps another run

    @contextlib.contextmanager
    def _noting_failures(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ZipfsError) as error:
            self._note(error)

    def _begin(self, paths: list[str]) -> None:
        """Where the disk is full, what waits gets done first, which makes room."""
        try:
            self._in_place.begin(paths, self.batch, self._tell)
        except OSError as error:
            if error.errno not in NO_SPACE or not self.batch.is_waiting:
                raise
            self.batch.flush()
            self._in_place.begin(paths, self.batch, self._tell)

    def _tell(self, outcome: Outcome) -> None:
        self._summary = self._summary.plus(*outcome.sizes)

    def _note(self, error: Exception) -> None:
        if isinstance(error, LeftAloneError):
            self._summary = self._summary.noting(str(error))
        else:
            self._failures.append(error)


def _device(path: str) -> int:
    """-1 where it cannot be told, as of a dead mount."""
    try:
        return os.lstat(path).st_dev
    except OSError:
        return -1


def _files(folder: str) -> list[tuple[str, os.stat_result]]:
    """Path and status of its regular files, by name; none where it cannot be listed, which the walk has told."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as scan:
        for entry in scan:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    found.append((entry.path, entry.stat(follow_symlinks=False)))
    return sorted(found, key=lambda file: file[0])


def _contents(folder: str) -> int:
    """The same while a mount shows the same names: the folder then keeps its mtime."""
    return hash(frozenset(map(names.plain_name, os.listdir(folder))))
