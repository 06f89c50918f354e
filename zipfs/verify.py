"""Checks containers: the checksum of every chunk, what it decodes to, and the SHA-256 of the whole. Changes nothing."""

import hashlib
from collections.abc import Callable, Iterator

from zipfs import _native
from zipfs.chunks import decoded_blocks
from zipfs.errors import CorruptError, FormatError, ZipfsError, naming
from zipfs.folder import regular_files
from zipfs.pipeline import PipelinePool
from zipfs.source import Source

Failure = FormatError | OSError | ZipfsError


def verify(
    path: str, pipelines: PipelinePool, *, fast: bool = False, progress: Callable[[int], None] = lambda size: None
) -> Iterator[tuple[str, list[Failure]]]:
    """Yields (path, what is wrong) of each container at `path`, a file or a folder; files that are no containers have
    nothing to check.

    fast: the stored checksums alone. Damage is a FormatError, and a CorruptError for each stretch of damaged chunks.
    """
    unlisted: list[OSError] = []
    for file in regular_files(path, unlisted):
        try:
            with naming(file), Source(file, follow=file == path) as source:
                if source.is_container():
                    yield file, list(_damage(source, pipelines, fast, progress))
        except (OSError, ZipfsError) as error:
            yield file, [error]
    for error in unlisted:
        yield error.filename, [error]


def _damage(
    source: Source, pipelines: PipelinePool, fast: bool, progress: Callable[[int], None]
) -> Iterator[FormatError]:
    with naming(source.path), _native.Reader(source.fd) as reader:
        pipeline = pipelines.get(reader.header["chunk_log2"])
        sha256 = hashlib.sha256()
        stretch: CorruptError | None = None
        whole = True
        with decoded_blocks(reader, source.path, pipeline, fast) as blocks:
            for _, (plain, damage) in blocks:
                hashing = pipeline.aside(sha256.update, plain) if not fast and whole and not damage else None
                for error in damage:
                    if stretch is not None and (joined := _join(stretch, error)) is None:
                        yield stretch
                        joined = error
                    stretch = error if stretch is None else joined
                    whole = False
                if hashing is not None:
                    hashing.result()
                progress(len(plain))
        if stretch is not None:
            yield stretch
    if whole and not fast and reader.header["sha256"] not in (None, sha256.digest()):
        raise FormatError("PLAIN_CHECKSUM", "the SHA-256 of the decoded bytes is not the header's", source.path)


def _join(first: CorruptError, second: CorruptError) -> CorruptError | None:
    """One error for both when they are alike and side by side."""
    if first.status != second.status or first.last_chunk + 1 != second.chunk:
        return None
    return CorruptError(first.status, first.path, first.chunk, first.start, second.end, second.last_chunk)
