"""Decides what becomes of each file that is compressed.

A container, or a copy where a container would save too little. Files of other tools are imported (zipfs/importers).
"""

import os
from collections.abc import Callable, Collection

from zipfs import _native, names
from zipfs.errors import OutputExistsError, UsageError, ZipfsError
from zipfs.folder import Summary, convert_file, mirror
from zipfs.importers import Importer
from zipfs.importers.imported import Imported
from zipfs.names import HEADER_SIZE, show
from zipfs.output import Batch, Output, copy_file, discarding
from zipfs.pipeline import CHUNK_LOG2, Pipeline
from zipfs.sampling import sample
from zipfs.source import Source
from zipfs.writer import MIN_SAVING, Sizes, largest_worthwhile, level_number, write_container

LARGE = 512 << 20
"""Bytes from which on a sample is worth its time."""

Progress = Callable[[int], None]


def compress(
    src: str | os.PathLike,
    dst: str | os.PathLike,
    *,
    jobs: int | None = None,
    level: str = "default",
    force: bool = False,
    base: str | os.PathLike | None = None,
    progress: Progress = lambda size: None,
) -> Summary:
    """Compresses a file, or each file of a folder, losslessly.

    src, dst: a file and the container's name (ending in .zipfs), a file and an existing folder, or a folder and the
    folder that mirrors it. Given a folder as dst, a file that would not shrink by 2 % is copied as it is. jobs: most
    threads that encode (None: one per CPU); level: "fast", "default" or "max"; force: existing outputs are replaced,
    else they are an error; base: the file that ZipNN's deltas in src were made against; progress: receives counts of
    bytes of src done.

    Raises UsageError, OutputExistsError, SourceChangedError, ImportedFileError, OSError; for a folder FailuresError, after everything else
    was done.
    """
    src, dst = os.fsdecode(src), os.fsdecode(dst)
    importer = Importer(None if base is None else os.fsdecode(base))
    with Pipeline(jobs) as pipeline, importer:
        compressor = Compressor(pipeline, importer, level_number(level), force, progress)
        summary = mirror(src, dst, compressor) if os.path.isdir(src) else convert_file(src, dst, compressor)
    return summary.noting(*importer.notes)


class Compressor:
    """The Converter (zipfs/folder.py) that compresses. One caller at a time."""

    def __init__(self, pipeline: Pipeline, importer: Importer, level: int, force: bool, progress: Progress):
        self.force = force
        self._pipeline = pipeline
        self._importer = importer
        self._level = level
        self._progress = progress

    def convert(self, path: str, directory: str, kept: Collection[str], batch: Batch, follow: bool = False) -> Sizes:
        name = os.path.basename(path)
        plain = os.path.join(directory, name)
        container = plain + names.SUFFIX
        with Source(path, follow) as source:
            imported = self._importer.open(source, kept, alone=follow)
            if imported is not None:
                return self._import(imported, os.path.join(directory, imported.name), batch)
            wrap = must_wrap(name, source.fd)
            if not names.takes_suffix(name) or name + names.SUFFIX in kept:
                if names.has_suffix(name) and names.has_magic(source.fd):
                    raise ZipfsError(f"{show(path)}: is a container whose name leaves no room to wrap it; rename it")
                return self._copy(source, Output(plain, self.force), batch)
            plain_is_source = os.path.exists(plain) and os.path.samefile(plain, path)
            limit = None if wrap else largest_worthwhile(source.size)
            if limit is None or (limit > HEADER_SIZE and not self._is_noise(source)):
                # With our suffix, `plain` is no other form of this file but the container of the file without it.
                stale = None if plain_is_source or names.has_suffix(name) else plain
                output = Output(container, self.force, stale)
                sizes = self._compress(source, output, batch, limit)
                if sizes is not None:
                    return sizes
            if plain_is_source:
                raise ZipfsError(f"{show(path)}: would not shrink by 2 %; left as it is")
            return self._copy(source, Output(plain, self.force, container), batch)

    def convert_to(self, path: str, container: str, batch: Batch) -> Sizes:
        """Makes the container that the caller named, whatever it saves."""
        with Source(path) as source:
            if not names.has_suffix(os.path.basename(container)):
                raise UsageError(
                    f"{show(container)}: is no folder, and no name of a container; such a name ends in {names.SUFFIX}"
                )
            imported = self._importer.open(source, alone=True)
            return self._compress(imported or source, Output(container, self.force), batch, None)

    def _import(self, imported: Imported, plain: str, batch: Batch) -> Sizes:
        """Makes the container of an imported file, whatever it saves.

        A file `plain` hides it: elsewhere that is its other form, beside the source it is the user's.
        """
        in_place = os.path.samefile(os.path.dirname(plain) or ".", os.path.dirname(imported.path) or ".")
        if in_place and os.path.lexists(plain) and imported.name != os.path.basename(imported.path):
            raise OutputExistsError(f"{show(plain)}: is there already; move it away to import {show(imported.path)}")
        output = Output(plain + names.SUFFIX, self.force, None if in_place else plain)
        return self._compress(imported, output, batch, None)

    def _is_noise(self, source: Source) -> bool:
        """Whether a large file clearly saves too little: a sample of it saves a quarter of what would be enough."""
        if source.size < LARGE:
            return False
        plain_size, stored_size = sample(source, _native.Codec(CHUNK_LOG2), self._level)
        return stored_size > plain_size * (1 - MIN_SAVING / 4)

    def _compress(self, source: Source | Imported, output: Output, batch: Batch, limit: int | None) -> Sizes | None:
        plain_done = done = 0

        def progress(size: int) -> None:
            nonlocal plain_done, done
            plain_done += size
            step = plain_done * source.stat.st_size // source.size - done
            done += step
            self._progress(step)

        with discarding(output):
            sizes = write_container(source, output, self._pipeline, self._level, max_size=limit, progress=progress)
            if sizes is not None:
                batch.add(output)
        if sizes is None:
            output.discard()
            self._progress(-done)
        return sizes

    def _copy(self, source: Source, output: Output, batch: Batch) -> Sizes:
        with discarding(output):
            copy_file(source, output, self._progress)
            batch.add(output)
        return Sizes(source.size, source.size)


def must_wrap(name: str, fd: int) -> bool:
    """Whether a copy of this file would be taken for something else: a container, or a leftover of ours."""
    return names.has_suffix(name) or names.has_magic(fd) or names.temporary_owner(name) is not None
