"""Compresses what appears or changes in a folder once it has stopped changing: `zipfs compress --watch`.

inotify, through watchdog, tells of names ──> zipfs/settling.py, what has settled ──> zipfs/keepers.py, what is done.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from zipfs import mountpoint, names
from zipfs.compressor import Compressor
from zipfs.errors import MountError, UsageError, ZipfsError
from zipfs.folder import Summary
from zipfs.importers import Importer
from zipfs.in_place import Containers
from zipfs.keepers import InPlaceKeeper, MirrorKeeper, Note
from zipfs.names import show, word
from zipfs.pipeline import PipelinePool
from zipfs.selection import MIN_SAVING, Selection
from zipfs.settling import Settling

DEFAULT_SETTLE_S = 5.0


class Ended(NamedTuple):
    """What a watch did until it was ended. failed: files that could not be done."""

    summary: Summary
    failed: frozenset[str]


def watch(
    src: str | os.PathLike,
    dst: str | os.PathLike | None = None,
    *,
    settle_s: float = DEFAULT_SETTLE_S,
    jobs: int | None = None,
    level: str = "default",
    levels: Mapping[str, str] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    dtypes: Mapping[str, str] | None = None,
    min_saving: float = MIN_SAVING,
    force: bool = False,
    note: Note = lambda line: None,
) -> Ended:
    """Compresses the files of the folder src, those that are there and those that come, until Ctrl-C or SIGTERM.

    A file is taken up when it has not changed for settle_s seconds and nobody has it open for writing; names that
    downloads have until they are whole are left alone, and nothing is imported. dst: a folder to mirror src in; None:
    files are replaced by their containers where they are. note: receives a line for each file done, left alone or
    failed. The other parameters are those of compress().

    UsageError; MountError where a mount of ours covers src, also when one comes to cover it.
    """
    src, dst = os.fsdecode(src), None if dst is None else os.fsdecode(dst)
    if not os.path.isdir(src):
        raise UsageError(f"{show(src)}: is no folder; --watch is for folders")
    src = os.path.realpath(src)  # inotify would watch the link
    refuse_covered(src)
    rules = Selection(include, exclude, level, levels, dtypes, min_saving)
    importer = Importer(takes=lambda path: False)
    with PipelinePool(jobs) as pipelines:
        kind = Containers if dst is None else Compressor
        compressor = kind(pipelines, importer, rules, src, force, lambda size, stored_size: None)
        keeper = InPlaceKeeper(compressor, note) if dst is None else MirrorKeeper(src, dst, compressor, note)
        settling = Settling(src, keeper, settle_s, lambda: refuse_covered(src))
        try:
            with observing(src, settling.events.put):
                while True:
                    settling.step()
        except (KeyboardInterrupt, SystemExit):
            return Ended(compressor.complete(keeper.summary), frozenset(keeper.failed))


def refuse_covered(path: str) -> None:
    """MountError with the remedy where a mount of ours shows `path`, so that nothing can be written there."""
    try:
        mountpoint.refuse_mounted(path)
    except MountError:
        where, stored = word(os.path.abspath(path)), word(os.path.abspath(path) + ".stored")
        raise MountError(
            f"{show(path)}: is shown by a mount, which is read-only, so nothing here can be compressed; watch the files at "
            f"another place and mount them here: zipfs umount {where}, mv {where} {stored}, mkdir {where}, "
            f"zipfs mount {stored} {where}, zipfs compress --watch --in-place {stored}"
        ) from None


@contextlib.contextmanager
def observing(root: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Has tell(path) called, from a thread, for each name at or below root where something was made, moved, removed, or
    closed after writing.

    UsageError without watchdog; ZipfsError with the remedy where inotify has no watches left.
    """
    try:
        from watchdog import events, observers
    except ImportError:
        raise UsageError("--watch needs the package watchdog; pip install watchdog") from None
    kinds = [events.FileCreatedEvent, events.FileClosedEvent, events.FileMovedEvent, events.FileDeletedEvent]
    kinds += [events.DirCreatedEvent, events.DirMovedEvent]
    observer = observers.Observer()
    try:
        observer.schedule(_handler(events.FileSystemEventHandler, tell), root, recursive=True, event_filter=kinds)
        observer.start()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EMFILE):
            raise
        raise ZipfsError(
            f"{show(root)}: too many folders to watch; as root: sysctl fs.inotify.max_user_watches=1048576 "
            "fs.inotify.max_user_instances=1024"
        ) from None
    try:
        yield
    finally:
        observer.stop()
        observer.join()


def _handler(base: type, tell: Callable[[str], None]) -> Any:
    class Handler(base):
        def dispatch(self, event: Any) -> None:
            for path in filter(None, (event.src_path, event.dest_path)):
                if names.temporary_owner(os.path.basename(path)) is None:
                    tell(path)

    return Handler()
