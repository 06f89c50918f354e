"""Checks containers: the checksum of every chunk, what it decodes to, and the SHA-256 of the whole. Changes nothing.

Blobs that are called by a digest (zipfs/digests.py), in containers or as they are, are compared with it.
"""

import hashlib
from collections.abc import Callable, Iterator

from zipfs import _native, digests
from zipfs.chunks import decode_blocks
from zipfs.errors import CorruptError, FormatError, ZipfsError, naming
from zipfs.folder import regular_files
from zipfs.pipeline import Block, PipelinePool
from zipfs.source import Source

BLOCK = 1 << 20
"""Bytes of a plain blob that are read at one time."""


def verify(
    path: str, pipelines: PipelinePool, *, fast: bool = False, progress: Callable[[int], None] = lambda size: None
) -> Iterator[tuple[str, list[Exception]]]:
    """Yields (path, what is wrong) of each container and each blob named by a digest at `path`, a file or a folder.

    Other files have nothing to check.
    fast: the stored checksums alone, of a blob's container the SHA-256 in its header. Damage is a FormatError, a
    CorruptError for each stretch of damaged chunks, a BlobNameError for bytes that are not those of the name.
    """
    unlisted: list[Exception] = []
    for file in regular_files(path, unlisted):
        failures: list[Exception] = []
        try:
            with naming(file), Source(file, follow=file == path) as source:
                if source.is_container():
                    _find_damage(source, pipelines, fast, progress, failures)
                else:
                    if file == path:
                        source.refuse_renamed()
                    promise = digests.promised(file)
                    if promise is None:
                        continue
                    _check_blob(source, promise, progress)
        except (OSError, ZipfsError) as error:
            failures.append(error)
        yield file, failures
    for error in unlisted:
        yield error.filename, [error]


def _find_damage(
    source: Source, pipelines: PipelinePool, fast: bool, progress: Callable[[int], None], found: list[Exception]
) -> None:
    """Adds to `found` damaged stretches of chunks, also when a read fails after them; when there are none, a wrong
    SHA-256; BlobNameError when only the name is wrong.
    """
    with naming(source.path), _native.Reader(source.fd) as reader:
        header = reader.header
        promise = digests.promised(source.path)
        sha256 = hashlib.sha256()
        named = sha256 if promise is None or promise.is_sha256 else promise.hasher(header["plain_size"])

        def receive(block: Block, start: int, plain: memoryview, damage: list[CorruptError]) -> None:
            with block.turn():
                for error in damage:
                    joined = _join(found[-1], error) if found else None
                    found[len(found) - bool(joined) :] = [joined or error]
                if not fast and not found:
                    sha256.update(plain)
                    if named is not sha256:
                        named.update(plain)
                progress(len(plain))

        decode_blocks(reader, source.path, pipelines.get(header["chunk_log2"]), receive, fast=fast)
        if found:
            return
        if not fast and header["sha256"] not in (None, sha256.digest()):
            message = "the SHA-256 of the decoded bytes is not the header's"
            raise FormatError("PLAIN_CHECKSUM", message, source.path)
        if promise and not fast:
            promise.check(named.digest(), source.path)
        elif promise and promise.is_sha256 and header["sha256"]:
            promise.check(header["sha256"], source.path)


def _check_blob(source: Source, promise: digests.Promise, progress: Callable[[int], None]) -> None:
    """BlobNameError when a blob that is stored as it is has other bytes than its name says."""
    hasher, at = promise.hasher(source.size), 0
    while block := source.pread(BLOCK, at):
        hasher.update(block)
        at += len(block)
        progress(len(block))
    source.check_unchanged()
    promise.check(hasher.digest(), source.path)


def _join(first: CorruptError, second: CorruptError) -> CorruptError | None:
    """One error for both when they are alike and side by side."""
    if first.status != second.status or first.last_chunk + 1 != second.chunk:
        return None
    return CorruptError(first.status, first.path, first.chunk, first.start, second.end, second.last_chunk)
