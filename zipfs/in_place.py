"""Gives files another form where they are: x becomes x.zipfs, or comes back, each only once the new form is whole.

A file that is open for writing, that changes meanwhile, or that has hard links elsewhere is left alone and named. Any
number of kills leave each file in its old form, its new one, or both, and the next run finishes (zipfs/replacement.py).
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from zipfs import _native, names
from zipfs.batch import Batch
from zipfs.chunks import decode_blocks
from zipfs.compressor import Compressor
from zipfs.decompressor import Decompressor
from zipfs.errors import CorruptError, FormatError, LeftAloneError, SourceChangedError, UsageError, naming
from zipfs.names import show
from zipfs.pipeline import Block, PipelinePool
from zipfs.replacement import Replacement, hold, left_alone
from zipfs.source import Source
from zipfs.writer import Sizes

ALONE = 16 << 20
"""Bytes of a file that others do not wait for: who wants to write to one that waits would wait as well."""


class Outcome(NamedTuple):
    """What became of one file. sizes: plain and stored bytes now; note: why it was left alone, where a user should
    know.
    """

    is_replaced: bool
    sizes: Sizes
    note: str | None = None


Tell = Callable[[Outcome], None]


class Form(Protocol):
    """The form that files are to have. One caller at a time."""

    def open(self, path: str) -> Source:
        """The file; symlinks are not followed."""

    def target(self, source: Source, name: str) -> str | None:
        """Name of the new form of the file called `name`; None where the file is to stay as it is."""

    def make(self, source: Source, output: Replacement, batch: Batch) -> bool:
        """Fills the output and hands it to the batch; False, and a discarded output, where it is not worth it."""

    def sizes(self, before: int, after: int) -> Sizes:
        """Plain and stored bytes of a file of `before` bytes that became one of `after` bytes."""

    def present_sizes(self, source: Source) -> Sizes:
        """The same of a file that stays as it is."""


class Containers(Compressor):
    """The Form that compress makes. Files that are containers stay, and files that would save too little."""

    def open(self, path: str) -> Source:
        return Source(path, False, self._choice(path).dtype, self.aliases)

    def target(self, source: Source, name: str) -> str | None:
        is_container = names.has_suffix(name) and source.has_magic()
        if is_container or not names.takes_suffix(name) or names.temporary_owner(name) is not None:
            return None
        choice = self._choice(source.path)
        limit = self._limit(source)
        if limit is None or (choice.is_selected and limit > names.HEADER_SIZE and not self._is_noise(source, choice)):
            return name + names.SUFFIX
        return None

    def make(self, source: Source, output: Replacement, batch: Batch) -> bool:
        level = self._choice(source.path).level
        return self._compress(source, output, batch, level, self._limit(source)) is not None

    def sizes(self, before: int, after: int) -> Sizes:
        return Sizes(before, after)

    def present_sizes(self, source: Source) -> Sizes:
        self._progress(source.size, source.size)
        with contextlib.suppress(_native.FormatError):
            header = _native.header_parse(source.pread(names.HEADER_SIZE, 0), source.size)
            return Sizes(header["plain_size"], source.size)
        self.tally.add_copy(source.size)
        return Sizes(source.size, source.size)

    def _limit(self, source: Source) -> int | None:
        """One with our suffix and other bytes is wrapped whatever that saves, so that its name comes back."""
        is_wrapped = names.has_suffix(os.path.basename(source.path))
        return None if is_wrapped else self._rules.largest_worthwhile(source.size)


class Plains(Decompressor):
    """The Form that decompress makes: every container becomes its plain file, others stay."""

    def open(self, path: str) -> Source:
        return Source(path, False)

    def target(self, source: Source, name: str) -> str | None:
        return names.plain_name(name) if source.is_container() else None

    def make(self, source: Source, output: Replacement, batch: Batch) -> bool:
        self._restore(source, output, batch)
        return True

    def sizes(self, before: int, after: int) -> Sizes:
        return Sizes(after, before)

    def present_sizes(self, source: Source) -> Sizes:
        return Sizes(source.size, source.size)


class InPlace:
    """Gives files the form where they are, one after another. One caller at a time; nothing to close.

    jobs: most threads that compare a file with a form of it that is there already.
    """

    def __init__(self, form: Form, jobs: int | None = None):
        self._form = form
        self._jobs = jobs

    def replace(self, path: str, *links: str) -> Outcome:
        """Gives one file its new form, and returns when that is on disk and the old one gone.

        path, links: all names of the file; one with other hard links is left alone. A file that is left alone, or stays
        as it is because it saves too little or has the form already, is no failure. OSError or FormatError for what is
        one; the file is then as it was.
        """
        told: list[Outcome] = []
        try:
            with Batch() as batch:
                self.begin((path, *links), batch, told.append)
            for error in batch.failures:
                raise error
        except LeftAloneError as error:
            size = os.lstat(path).st_size if os.path.lexists(path) else 0
            return Outcome(False, Sizes(size, size), str(error))
        return told[0]

    def begin(self, paths: Sequence[str], batch: Batch, tell: Tell) -> None:
        """As replace(), for the file that has all these names, with the last steps left to the batch, whose failures
        may then be LeftAloneErrors. tell receives the outcome of a file that is not left alone.
        """
        with naming(paths[0]), self._form.open(paths[0]) as source:
            made = [self._form.target(source, os.path.basename(path)) for path in paths]
            if not any(made):
                tell(Outcome(False, self._form.present_sizes(source)))
                return
            if not all(made):
                raise left_alone(paths[0], "has hard links that cannot all change their names")
            if source.stat.st_nlink != len(paths):
                raise left_alone(paths[0], "has hard links elsewhere")
            targets = [os.path.join(os.path.dirname(path), name) for path, name in zip(paths, made, strict=True)]
            if source.size >= ALONE or any(map(os.path.lexists, targets)):
                batch.flush()
            hold(source)
            source.forget()  # what was read while others might write to it
            if any(map(os.path.lexists, targets)):
                self._finish(source, paths, targets, batch, tell)
            elif not self._make(source, self._output(source, paths, targets, tell), batch):
                tell(Outcome(False, self._form.present_sizes(source)))

    def _make(self, source: Source, output: Replacement, batch: Batch) -> bool:
        try:
            return self._form.make(source, output, batch)
        except SourceChangedError:
            raise left_alone(source.path, "changed meanwhile") from None

    def _output(
        self, source: Source, paths: Sequence[str], targets: Sequence[str], tell: Tell, made_fd: int | None = None
    ) -> Replacement:
        def done(size: int) -> None:
            tell(Outcome(True, self._form.sizes(source.size, size)))

        return Replacement(source, paths, targets, done, made_fd)

    def _finish(self, source: Source, paths: Sequence[str], targets: Sequence[str], batch: Batch, tell: Tell) -> None:
        """Goes on where a run was killed that had made the new form: it lies beside the old one."""
        first = next(i for i, target in enumerate(targets) if os.path.lexists(target))
        paths = [paths[first], *paths[:first], *paths[first + 1 :]]
        targets = [targets[first], *targets[:first], *targets[first + 1 :]]
        with _other_form(source, targets[0]) as other:
            strangers = [t for t in targets if os.path.lexists(t) and not os.path.samefile(t, targets[0])]
            if strangers or not _same_bytes(source, other, self._jobs):
                raise left_alone(source.path, f"{show((strangers or targets)[0])} is there as well, with other bytes")
            output = self._output(source, paths, targets, tell, os.dup(other.fd))
        try:
            output.copy_attributes(source)
        except BaseException:
            output.discard()
            raise
        batch.add(output)


def _other_form(source: Source, path: str) -> Source:
    try:
        return Source(path, False)
    except (OSError, UsageError):
        raise left_alone(source.path, f"{show(path)} is there as well, and no file that can be read") from None


def _same_bytes(one: Source, other: Source, jobs: int | None) -> bool:
    """Whether the longer named of two files is a whole container of the other."""
    container, plain = (one, other) if len(one.path) > len(other.path) else (other, one)
    if not container.has_magic():
        return False

    def receive(block: Block, start: int, decoded: memoryview, damage: list[CorruptError]) -> None:
        if damage:
            raise damage[0]
        wanted = memoryview(bytearray(len(decoded)))
        plain.read_into(wanted, start)
        if bytes(wanted) != decoded:
            raise LeftAloneError

    try:
        with naming(container.path), _native.Reader(container.fd) as reader, PipelinePool(jobs) as pipelines:
            if reader.header["plain_size"] != plain.size:
                return False
            decode_blocks(reader, container.path, pipelines.get(reader.header["chunk_log2"]), receive)
    except (FormatError, LeftAloneError):
        return False
    return True
