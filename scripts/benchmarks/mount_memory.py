"""What the daemon's memory grows to under many random readers, and what is left of it once they are gone."""

import functools
import os
import random
import time

from zipfs.mount_options import DEFAULT_PROFILE, PROFILES

from . import crowd, daemons, readers, servers, verdicts
from .mount_work import MIB, Part, Work, say

NUM_READERS = 64
SIZES = (4096, 65536, MIB, 4 * MIB)
MORE, IDLE_RSS, IDLE_S = 64 * MIB, 64 * MIB, 30
SEED = 29


def read_randomly(path: str, seed: int, seconds: float) -> int:
    """Bytes read at random places, buffered and by O_DIRECT in turn."""
    rng, block, total = random.Random(seed), readers.make_block(SIZES[-1]), 0
    fds = [os.open(path, os.O_RDONLY | flags) for flags in (0, os.O_DIRECT)]
    size, deadline = os.fstat(fds[0]).st_size, time.monotonic() + seconds
    while time.monotonic() < deadline:
        wanted = rng.choice(SIZES)
        offset = rng.randrange(size // SIZES[0]) * SIZES[0]
        total += os.preadv(rng.choice(fds), [memoryview(block)[:wanted]], offset)
        if rng.random() < 0.01:
            os.posix_fadvise(fds[0], 0, 0, os.POSIX_FADV_DONTNEED)
    return total


def measure(work: Work) -> dict:
    """{cache_size, seconds, peak, read, idle: {seconds, rss}, numpy}, in bytes."""
    model, seconds = work.model(), 60 * work.minutes
    cache_size = min(PROFILES[DEFAULT_PROFILE].cache_size, work.cache_size)
    say(f"memory, {NUM_READERS} readers for {seconds:.0f} s")
    with servers.zipfs_mount(work.folder, model.container, cache_size) as served:
        first = daemons.rss(served.pid)
        with daemons.watching_rss(served.pid) as seen:
            tasks = [functools.partial(read_randomly, served.path, SEED + n, seconds) for n in range(NUM_READERS)]
            total, _ = crowd.run(tasks)
        waited, idle = daemons.wait_below(served.pid, IDLE_RSS, IDLE_S)
        numpy = daemons.has_loaded(served.pid, "numpy")
    return {
        "cache_size": cache_size,
        "seconds": seconds,
        "first": first,
        "peak": max(seen),
        "read": total,
        "idle": {"seconds": waited, "rss": idle},
        "numpy": numpy,
    }


def bars(result: dict) -> list[dict]:
    budget, idle = result["cache_size"] // MIB, result["idle"]
    name = f"RSS under {NUM_READERS} random readers for {result['seconds']:.0f} s, MiB"
    return [
        verdicts.bar(name, result["peak"] / MIB, "<=", budget + MORE // MIB, f"cache {budget} MiB"),
        verdicts.bar(f"RSS within {IDLE_S} s of idling, MiB", idle["rss"] / MIB, "<=", IDLE_RSS // MIB),
        verdicts.bar("daemon has numpy loaded", int(result["numpy"]), "<=", 0),
    ]


def markdown(result: dict) -> str:
    idle = result["idle"]
    return (
        f"Memory: RSS {result['first'] / MIB:.0f} MiB after the start, {result['peak'] / MIB:.0f} MiB at most while "
        f"{NUM_READERS} processes read {result['read'] / 1e9:.1f} GB in {result['seconds']:.0f} s, "
        f"{idle['rss'] / MIB:.0f} MiB {idle['seconds']:.1f} s after the last read."
    )


PART = Part("memory", measure, bars, markdown)
