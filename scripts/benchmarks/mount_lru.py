"""The chunk cache: reads that must all be hits, and a skewed trace beside an exact LRU of the same size."""

import collections
import contextlib

import numpy as np

from . import counters, servers, table, verdicts
from .mount_random import SIZE, fio, read_at
from .mount_work import MIB, Part, Work, say

HITS_BAR, IOPS_BAR, LRU_BAR = 0.999, 0.9, 0.98
SEED = 19


def exact_hits(trace: list[int], capacity: int) -> int:
    """Hits of a least-recently-used cache of `capacity` entries that begins empty."""
    held: collections.OrderedDict[int, None] = collections.OrderedDict()
    hits = 0
    for key in trace:
        if key in held:
            held.move_to_end(key)
            hits += 1
        else:
            held[key] = None
            if len(held) > capacity:
                held.popitem(last=False)
    return hits


def zipf_trace(num_chunks: int, num_reads: int) -> np.ndarray:
    """Chunk numbers of which the k-th most frequent is 1/k times as frequent as the first; neighbours have nothing in
    common.
    """
    rng = np.random.default_rng(SEED)
    weights = 1 / np.arange(1, num_chunks + 1)
    return rng.permutation(num_chunks)[rng.choice(num_chunks, num_reads, p=weights / weights.sum())]


def measure_half(work: Work, cache_size: int) -> dict:
    """Reads of as much as half the cache: {hits, decodes, zipfs, null: IOPS, ratio}; the chunks are there before each
    run, as an idle mount gives memory back.
    """
    model, iops = work.model(), {"zipfs": [], "null": []}
    size, hits, wanted, decodes = min(cache_size // 2, model.size), 0, 0, 0
    with contextlib.ExitStack() as stack:
        mine = stack.enter_context(servers.zipfs_mount(work.folder, model.container, cache_size))
        null = stack.enter_context(servers.null_server(work.folder, model.container, model.size, None, bare=True))
        stack.enter_context(open(mine.path, "rb"))  # what nobody has open any more, may be forgotten
        for _ in range(work.runs):
            iops["null"].append(fio_on(null.path, size, work)["iops"])
            read_at(mine.path, list(range(0, size, model.chunk_size)))
            with counters.counting(mine.mountpoint) as counted:
                iops["zipfs"].append(fio_on(mine.path, size, work)["iops"])
            hits, decodes = hits + counted["cache_hits"], decodes + counted["chunks_decoded"]
            wanted += sum(counted[name] for name in ("cache_hits", "cache_waits", "cache_misses", "chunks_direct"))
    summaries = {name: table.summary(values) for name, values in iops.items()}
    ratio = verdicts.ratios(iops["zipfs"], iops["null"])
    return summaries | {"ratio": ratio, "hits": hits / wanted, "decodes": decodes}


def fio_on(path: str, size: int, work: Work) -> dict[str, float]:
    """One job on the first `size` bytes."""
    return fio(path, 1, min(work.seconds, 2), "--direct=1", f"--size={size}")


def measure_twice(work: Work, cache_size: int, num_reads: int) -> dict:
    """A skewed trace over twice the cache: {hits, exact_hits}, both over the reads."""
    model = work.model()
    num_chunks = min(2 * cache_size, model.size) // model.chunk_size
    trace = zipf_trace(num_chunks, num_reads)
    inner = np.random.default_rng(SEED + 1).integers(0, model.chunk_size // SIZE, num_reads) * SIZE
    offsets = (trace.astype(np.int64) * model.chunk_size + inner).tolist()
    with (
        servers.zipfs_mount(work.folder, model.container, cache_size) as served,
        counters.counting(served.mountpoint) as counted,
    ):
        read_at(served.path, offsets)
    exact = exact_hits(trace.tolist(), cache_size // model.chunk_size)
    return {
        "hits": counted["cache_hits"] / num_reads,
        "not_decoded": 1 - counted["chunks_decoded"] / num_reads,
        "exact_hits": exact / num_reads,
    }


def measure(work: Work) -> dict:
    say("the chunk cache")
    cache_size = min(64 * MIB, work.size // 2)
    twice = measure_twice(work, cache_size, 5_000 if work.quick else 50_000)
    return {"cache_size": cache_size, "half": measure_half(work, cache_size), "twice": twice}


def bars(result: dict) -> list[dict]:
    half, twice = result["half"], result["twice"]
    hits = min(twice["hits"], twice["not_decoded"])
    note = f"{hits:.4f}, exact {twice['exact_hits']:.4f}"
    over, small = hits / twice["exact_hits"], "LRU, working set half the cache"
    return [
        verdicts.bar(f"{small}: hits", half["hits"], ">=", HITS_BAR, f"{half['hits']:.5f}"),
        verdicts.bar(f"{small}: chunks decoded", half["decodes"], "<=", 0),
        verdicts.ratio_bar(f"{small}: IOPS over the bare null server", half["ratio"], ">=", IOPS_BAR),
        verdicts.bar("LRU, twice the cache, Zipf 1.0: hits over an exact LRU's", over, ">=", LRU_BAR, note),
    ]


def markdown(result: dict) -> str:
    half, twice = result["half"], result["twice"]
    iops = [f"{half[name]['median']:.0f}" for name in ("zipfs", "null")]
    return table.markdown(
        [f"4 KiB O_DIRECT, cache of {result['cache_size'] // MIB} MiB", "IOPS", "null server", "hits", "exact LRU"],
        [
            ["half the cache, uniform", *iops, f"{half['hits']:.5f}", "-"],
            ["twice the cache, Zipf 1.0", "-", "-", f"{twice['hits']:.4f}", f"{twice['exact_hits']:.4f}"],
        ],
    )


PART = Part("lru", measure, bars, markdown)
