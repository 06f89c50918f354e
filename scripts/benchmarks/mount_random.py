"""4 KiB random reads by fio, past the reader's page cache, stored bytes in the page cache: latency, and what more jobs
bring.
"""

import json
import shutil
import subprocess

from . import readers, servers, table

JOBS = (1, 16)
P50_BAR_US, P99_BAR_US = 200, 2000


def measure(served: servers.Served, jobs: int, seconds: int) -> dict[str, float]:
    """IOPS of all jobs together, and the latency in microseconds."""
    command = [
        "fio", "--name=random", f"--filename={served.path}", "--readonly", "--rw=randread", "--bs=4k", "--direct=1",
        "--ioengine=psync", f"--numjobs={jobs}", "--time_based", f"--runtime={seconds}", "--group_reporting",
        "--randseed=17", "--output-format=json",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise servers.Missing(f"fio: {result.stderr.strip()[-300:]}")
    read = json.loads(result.stdout)["jobs"][0]["read"]
    percentile = read["clat_ns"]["percentile"]
    return {"iops": read["iops"], "p50_us": percentile["50.000000"] / 1e3, "p99_us": percentile["99.000000"] / 1e3}


def run(running: list[servers.Served], seconds: int) -> list[dict]:
    """{server, jobs, iops, p50_us, p99_us} of each server that has stored bytes; empty where there is no fio."""
    if shutil.which("fio") is None:
        return []
    found = []
    for served in running:
        if served.source and readers.can_read(served.path, "O_DIRECT"):
            readers.warm_pages(served.source)
            found += [{"server": served.name, "jobs": jobs} | measure(served, jobs, seconds) for jobs in JOBS]
    return found


def bars(rows: list[dict]) -> list[dict]:
    by_jobs = {row["jobs"]: row for row in rows if row["server"] == "zipfs"}
    if not by_jobs:
        return []
    one, many = by_jobs[JOBS[0]], by_jobs[JOBS[-1]]
    return [
        table.bar("4 KiB random reads, one job: p50 in us", one["p50_us"], "<=", P50_BAR_US),
        table.bar("4 KiB random reads, one job: p99 in us", one["p99_us"], "<=", P99_BAR_US),
        table.bar(f"4 KiB random reads: {JOBS[-1]} jobs over one", many["iops"] / one["iops"], ">=", 1.0),
    ]


def to_markdown(rows: list[dict]) -> str:
    return table.markdown(
        ["4 KiB random reads, O_DIRECT", "jobs", "IOPS", "p50 us", "p99 us"],
        [
            [row["server"], str(row["jobs"]), f"{row['iops']:.0f}", f"{row['p50_us']:.0f}", f"{row['p99_us']:.0f}"]
            for row in rows
        ],
    )
