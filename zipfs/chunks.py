"""Decodes the chunks of a container block by block and tells which are damaged.

The common part of decompress and verify.
"""

from collections.abc import Callable
from typing import Any

from zipfs import _native
from zipfs.errors import CorruptError
from zipfs.pipeline import Block, Pipeline

Receive = Callable[[Block, int, memoryview, list[CorruptError]], None]


def num_chunks_of(header: dict[str, Any]) -> int:
    return -(-header["plain_size"] >> header["chunk_log2"])


def decode_blocks(
    reader: _native.Reader, path: str, pipeline: Pipeline, receive: Receive, *, fast: bool = False
) -> None:
    """Calls receive(block, offset, plain bytes, damage) for the blocks of a container called `path`.

    In threads of the pipeline, with one turnstile. Stored and plain hashes are checked; the bytes of damaged chunks are
    undefined. fast: stored hashes alone, and no bytes are decoded.
    """
    plain_size = reader.header["plain_size"]
    chunk_size = 1 << pipeline.chunk_log2

    def work(block: Block) -> None:
        start = block.number * pipeline.block_size
        plain = block.plain[: min(pipeline.block_size, plain_size - start)]
        damage = []
        with pipeline.codec() as codec:
            for at in range(0, len(plain), chunk_size):
                dst = plain[at : at + chunk_size]
                chunk = (start + at) >> pipeline.chunk_log2
                try:
                    if fast:
                        reader.check_chunk(codec, chunk)
                    else:
                        reader.read_chunk(codec, chunk, dst, check_plain=True)
                except _native.FormatError as error:
                    damage.append(CorruptError(error.status, path, chunk, start + at, start + at + len(dst)))
        receive(block, start, plain, damage)

    pipeline.run(work, pipeline.num_blocks(plain_size))
