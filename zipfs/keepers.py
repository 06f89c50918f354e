"""What `zipfs compress --watch` does with files that have settled: replaces them by their containers where they are, or
puts containers into a mirror. Tells a line for each.
"""

import contextlib
import functools
import os
import stat
from collections.abc import Callable

from zipfs import _native, names
from zipfs.batch import Batch
from zipfs.compressor import Compressor
from zipfs.errors import LeftAloneError, SourceChangedError, ZipfsError
from zipfs.folder import Summary, refuse_inside
from zipfs.in_place import Containers, InPlace, Outcome
from zipfs.leftovers import remove_leftovers
from zipfs.mountpoint import refuse_mounted
from zipfs.names import show
from zipfs.output import refuse_existing
from zipfs.report import size_text
from zipfs.writer import Sizes

Note = Callable[[str], None]
GONE = (FileNotFoundError, NotADirectoryError, SourceChangedError)
"""The next event says what is there instead."""


class _Keeper:
    """A Keeper (zipfs/settling.py). note receives a line for whatever is done or fails; what repeats is told once.

    summary: what was done; failed: files that could not be done so far.
    """

    def __init__(self, note: Note):
        self.summary = Summary()
        self.failed: set[str] = set()
        self._note = note
        self._told: set[str] = set()

    def _done(self, path: str, sizes: Sizes) -> None:
        self.summary = self.summary.plus(*sizes)
        self.failed.discard(path)
        self._note(f"{show(path)}: {size_text(sizes.plain_size)} -> {size_text(sizes.stored_size)}")

    def _fail(self, error: Exception, *paths: str) -> None:
        """An error of one of these files."""
        if isinstance(error, GONE):
            return
        if not isinstance(error, LeftAloneError):
            self.failed.update(paths)
        line = str(error) if isinstance(error, ZipfsError) else f"{show(error.filename or paths[0])}: {error.strerror}"
        if line not in self._told:
            self._told.add(line)
            self._note(line)


class InPlaceKeeper(_Keeper):
    """Replaces files by their containers (zipfs/in_place.py)."""

    def __init__(self, form: Containers, note: Note):
        super().__init__(note)
        self._aliases = form.aliases
        self._in_place = InPlace(form)

    def entered(self, folder: str) -> None:
        remove_leftovers(folder)

    def symlink(self, path: str) -> None:
        """It stays."""

    def keep(self, paths: list[str]) -> list[str]:
        waiting: dict[str, list[str]] = {}
        self._aliases.forget()
        with Batch() as batch:
            for links in _by_file(paths):
                waiting[links[0]] = links
                try:
                    self._in_place.begin(links, batch, functools.partial(self._tell, waiting, links[0]))
                except (OSError, ZipfsError) as error:
                    self._fail(error, links[0])
        for error in batch.failures:
            self._fail(error, *waiting)
        return [path for links in waiting.values() for path in links]

    def _tell(self, waiting: dict[str, list[str]], path: str, outcome: Outcome) -> None:
        del waiting[path]
        if outcome.is_replaced:
            self._done(path, outcome.sizes)


def _by_file(paths: list[str]) -> list[list[str]]:
    """The paths, those that are hard links of each other together."""
    groups: dict[tuple[int, int] | str, list[str]] = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(path)
            groups.setdefault((status.st_dev, status.st_ino) if status.st_nlink > 1 else path, []).append(path)
    return list(groups.values())


class MirrorKeeper(_Keeper):
    """Makes containers in the folder dst, which mirrors src. What goes from src stays in dst.

    An output that this run made, or found up to date, is replaced when its source changes; another one with force only.
    """

    def __init__(self, src: str, dst: str, compressor: Compressor, note: Note):
        refuse_inside(src, dst)
        refuse_mounted(dst)
        super().__init__(note)
        self._src, self._dst = src, dst
        self._compressor = compressor
        self._force = compressor.force
        self._ours: set[str] = set()

    def entered(self, folder: str) -> None:
        try:
            self._make_folder(folder)
            remove_leftovers(self._target(folder))
        except OSError as error:
            self._fail(error, folder)

    def symlink(self, path: str) -> None:
        target = self._target(path)
        try:
            link = os.readlink(path)
            if not (os.path.islink(target) and os.readlink(target) == link):
                self._make_folder(os.path.dirname(path))
                refuse_existing(target, self._force or target in self._ours)
                temporary = os.path.join(os.path.dirname(target), names.temporary_name(os.path.basename(target)))
                os.symlink(link, temporary)
                os.rename(temporary, target)
            self._ours.add(target)
        except (OSError, ZipfsError) as error:
            self._fail(error, path)

    def keep(self, paths: list[str]) -> list[str]:
        kept: dict[str, set[str]] = {}
        made: dict[str, Sizes] = {}
        self._compressor.aliases.forget()
        with Batch() as batch:
            for path in paths:
                folder = os.path.dirname(path)
                try:
                    if folder not in kept:
                        kept[folder] = _kept_names(folder)
                    if not is_up_to_date(path, self._target(path)):
                        made[path] = self._convert(path, kept[folder], batch)
                    self._ours.add(self._target(path))
                except (OSError, ZipfsError) as error:
                    self._fail(error, path)
        missing = [path for path in paths if not is_up_to_date(path, self._target(path))]
        for error in batch.failures:
            self._fail(error, *missing)
        for path in made.keys() - set(missing):
            self._done(path, made[path])
        return missing

    def _convert(self, path: str, kept: set[str], batch: Batch) -> Sizes:
        target = self._target(path)
        self._make_folder(os.path.dirname(path))
        self._compressor.force = self._force or target in self._ours
        return self._compressor.convert(path, os.path.dirname(target), kept, batch)

    def _make_folder(self, folder: str) -> None:
        target = self._target(folder)
        if not os.path.isdir(target):
            os.makedirs(target)
            os.chmod(target, stat.S_IMODE(os.stat(folder).st_mode) | stat.S_IRWXU)

    def _target(self, path: str) -> str:
        return os.path.normpath(os.path.join(self._dst, os.path.relpath(path, self._src)))


def _kept_names(folder: str) -> set[str]:
    """Names in the folder that a mirror has as well, other than those of converted files."""
    with os.scandir(folder) as scan:
        return {e.name for e in scan if not e.is_file(follow_symlinks=False) or not names.takes_suffix(e.name)}


def is_up_to_date(path: str, target: str) -> bool:
    """Whether the mirror has the file `path` at `target`, in either form: by plain size and mtime."""
    try:
        source = os.lstat(path)
    except OSError:
        return True  # gone, so that there is nothing to do
    for stored, is_container in ((target + names.SUFFIX, True), (target, False)):
        with contextlib.suppress(OSError, _native.FormatError):
            fd = os.open(stored, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                status = os.fstat(fd)
                size = status.st_size
                if is_container:
                    size = _native.header_parse(os.pread(fd, names.HEADER_SIZE, 0), size)["plain_size"]
                if stat.S_ISREG(status.st_mode) and (size, status.st_mtime_ns) == (source.st_size, source.st_mtime_ns):
                    return True
            finally:
                os.close(fd)
    return False
