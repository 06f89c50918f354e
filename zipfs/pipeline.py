"""Threads, codecs and buffers that take a file through in blocks of several chunks: side by side, and where order
matters one block after the other.

Every thread takes the next block and does all that is to be done with it. What must happen in order (SHA-256, the place
in the container) happens in a turn. So no block is handed from thread to thread, which cost a quarter of the time on
two busy cores. Memory is bounded by the buffers, which are made once and used again for every block of every file.
"""

import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import NamedTuple

from zipfs import _native
from zipfs.errors import UsageError

CHUNK_LOG2 = 19

_BLOCK_SIZE = 2 << 20
_MEMORY = 224 << 20
_MAX_JOBS = 16  # SHA-256 of one stream takes less than 2 GB/s, which fewer threads than that keep up with


def _check(jobs: int | None) -> None:
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be 1 or more, not {jobs}")


def default_jobs() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


class Turnstile:
    """Lets blocks through one at a time, in order of their numbers. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._last: int | None = None
        self._waiting: dict[int, threading.Event] = {}

    @contextlib.contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """Waits until all blocks before `number` went through; a block that fails inside lets no other through."""
        with self._lock:
            must_wait = number > self._next and not self._is_closed(number)
            event = self._waiting.setdefault(number, threading.Event()) if must_wait else None
        if event is not None:
            event.wait()
        if self._is_closed(number):
            raise _StoppedError
        yield
        with self._lock:
            self._next = number + 1
            event = self._waiting.pop(self._next, None)
        if event is not None:
            event.set()

    def _is_closed(self, number: int) -> bool:
        return self._last is not None and number > self._last

    def close(self, last: int) -> None:
        """Lets no block after `last` through: who waits, or comes, with one of those gives up."""
        with self._lock:
            self._last = last
            for number, event in self._waiting.items():
                if number > last:
                    event.set()


_NO_TURN = contextlib.nullcontext()


class Block(NamedTuple):
    """A block under way and the buffers lent to it: plain bytes, and payloads or what else the work makes of them.

    turnstiles: none where the block is alone.
    """

    number: int
    plain: memoryview
    stored: memoryview
    turnstiles: tuple[Turnstile, ...]

    def turn(self, index: int = 0) -> contextlib.AbstractContextManager[None]:
        """The block's turn at one of the run's turnstiles. Take each once, in the same sequence in every block."""
        return self.turnstiles[index].turn(self.number) if self.turnstiles else _NO_TURN


Work = Callable[[Block], None]


class Pipeline:
    """The threads and buffers for containers of one chunk size, for one file after another.

    jobs: most threads that encode or decode at a time; one more reads, hashes and writes. memory: bytes of codecs and
    buffers. One caller at a time; a context manager.
    """

    def __init__(self, jobs: int | None = None, chunk_log2: int = CHUNK_LOG2):
        _check(jobs)
        self.chunk_log2 = chunk_log2
        self.block_size = max(_BLOCK_SIZE, 1 << chunk_log2)
        codec_size = (20 << chunk_log2) + (2 << 20)
        affordable = (_MEMORY - 2 * self.block_size) // (codec_size + 2 * self.block_size)
        self._jobs = max(1, min(jobs or default_jobs(), _MAX_JOBS, affordable))
        num_threads = max(2, self._jobs)
        self.memory = self._jobs * codec_size + 2 * num_threads * self.block_size
        self._buffers = [(self._make_buffer(), self._make_buffer()) for _ in range(num_threads)]
        self._codecs: SimpleQueue[_native.Codec] = SimpleQueue()
        for _ in range(self._jobs):
            self._codecs.put(_native.Codec(chunk_log2))
        self._pool = ThreadPoolExecutor(num_threads - 1, "zipfs-codec")

    @property
    def chunks_per_block(self) -> int:
        return self.block_size >> self.chunk_log2

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def num_blocks(self, size: int) -> int:
        return -(-size // self.block_size)

    @contextlib.contextmanager
    def codec(self) -> Iterator[_native.Codec]:
        """Waits for a free codec and lends it. Hold it for encoding or decoding alone."""
        codec = self._codecs.get()
        try:
            yield codec
        finally:
            self._codecs.put(codec)

    def run(self, work: Work, num_blocks: int, num_turnstiles: int = 1) -> None:
        """Calls work(block) for all blocks, in several threads, this one among them, and returns when all are done.
        One block alone waits for no turns.

        What `work` raises ends the run: no further block is begun, those before it come to their end, and the exception
        of the first of the blocks that failed is raised when nothing is under way any more.
        """
        if num_blocks <= 1:
            for number in range(num_blocks):
                work(Block(number, *self._buffers[0], ()))
            return
        run = _Run(work, num_blocks, tuple(Turnstile() for _ in range(num_turnstiles)))
        helpers = self._buffers[1 : min(num_blocks, len(self._buffers))]
        futures = [self._pool.submit(run.take_part, *buffers) for buffers in helpers]
        try:
            run.take_part(*self._buffers[0])
            wait(futures)
        except BaseException as error:  # a signal's, between two blocks
            run.fail(-1, error)
            wait(futures)
        run.finish()

    def _make_buffer(self) -> memoryview:
        return memoryview(mmap.mmap(-1, self.block_size))


class _StoppedError(Exception):
    """Another block failed, so this one is not wanted any more."""


class _Run:
    """One call of Pipeline.run()."""

    def __init__(self, work: Work, num_blocks: int, turnstiles: tuple[Turnstile, ...]):
        self._work = work
        self._turnstiles = turnstiles
        self._lock = threading.Lock()
        self._next = 0
        self._end = num_blocks
        self._error: BaseException | None = None

    def take_part(self, plain: memoryview, stored: memoryview) -> None:
        """Does one block after the other, with these buffers."""
        while (number := self._take()) is not None:
            try:
                self._work(Block(number, plain, stored, self._turnstiles))
            except _StoppedError:
                pass
            except BaseException as error:
                self.fail(number, error)

    def fail(self, number: int, error: BaseException) -> None:
        with self._lock:
            if self._error is None or number < self._end:
                self._error = error
            self._end = min(self._end, number)
            for turnstile in self._turnstiles:
                turnstile.close(self._end)

    def finish(self) -> None:
        if self._error is not None:
            raise self._error

    def _take(self) -> int | None:
        with self._lock:
            if self._next >= self._end:
                return None
            self._next += 1
            return self._next - 1


class PipelinePool:
    """Makes the Pipeline for a chunk size when it is first wanted and keeps the latest, as many as fit into _MEMORY:
    new memory costs more than what is done in it to a small file. A context manager.
    """

    def __init__(self, jobs: int | None = None):
        _check(jobs)
        self._jobs = jobs
        self._kept: dict[int, Pipeline] = {}
        """By chunk size, the latest last."""

    def get(self, chunk_log2: int = CHUNK_LOG2) -> Pipeline:
        pipeline = self._kept.pop(chunk_log2, None) or Pipeline(self._jobs, chunk_log2)
        while self._kept and pipeline.memory + sum(kept.memory for kept in self._kept.values()) > _MEMORY:
            self._kept.pop(next(iter(self._kept))).__exit__()
        self._kept[chunk_log2] = pipeline
        return pipeline

    def close(self) -> None:
        while self._kept:
            self._kept.popitem()[1].__exit__()

    def __enter__(self) -> "PipelinePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
