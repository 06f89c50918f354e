"""Checks containers: the checksum of every chunk, what it decodes to, and the SHA-256 of the whole. Changes nothing."""

import hashlib
from collections.abc import Callable, Iterator

from zipfs import _native
from zipfs.chunks import decoded_blocks
from zipfs.errors import CorruptError, FormatError, ZipfsError, naming
from zipfs.folder import regular_files
from zipfs.pipeline import PipelinePool
from zipfs.source import Source


def verify(
    path: str, pipelines: PipelinePool, *, fast: bool = False, progress: Callable[[int], None] = lambda size: None
) -> Iterator[tuple[str, list[Exception]]]:
    """Yields (path, what is wrong) of each container at `path`, a file or a folder.

    Files that are no containers have nothing to check.
    fast: the stored checksums alone. Damage is a FormatError, and a CorruptError for each stretch of damaged chunks.
    """
    unlisted: list[Exception] = []
    for file in regular_files(path, unlisted):
        failures: list[Exception] = []
        try:
            with naming(file), Source(file, follow=file == path) as source:
                if not source.is_container():
                    if file == path:
                        source.refuse_renamed()
                    continue
                failures.extend(_damage(source, pipelines, fast, progress))
        except (OSError, ZipfsError) as error:
            failures.append(error)
        yield file, failures
    for error in unlisted:
        yield error.filename, [error]


def _damage(
    source: Source, pipelines: PipelinePool, fast: bool, progress: Callable[[int], None]
) -> Iterator[FormatError]:
    """Damaged stretches of chunks; when there are none, a wrong SHA-256."""
    with naming(source.path), _native.Reader(source.fd) as reader:
        header = reader.header
        pipeline = pipelines.get(header["chunk_log2"])
        sha256 = hashlib.sha256()
        stretch: CorruptError | None = None
        with decoded_blocks(reader, source.path, pipeline, fast) as blocks:
            for _, (plain, damage) in blocks:
                for error in damage:
                    joined = stretch and _join(stretch, error)
                    if stretch and not joined:
                        yield stretch
                    stretch = joined or error
                if not fast and not stretch:
                    sha256.update(plain)
                progress(len(plain))
        if stretch:
            yield stretch
        elif not fast and header["sha256"] not in (None, sha256.digest()):
            yield FormatError("PLAIN_CHECKSUM", "the SHA-256 of the decoded bytes is not the header's", source.path)


def _join(first: CorruptError, second: CorruptError) -> CorruptError | None:
    """One error for both when they are alike and side by side."""
    if first.status != second.status or first.last_chunk + 1 != second.chunk:
        return None
    return CorruptError(first.status, first.path, first.chunk, first.start, second.end, second.last_chunk)
