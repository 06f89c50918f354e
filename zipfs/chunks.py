"""Decodes the chunks of a container block by block, in order, and tells which are damaged.

The common part of decompress and verify.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from zipfs import _native
from zipfs.errors import CorruptError
from zipfs.pipeline import Pipeline, Slot


def num_chunks_of(header: dict[str, Any]) -> int:
    return -(-header["plain_size"] >> header["chunk_log2"])


def decoded_blocks(
    reader: _native.Reader, path: str, pipeline: Pipeline, fast: bool = False
) -> contextlib.AbstractContextManager[Iterator[tuple[Slot, tuple[memoryview, list[CorruptError]]]]]:
    """Context manager of an iterator of (slot, (plain bytes, damage)) over the blocks of a container called `path`, in
    order.

    Stored and plain hashes are checked. The bytes are valid until the next step; those of damaged chunks are undefined.
    fast: stored hashes alone, and no bytes are decoded.
    """
    plain_size = reader.header["plain_size"]
    chunk_size = 1 << pipeline.chunk_log2

    def work(codec: _native.Codec, number: int, slot: Slot) -> tuple[memoryview, list[CorruptError]]:
        block_start = number * pipeline.block_size
        plain = slot.plain[: min(pipeline.block_size, plain_size - block_start)]
        damage = []
        for at in range(0, len(plain), chunk_size):
            chunk = (block_start + at) >> pipeline.chunk_log2
            dst = plain[at : at + chunk_size]
            try:
                if fast:
                    reader.check_chunk(codec, chunk)
                else:
                    reader.read_chunk(codec, chunk, dst, check_plain=True)
            except _native.FormatError as error:
                start = block_start + at
                damage.append(CorruptError(error.status, path, chunk, start, start + len(dst)))
        return plain, damage

    return pipeline.ordered(work, pipeline.num_blocks(plain_size))
