"""Only what is needed, in parallel: one large read on two cores and on one, and one tensor out of a file."""

import contextlib
import json
import mmap
import os
import time
from collections.abc import Callable

import safetensors

from zipfs import _native

from . import counters, readers, servers, table, verdicts
from .mount_warm import NARROW_KB
from .mount_work import MIB, Part, Work, say

READ_SIZE = 64 * MIB
DIRECT, OPENED, BUFFERED = "O_DIRECT", "zipfs.open", "buffered"
BARS = {DIRECT: 1.6, OPENED: 1.6, BUFFERED: 1.0}
JOBS = (1, 2)
MORE_CHUNKS, WASTED_BAR = 2, 0.05
OPEN_CACHE = 64 * MIB
"""As of zipfs.open()."""


def timed_pread(served: servers.Served, flags: int, block) -> float:
    """GB/s of one pread by one thread, of what nobody holds decoded."""
    servers.empty_cache(served.mountpoint)
    readers.drop_pages(served.path)
    fd = os.open(served.path, os.O_RDONLY | flags)
    try:
        start = time.perf_counter()
        size = os.preadv(fd, [block], 0)  # Linux gives all of it, as nobody interrupts
        return size / (time.perf_counter() - start) / 1e9
    finally:
        os.close(fd)


def timed_open(container: str, jobs: int, block) -> float:
    """GB/s of one pread through what zipfs.open() reads with, and its own cache, which is empty."""
    fd = os.open(container, os.O_RDONLY | os.O_CLOEXEC)
    with _native.File(_native.Cache(OPEN_CACHE, jobs), fd, container) as file:
        start = time.perf_counter()
        size = file.pread_into(block, 0)
        return size / (time.perf_counter() - start) / 1e9


def measure_parallel(work: Work) -> dict:
    """{way: {"1", "2": GB/s by jobs, ratio}}"""
    model, block = work.model(), readers.make_block(min(READ_SIZE, work.size // 2))
    with contextlib.ExitStack() as stack:
        served = {
            jobs: stack.enter_context(servers.zipfs_mount(work.folder, model.container, work.cache_size, jobs=jobs))
            for jobs in JOBS
        }
        readers.warm_pages(str(model.container))
        ways: dict[str, Callable[[int], float]] = {
            DIRECT: lambda jobs: timed_pread(served[jobs], os.O_DIRECT, block),
            OPENED: lambda jobs: timed_open(str(model.container), jobs, block),
            BUFFERED: lambda jobs: timed_pread(served[jobs], 0, block),
        }
        return {name: measure_way(way, work.runs) for name, way in ways.items()}


def measure_way(way: Callable[[int], float], runs: int) -> dict:
    speeds: dict[int, list[float]] = {jobs: [] for jobs in JOBS}
    for run in range(runs + 1):  # the first is not counted
        for jobs in JOBS if run % 2 == 0 else reversed(JOBS):
            speed = way(jobs)
            if run:
                speeds[jobs].append(speed)
    summaries = {str(jobs): table.summary(values) for jobs, values in speeds.items()}
    return summaries | {"ratio": verdicts.ratios(speeds[2], speeds[1])}


def tensor_range(path: str) -> tuple[str, int, int]:
    """(name, start, end) of the tensor in the middle of a safetensors file."""
    with open(path, "rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_size))
    name = list(header)[len(header) // 2]
    start, end = header[name]["data_offsets"]
    return name, 8 + header_size + start, 8 + header_size + end


def load_tensor(path: str, name: str, start: int, end: int) -> None:
    with safetensors.safe_open(path, framework="pt") as file:
        file.get_tensor(name).clone()


def read_tensor(path: str, name: str, start: int, end: int) -> None:
    with open(path, "rb", buffering=0) as file:
        os.pread(file.fileno(), end - start, start)


def direct_tensor(path: str, name: str, start: int, end: int) -> None:
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    os.preadv(fd, [readers.make_block(-(-(end - first) // mmap.PAGESIZE) * mmap.PAGESIZE)], first)
    os.close(fd)


TENSOR_WAYS = {"safetensors": load_tensor, "pread": read_tensor, "O_DIRECT": direct_tensor}


def measure_tensor(work: Work, way: str, window_kb: int | None) -> dict:
    """{way, window_kb, needed, decoded: chunks, wasted: share of the bytes decoded that were decoded ahead in vain};
    window_kb None: that of the mount.
    """
    model = work.model()
    name, start, end = tensor_range(str(model.plain))
    needed = (end - 1) // model.chunk_size - start // model.chunk_size + 1
    with (
        servers.zipfs_mount(work.folder, model.container, work.cache_size) as served,
        counters.counting(served.mountpoint) as counted,
    ):
        window_kb = window_kb or servers.readahead_kb(served.path)
        servers.set_readahead(served.path, window_kb)
        TENSOR_WAYS[way](served.path, name, start, end)
        time.sleep(0.5)  # what is decoded ahead, is decoded by then
    wasted = max(0, counted["ahead_bytes"] - counted["ahead_used_bytes"]) / max(1, counted["bytes_decoded"])
    decoded = counted["chunks_decoded"]
    return {"way": way, "window_kb": window_kb, "needed": needed, "decoded": decoded, "wasted": wasted}


def measure(work: Work) -> dict:
    say("two jobs over one")
    readers.get_ready(("safetensors",))
    tensor = [measure_tensor(work, way, window_kb) for way in TENSOR_WAYS for window_kb in (None, NARROW_KB)]
    return {"parallel": measure_parallel(work), "tensor": tensor}


def bars(result: dict) -> list[dict]:
    found = [
        verdicts.ratio_bar(f"one pread of 64 MiB, {way}: --jobs 2 over --jobs 1", figures["ratio"], ">=", BARS[way])
        for way, figures in result["parallel"].items()
    ]
    for one in result["tensor"]:
        wanted, name = one["needed"] + MORE_CHUNKS, f"one tensor by {one['way']}, window {one['window_kb']} KiB"
        found.append(verdicts.bar(f"{name}: chunks decoded", one["decoded"], "<=", wanted, f"{one['needed']} needed"))
        found.append(verdicts.bar(f"{name}: decoded ahead in vain", one["wasted"], "<=", WASTED_BAR))
    return found


def markdown(result: dict) -> str:
    rows = [
        [way, *(table.spread(figures[name]) for name in ("1", "2", "ratio"))]
        for way, figures in result["parallel"].items()
    ]
    return table.markdown(["one pread of 64 MiB, one thread, GB/s", "--jobs 1", "--jobs 2", "paired ratio"], rows)


PART = Part("jobs", measure, bars, markdown)
