"""4 KiB random reads, the reader's pages dropped, stored bytes in the page cache: latency, what more jobs bring (fio),
and that no chunk is decoded twice.
"""

import contextlib
import functools
import json
import os
import random
import subprocess

from . import counters, crowd, readers, servers, table, verdicts
from .mount_work import Part, Work, say

SIZE = 4096
MANY_JOBS = 16
P50_BAR_US, P99_BAR_US, DECODES_BAR = 200, 2000, 1.05
WAYS = {"O_DIRECT": "--direct=1", "buffered": "--direct=0"}
SEED = 17


def fio(path: str, jobs: int, seconds: int, *options: str) -> dict[str, float]:
    """IOPS of all jobs together, and the latency in microseconds."""
    servers.require("fio")
    command = [
        "fio", "--name=random", f"--filename={path}", "--readonly", "--rw=randread", f"--bs={SIZE}",
        "--ioengine=psync", f"--numjobs={jobs}", "--time_based", f"--runtime={seconds}", "--group_reporting",
        f"--randseed={SEED}", "--output-format=json", *options,
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise servers.Missing(f"fio: {result.stderr.strip()[-300:]}")
    read = json.loads(result.stdout[result.stdout.index("{") :])["jobs"][0]["read"]
    percentile = read["clat_ns"]["percentile"]
    return {"iops": read["iops"], "p50_us": percentile["50.000000"] / 1e3, "p99_us": percentile["99.000000"] / 1e3}


def read_at(path: str, offsets: list[int]) -> int:
    """Bytes read by O_DIRECT, SIZE of them at each offset."""
    block, fd = readers.make_block(SIZE), os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        return sum(os.preadv(fd, [block], offset) for offset in offsets)
    finally:
        os.close(fd)


def measure_decodes(work: Work, jobs: int, num_reads: int) -> dict:
    """Chunks decoded over chunks touched by `jobs` processes, with room for all chunks in the cache."""
    model, rng = work.model(), random.Random(SEED)
    blocks = [[rng.randrange(model.size // SIZE) for _ in range(num_reads // jobs)] for _ in range(jobs)]
    touched = len({block * SIZE // model.chunk_size for reader in blocks for block in reader})
    with servers.zipfs_mount(work.folder, model.container, 2 * model.size) as served:
        readers.warm_pages(served.source)
        with counters.counting(served.mountpoint) as counted:
            crowd.run([functools.partial(read_at, served.path, [block * SIZE for block in one]) for one in blocks])
    return {"jobs": jobs, "touched": touched, "decodes": counted["chunks_decoded"] / touched}


def measure(work: Work) -> dict:
    """{fio: [{server, way, jobs, iops, p50_us, p99_us}], decodes: [{jobs, touched, decodes}]}"""
    say("random reads")
    model, rows = work.model(), []
    jobs = sorted({1, len(os.sched_getaffinity(0)), MANY_JOBS})
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(servers.zipfs_mount(work.folder, model.container, work.cache_size))]
        readahead = servers.readahead_kb(running[0].mountpoint)
        running.append(stack.enter_context(servers.null_server(work.folder, model.container, model.size, readahead)))
        for served in running:
            readers.warm_pages(served.source)
            for way, option in WAYS.items():
                for num in jobs:
                    readers.drop_pages(served.path)
                    figures = fio(served.path, num, work.seconds, option)
                    rows.append({"server": served.name, "way": way, "jobs": num} | figures)
    num_reads = 2 * model.size // model.chunk_size
    return {"fio": rows, "decodes": [measure_decodes(work, num, num_reads) for num in (1, MANY_JOBS)]}


def bars(result: dict) -> list[dict]:
    found = []
    for way in WAYS:
        by_jobs = {row["jobs"]: row for row in result["fio"] if (row["server"], row["way"]) == ("zipfs", way)}
        one, name = by_jobs[1], f"4 KiB random reads, {way}"
        (null,) = (r for r in result["fio"] if (r["server"], r["way"], r["jobs"]) == (servers.NULL, way, 1))
        found += [
            verdicts.bar(f"{name}, one job: p50 in us", one["p50_us"], "<=", P50_BAR_US, note(null["p50_us"])),
            verdicts.bar(f"{name}, one job: p99 in us", one["p99_us"], "<=", P99_BAR_US, note(null["p99_us"])),
            *(
                verdicts.bar(f"{name}: {num} jobs over one", by_jobs[num]["iops"] / one["iops"], ">=", 1.0)
                for num in by_jobs
                if num > 1
            ),
        ]
    for row in result["decodes"]:
        name = f"4 KiB random reads, {row['jobs']} jobs: decodes per uncached chunk touched"
        found.append(verdicts.bar(name, row["decodes"], "<=", DECODES_BAR, f"{row['touched']} chunks"))
    return found


def note(null_us: float) -> str:
    return f"null server {null_us:.0f}"


def markdown(result: dict) -> str:
    return table.markdown(
        ["4 KiB random reads", "way", "jobs", "IOPS", "p50 us", "p99 us"],
        [
            [row["server"], row["way"], str(row["jobs"]), *(f"{row[key]:.0f}" for key in ("iops", "p50_us", "p99_us"))]
            for row in result["fio"]
        ],
    )


PART = Part("random", measure, bars, markdown)
