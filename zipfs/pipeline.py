"""Threads, codecs and buffers that take a file through in blocks of several chunks: side by side in the middle, in
order at the end.

Blocks are worked on by up to `jobs` threads; the caller's thread receives them in order and a thread of its own feeds
SHA-256. Memory is bounded by the buffers, which are made once and used again for every block of every file.
"""

import contextlib
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any, NamedTuple

from zipfs import _native
from zipfs.errors import UsageError

CHUNK_LOG2 = 19

_BLOCK_SIZE = 2 << 20
_MEMORY = 224 << 20
_MAX_THREADS = 16  # SHA-256 of one stream takes less than 2 GB/s, which fewer threads than that keep up with


def default_jobs() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


class Slot(NamedTuple):
    """Buffers of one block under way: plain bytes, and payloads or what else the work makes of them."""

    plain: memoryview
    stored: memoryview


Work = Callable[[_native.Codec, int, Slot], Any]


class Pipeline:
    """The threads and buffers for containers of one chunk size, for one file after another.

    One caller at a time; a context manager.
    """

    def __init__(self, jobs: int | None = None, chunk_log2: int = CHUNK_LOG2):
        if jobs is not None and jobs < 1:
            raise UsageError(f"jobs must be 1 or more, not {jobs}")
        self.chunk_log2 = chunk_log2
        self.block_size = max(_BLOCK_SIZE, 1 << chunk_log2)
        codec_size = (8 << chunk_log2) + (2 << 20)
        affordable = (_MEMORY - 4 * self.block_size) // (codec_size + 4 * self.block_size)
        self._threads = max(1, min(jobs or default_jobs(), _MAX_THREADS, affordable))
        self._slots = [self._make_slot() for _ in range(2 * self._threads + 1)]
        self._codecs: SimpleQueue[_native.Codec] = SimpleQueue()
        for _ in range(self._threads):
            self._codecs.put(_native.Codec(chunk_log2))
        self._pool = ThreadPoolExecutor(self._threads, "zipfs-codec")
        self._aside = ThreadPoolExecutor(1, "zipfs-hash")

    @property
    def chunks_per_block(self) -> int:
        return self.block_size >> self.chunk_log2

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._aside.shutdown(cancel_futures=True)

    def num_blocks(self, size: int) -> int:
        return -(-size // self.block_size)

    def ordered(self, work: Work, num_blocks: int) -> contextlib.closing:
        """Context manager of an iterator of (slot, work(codec, number, slot)) for number = 0, 1, … in order.

        A slot's buffers belong to the caller until the next step. The first exception of `work` is raised in its
        block's turn. No work is under way any more when the context ends.
        """
        return contextlib.closing(self._ordered(work, num_blocks))

    def aside(self, function: Callable, *args: Any) -> Future:
        """Runs function(*args) in the one thread beside: calls run in order."""
        return self._aside.submit(function, *args)

    def _ordered(self, work: Work, num_blocks: int) -> Iterator[tuple[Slot, Any]]:
        free = deque(self._slots)
        pending: deque[tuple[Slot, Future]] = deque()
        try:
            for number in range(num_blocks):
                if not free:
                    slot, future = pending.popleft()
                    yield slot, future.result()
                    free.append(slot)
                slot = free.popleft()
                pending.append((slot, self._pool.submit(self._run, work, number, slot)))
            while pending:
                slot, future = pending.popleft()
                yield slot, future.result()
        finally:
            for _, future in pending:
                future.cancel()
            wait([future for _, future in pending])

    def _run(self, work: Work, number: int, slot: Slot) -> Any:
        codec = self._codecs.get()
        try:
            return work(codec, number, slot)
        finally:
            self._codecs.put(codec)

    def _make_slot(self) -> Slot:
        return Slot(memoryview(mmap.mmap(-1, self.block_size)), memoryview(mmap.mmap(-1, self.block_size)))


class PipelinePool:
    """Makes the Pipeline for a chunk size when it is first wanted and keeps the latest. A context manager."""

    def __init__(self, jobs: int | None = None):
        self._jobs = jobs
        self._latest: Pipeline | None = None

    def get(self, chunk_log2: int = CHUNK_LOG2) -> Pipeline:
        if self._latest is None or self._latest.chunk_log2 != chunk_log2:
            self.close()
            self._latest = Pipeline(self._jobs, chunk_log2)
        return self._latest

    def close(self) -> None:
        if self._latest is not None:
            self._latest.__exit__()
            self._latest = None

    def __enter__(self) -> "PipelinePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
