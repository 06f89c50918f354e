"""How far the codec's public calls scale from one core to two: each thread has a Codec, and the GIL in between.

Each thread works on bytes of its own, as many as the other's and more than a CPU's cache holds: two that share a cache
would have half of it each. Beside it is what the machine does with work that is none of ours: SHA-256, which only
computes, reading, and copying.
"""

import hashlib
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from zipfs import _native

from . import corpus, peers, table

DIRECTIONS = ("compress", "decompress")
DATA = ("bf16", "f32", "f8_e4m3")
LEAST_SECONDS = 0.01
"""Of one measurement, so that the start of a thread, some 0.1 ms, counts for little."""


class Share:
    """A thread's own plain bytes and Codec."""

    def __init__(self, name: str, size: int) -> None:
        self.plain = memoryview(corpus.synthetic(name, size))
        self.codec = _native.Codec(peers.CHUNK_LOG2)
        self.segments = struct.pack("<QQII", 0, size, _native.LAYOUTS[corpus.LAYOUTS[name]], 0)
        self.payloads = bytearray(size)
        self.chunk = memoryview(bytearray(peers.CHUNK_SIZE))
        self.compress()
        self.decode_calls = self.calls()

    def compress(self) -> None:
        self.entries = self.codec.encode(self.plain, 0, self.segments, peers.LEVEL_DEFAULT, self.payloads)

    def calls(self) -> list[tuple]:
        """The arguments of the decode() of each chunk, so that little Python, which holds the GIL, is left to time."""
        payloads, offset, found = memoryview(self.payloads), 0, []
        for number, entry in enumerate(self.entries):
            end = offset + entry[0]
            found.append((payloads[offset:end], number, entry, self.chunk))
            offset = end
        return found

    def decompress(self) -> None:
        for arguments in self.decode_calls:
            self.codec.decode(*arguments)


class Plain:
    """What the machine does with a thread's bytes without us."""

    def __init__(self, size: int) -> None:
        self.source, self.target = np.ones(size, dtype=np.uint8), np.ones(size, dtype=np.uint8)

    def sha256(self) -> None:
        hashlib.sha256(self.source)

    def read(self) -> None:
        """XXH3 takes less time than the memory does."""
        _native.hash(self.source)

    def copy(self) -> None:
        np.copyto(self.target, self.source)


def seconds(calls: list[Callable[[], None]], passes: int, pool: ThreadPoolExecutor) -> float:
    """Of running all calls at once, a thread each, `passes` times."""

    def repeat(call: Callable[[], None]) -> None:
        for _ in range(passes):
            call()

    start = time.perf_counter()
    for done in [pool.submit(repeat, call) for call in calls]:
        done.result()
    return time.perf_counter() - start


def measure_pair(calls: list[Callable[[], None]], size: int, runs: int, pool: ThreadPoolExecutor) -> dict:
    """{one, two, ratio}: GB/s of one thread and of two at once, and the one over the other in the same run."""
    passes = 1 + int(LEAST_SECONDS / seconds(calls, 1, pool))
    one, two = [], []
    for _ in range(runs):
        one.append(passes * 2 * size / 1e9 / sum(seconds([call], passes, pool) for call in calls))
        two.append(passes * 2 * size / 1e9 / seconds(calls, passes, pool))
    ratios = [fast / slow for fast, slow in zip(two, one, strict=True)]
    return {"one": table.summary(one), "two": table.summary(two), "ratio": table.summary(ratios)}


def measure(size: int, runs: int) -> dict:
    """{bytes, codec, machine}: the last two are measure_pair()'s of each thing that was done, by name."""
    size = size // peers.CHUNK_SIZE * peers.CHUNK_SIZE
    codec, machine = {}, {}
    with ThreadPoolExecutor(2) as pool:
        for name in DATA:
            print(f"scripts/bench: two cores, {name}", file=sys.stderr)
            shares = [Share(name, size) for _ in range(2)]
            for direction in DIRECTIONS:
                calls = [getattr(share, direction) for share in shares]
                codec[f"{name}: {direction}"] = measure_pair(calls, size, runs, pool)
        plain = [Plain(size) for _ in range(2)]
        for what, way in (("SHA-256", Plain.sha256), ("read", Plain.read), ("memcpy", Plain.copy)):
            calls = [lambda one=one, way=way: way(one) for one in plain]
            machine[what] = measure_pair(calls, size, runs, pool)
    return {"bytes": size, "codec": codec, "machine": machine}


def markdown(result: dict) -> str:
    rows = [
        [name, *(table.spread(figures[key]) for key in ("one", "two", "ratio"))]
        for name, figures in (result["codec"] | result["machine"]).items()
    ]
    header = [f"{result['bytes'] >> 20} MiB for each core, GB/s", "one core", "two cores", "paired ratio"]
    return table.markdown(header, rows)
