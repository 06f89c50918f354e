"""Decides what becomes of each file that is compressed.

A container, or a copy where a container would save too little. Files of other tools are imported (zipfs/importers).
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence

from zipfs import _native, names
from zipfs.batch import Batch
from zipfs.chunk_size import chunk_log2_for
from zipfs.errors import FailuresError, OutputExistsError, UsageError, ZipfsError
from zipfs.folder import Summary, convert_file, mirror
from zipfs.importers import Importer
from zipfs.importers.imported import Imported
from zipfs.layouts import Aliases
from zipfs.names import HEADER_SIZE, show
from zipfs.output import Output, copy_file, discarding
from zipfs.pipeline import CHUNK_LOG2, PipelinePool
from zipfs.sampling import sample
from zipfs.selection import MIN_SAVING, Choice, Selection, relative
from zipfs.source import Source
from zipfs.tally import Tally
from zipfs.writer import Sizes, write_container

LARGE = 512 << 20
"""Bytes from which on a sample is worth its time."""

Progress = Callable[[int, int], None]


def compress(
    src: str | os.PathLike,
    dst: str | os.PathLike,
    *,
    jobs: int | None = None,
    level: str = "default",
    levels: Mapping[str, str] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    dtypes: Mapping[str, str] | None = None,
    min_saving: float = MIN_SAVING,
    force: bool = False,
    base: str | os.PathLike | None = None,
    dry_run: bool = False,
    progress: Progress = lambda size, stored_size: None,
) -> Summary:
    """Compresses a file, or each file of a folder, losslessly.

    src, dst: a file and the container's name (ending in .zipfs), a file and an existing folder, or a folder and the
    folder that mirrors it. Given a folder as dst, a file that would not shrink by min_saving percent is copied as it
    is, and so is one that include and exclude do not select. jobs: most threads that encode (None: one per CPU); level:
    "fast", "default" or "max"; levels: GLOB -> level; include, exclude: GLOBs; dtypes: GLOB -> dtype of files that tell
    none (zipfs/selection.py has the rules of all these); force: existing outputs are replaced, else they are an error;
    base: the file that ZipNN's deltas in src were made against; dry_run: nothing is written, and sizes are estimates
    (zipfs/estimate.py); progress: receives counts of bytes of src done, and of the bytes stored for them.

    Raises UsageError, OutputExistsError, SourceChangedError, ImportedFileError, OSError; for a folder FailuresError,
    after everything else was done.
    """
    src, dst = os.fsdecode(src), os.fsdecode(dst)
    rules = Selection(include, exclude, level, levels, dtypes, min_saving)
    if dry_run:
        return _rehearse(src, dst, rules, force, base)
    root = src if os.path.isdir(src) else None
    with PipelinePool(jobs) as pipelines, importer_for(base, rules, root) as importer:
        compressor = Compressor(pipelines, importer, rules, root, force, progress)
        try:
            summary = convert_file(src, dst, compressor) if root is None else mirror(src, dst, compressor)
        except FailuresError as error:
            error.summary = compressor.complete(error.summary)
            raise
    return compressor.complete(summary)


def _rehearse(src: str, dst: str, rules: Selection, force: bool, base: str | os.PathLike | None) -> Summary:
    from zipfs.estimate import rehearse

    found = rehearse(src, dst, rules, force, base)
    summary = Summary(rows=tuple(found.rows))
    for file in found.files:
        summary = summary.plus(file["plain_size"], file["stored_size"])
    if found.failures:
        raise FailuresError(found.failures, summary)
    return summary


def importer_for(base: str | os.PathLike | None, rules: Selection, root: str | None) -> Importer:
    """The importer of a run; it leaves alone what the rules do not select."""
    return Importer(
        None if base is None else os.fsdecode(base), lambda path: rules.choice(relative(path, root)).is_selected
    )


class Compressor:
    """The Converter (zipfs/folder.py) that compresses. One caller at a time.

    root: the folder that GLOBs of the rules are relative to, or None where one file was named. tally: what was done.
    aliases: names that symlinks in the root give to files.
    """

    def __init__(
        self,
        pipelines: PipelinePool,
        importer: Importer,
        rules: Selection,
        root: str | None,
        force: bool,
        progress: Progress,
    ):
        self.force = force
        self.tally = Tally()
        self.aliases = Aliases(root)
        self._pipelines = pipelines
        self._importer = importer
        self._rules = rules
        self._root = root
        self._progress = progress

    def complete(self, summary: Summary) -> Summary:
        """The summary with what only the compressor knows."""
        return summary.noting(*self._importer.notes)._replace(rows=tuple(self.tally.rows()))

    def convert(self, path: str, directory: str, kept: Collection[str], batch: Batch, follow: bool = False) -> Sizes:
        name = os.path.basename(path)
        plain = os.path.join(directory, name)
        container = plain + names.SUFFIX
        choice = self._choice(path)
        with Source(path, follow, choice.dtype, self.aliases) as source:
            imported = self._importer.open(source, kept, alone=follow)
            if imported is not None:
                return self._import(imported, os.path.join(directory, imported.name), batch, choice.level)
            wrap = must_wrap(name, source)
            if not names.takes_suffix(name) or name + names.SUFFIX in kept:
                if names.has_suffix(name) and source.has_magic():
                    raise ZipfsError(f"{show(path)}: is a container whose name leaves no room to wrap it; rename it")
                return self._copy(source, Output(plain, self.force), batch)
            plain_is_source = _leads_to(plain, source)
            limit = None if wrap else self._rules.largest_worthwhile(source.size)
            if limit is None or (choice.is_selected and limit > HEADER_SIZE and not self._is_noise(source, choice)):
                # With our suffix, `plain` is no other form of this file but the container of the file without it.
                stale = None if plain_is_source or names.has_suffix(name) else plain
                output = Output(container, self.force, stale)
                sizes = self._compress(source, output, batch, choice.level, limit)
                if sizes is not None:
                    return sizes
            if plain_is_source:
                why = f"would not shrink by {self._rules.min_saving:g} %" if choice.is_selected else "is not selected"
                raise ZipfsError(f"{show(path)}: {why}; left as it is")
            return self._copy(source, Output(plain, self.force, container), batch)

    def convert_to(self, path: str, container: str, batch: Batch) -> Sizes:
        """Makes the container that the caller named, whatever it saves."""
        choice = self._choice(path)
        with Source(path, dtype=choice.dtype, aliases=self.aliases) as source:
            refuse_named(path, container, choice)
            imported = self._importer.open(source, alone=True)
            return self._compress(imported or source, Output(container, self.force), batch, choice.level, None)

    def sharing(self, path: str) -> Choice:
        return self._choice(path)

    def _choice(self, path: str) -> Choice:
        return self._rules.choice(relative(path, self._root))

    def _import(self, imported: Imported, plain: str, batch: Batch, level: int) -> Sizes:
        """Makes the container of an imported file, whatever it saves.

        A file `plain` hides it: elsewhere that is its other form, beside the source it is the user's.
        """
        in_place = os.path.samefile(os.path.dirname(plain) or ".", os.path.dirname(imported.path) or ".")
        if in_place and os.path.lexists(plain) and imported.name != os.path.basename(imported.path):
            raise OutputExistsError(f"{show(plain)}: is there already; move it away to import {show(imported.path)}")
        output = Output(plain + names.SUFFIX, self.force, None if in_place else plain)
        return self._compress(imported, output, batch, level, None)

    def _is_noise(self, source: Source, choice: Choice) -> bool:
        """Whether a large file clearly saves too little: a sample of it saves less than a quarter of what would be
        enough.
        """
        if source.size < LARGE:
            return False
        sampled = sample(source, _native.Codec(CHUNK_LOG2), choice.level)
        enough = sampled.plain_size - self._rules.largest_worthwhile(sampled.plain_size)
        return 4 * (sampled.plain_size - sampled.stored_size) < enough

    def _compress(
        self, source: Source | Imported, output: Output, batch: Batch, level: int, limit: int | None
    ) -> Sizes | None:
        plain_done = done = stored_done = 0

        def progress(size: int, stored_size: int) -> None:
            nonlocal plain_done, done, stored_done
            plain_done += size
            step = plain_done * source.stat.st_size // source.size - done
            done, stored_done = done + step, stored_done + stored_size
            self._progress(step, stored_size)

        with discarding(output):
            pipeline = self._pipelines.get(chunk_log2_for(source, level))
            written = write_container(source, output, pipeline, level, max_size=limit, progress=progress)
            if written is not None:
                batch.add(output)
        if written is None:
            output.discard()
            self._progress(-done, -stored_done)
            return None
        self._progress(source.stat.st_size - done, written.stored_size - stored_done)
        self.tally.add_container(*written)
        return Sizes(written.plain_size, written.stored_size)

    def _copy(self, source: Source, output: Output, batch: Batch) -> Sizes:
        with discarding(output):
            copy_file(source, output, lambda size: self._progress(size, size))
            batch.add(output)
        self.tally.add_copy(source.size)
        return Sizes(source.size, source.size)


def _leads_to(path: str, source: Source) -> bool:
    """Whether the file at `path` is the source itself."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return os.path.samestat(found, source.stat)


def refuse_named(path: str, container: str, choice: Choice) -> None:
    """UsageError where the file `path` can never become the file `container`."""
    if not names.has_suffix(os.path.basename(container)):
        raise UsageError(
            f"{show(container)}: is no folder, and no name of a container; such a name ends in {names.SUFFIX}"
        )
    if not choice.is_selected:
        raise UsageError(f"{show(path)}: is not selected by --include and --exclude, so there is nothing to do")


def must_wrap(name: str, source: Source) -> bool:
    """Whether a copy of this file would be taken for something else: a container, or a leftover of ours."""
    return names.has_suffix(name) or source.has_magic() or names.temporary_owner(name) is not None
