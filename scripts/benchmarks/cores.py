"""How far the codec's public calls scale from one core to two: each thread has a Codec, and the GIL in between."""

import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from zipfs import _native

from . import corpus, peers, table

DIRECTIONS = ("compress", "decompress")


class Share:
    """A thread's part of the plain bytes, which is whole chunks, and its own Codec."""

    def __init__(self, plain: memoryview, first_chunk: int) -> None:
        self.plain, self.first_chunk = plain, first_chunk
        self.codec = _native.Codec(peers.CHUNK_LOG2)
        start = first_chunk << peers.CHUNK_LOG2
        self.segments = struct.pack("<QQII", start, len(plain), _native.LAYOUTS["BF16"], 0)
        self.payloads = bytearray(len(plain))
        self.chunk = memoryview(bytearray(peers.CHUNK_SIZE))
        self.compress()
        self.decode_calls = self.calls()

    def compress(self) -> None:
        self.entries = self.codec.encode(
            self.plain, self.first_chunk, self.segments, peers.LEVEL_DEFAULT, self.payloads
        )

    def calls(self) -> list[tuple]:
        """The arguments of the decode() of each chunk, so that little Python, which holds the GIL, is left to time."""
        payloads, offset, found = memoryview(self.payloads), 0, []
        for number, entry in enumerate(self.entries, self.first_chunk):
            end = offset + entry[0]
            found.append((payloads[offset:end], number, entry, self.chunk))
            offset = end
        return found

    def decompress(self) -> None:
        for arguments in self.decode_calls:
            self.codec.decode(*arguments)


def seconds(calls: list[Callable[[], None]], pool: ThreadPoolExecutor) -> float:
    """Of running all calls at once, a thread each."""
    start = time.perf_counter()
    for done in [pool.submit(call) for call in calls]:
        done.result()
    return time.perf_counter() - start


def measure(size: int, runs: int) -> dict:
    """{bytes, compress, decompress: {one, two, ratio}}: GB/s of BF16, and two threads over one in the same run."""
    print("scripts/bench: two cores", file=sys.stderr)
    half = size // 2 // peers.CHUNK_SIZE * peers.CHUNK_SIZE
    plain = memoryview(corpus.synthetic("bf16", 2 * half))
    shares = [Share(plain[:half], 0), Share(plain[half:], half >> peers.CHUNK_LOG2)]
    speeds = {direction: ([], []) for direction in DIRECTIONS}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(runs):
            for direction, (one, two) in speeds.items():
                calls = [getattr(share, direction) for share in shares]
                one.append(2 * half / 1e9 / sum(seconds([call], pool) for call in calls))
                two.append(2 * half / 1e9 / seconds(calls, pool))
    return {"bytes": 2 * half} | {direction: scaling(one, two) for direction, (one, two) in speeds.items()}


def scaling(one: list[float], two: list[float]) -> dict:
    ratios = [fast / slow for fast, slow in zip(two, one, strict=True)]
    return {"one": table.summary(one), "two": table.summary(two), "ratio": table.summary(ratios)}


def markdown(result: dict) -> str:
    rows = [[name, *(table.spread(result[name][key]) for key in ("one", "two", "ratio"))] for name in DIRECTIONS]
    return table.markdown(["BF16, GB/s", "one core", "two cores", "paired ratio"], rows)
