"""The inverse of compress: the plain files back, byte for byte, each checked before it gets its name."""

import hashlib
import os
from collections.abc import Callable, Collection

from zipfs import _native, names
from zipfs.batch import Batch
from zipfs.chunks import decode_blocks
from zipfs.errors import CorruptError, FormatError, ZipfsError, naming
from zipfs.folder import Summary, convert_file, mirror
from zipfs.names import show
from zipfs.output import Output, copy_file, discarding
from zipfs.pipeline import Block, PipelinePool
from zipfs.source import Source

Progress = Callable[[int], None]


def decompress(
    src: str | os.PathLike,
    dst: str | os.PathLike,
    *,
    jobs: int | None = None,
    force: bool = False,
    progress: Progress = lambda size: None,
) -> Summary:
    """Restores the plain file of a container, or of each container in a folder; other files are copied.

    src, dst: a container and the plain file's name, a container and an existing folder, or a folder and the folder that
    mirrors it. Every chunk's checksums and the SHA-256 are compared before a file gets its name. The rest as in
    compress(); damage is a FormatError.
    """
    src, dst = os.fsdecode(src), os.fsdecode(dst)
    with PipelinePool(jobs) as pipelines:
        decompressor = Decompressor(pipelines, force, progress)
        return mirror(src, dst, decompressor) if os.path.isdir(src) else convert_file(src, dst, decompressor)


class Decompressor:
    """The Converter (zipfs/folder.py) that restores plain files. One caller at a time."""

    def __init__(self, pipelines: PipelinePool, force: bool, progress: Progress):
        self.force = force
        self._pipelines = pipelines
        self._progress = progress

    def convert(
        self, path: str, directory: str, kept: Collection[str], batch: Batch, follow: bool = False
    ) -> tuple[int, int]:
        name = os.path.basename(path)
        with Source(path, follow) as source:
            if not source.is_container():
                if follow:
                    source.refuse_renamed()
                return self._copy(source, Output(os.path.join(directory, name), self.force), batch)
            plain = names.plain_name(name)
            if not follow and names.is_shown(os.path.join(os.path.dirname(path), plain)):
                raise ZipfsError(f"{show(path)}: {show(plain)} is there as well and hides it; rename one of them")
            return self._restore(source, Output(os.path.join(directory, plain), self.force), batch)

    def convert_to(self, path: str, plain: str, batch: Batch) -> tuple[int, int]:
        """Restores the file under the name that the caller chose."""
        with Source(path) as source:
            if source.is_container():
                return self._restore(source, Output(plain, self.force), batch)
            source.refuse_renamed()
            return self._copy(source, Output(plain, self.force), batch)

    def sharing(self, path: str) -> None:
        """What were blobs of their own become that again."""

    def _restore(self, source: Source, output: Output, batch: Batch) -> tuple[int, int]:
        with discarding(output):
            plain_size = restore(source, output, self._pipelines, self._progress)
            batch.add(output)
        return plain_size, source.size

    def _copy(self, source: Source, output: Output, batch: Batch) -> tuple[int, int]:
        with discarding(output):
            copy_file(source, output, self._progress)
            batch.add(output)
        return source.size, source.size


def restore(source: Source, output: Output, pipelines: PipelinePool, progress: Progress) -> int:
    """Fills `output` with the plain bytes of the container `source`, ready to be published; returns their count.

    FormatError when anything is damaged.
    """
    output.create()
    with naming(source.path), _native.Reader(source.fd) as reader:
        header = reader.header
        pipeline = pipelines.get(header["chunk_log2"])
        sha256 = hashlib.sha256()

        def receive(block: Block, start: int, plain: memoryview, damage: list[CorruptError]) -> None:
            if damage:
                raise damage[0]
            with block.turn():
                sha256.update(plain)
                progress(len(plain))
            output.write_sparse(plain, start)

        decode_blocks(reader, source.path, pipeline, receive)
    if header["sha256"] not in (None, sha256.digest()):
        raise FormatError("PLAIN_CHECKSUM", "the SHA-256 of the decoded bytes is not the header's", source.path)
    source.check_unchanged()
    output.resize(header["plain_size"])
    output.copy_attributes(source)
    return header["plain_size"]
