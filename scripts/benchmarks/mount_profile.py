"""Where the time goes while one reader streams through the mount: samples of both processes (perf, cpu-clock)."""

import collections
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import flame, readers, servers, table
from .mount_work import Part, Work, say

FREQUENCY = 997
"""Samples a second."""
ROWS = 24
KINDS = (
    ("decode", r"^zipfs_|decode|merge_|XXH|rans|_avx|plane"),
    ("copy between kernel and process", r"copy_(to|from)_(user|iter)|copy_user|rep_movs|memcpy|fuse_copy"),
    (
        "page cache: allocate, clear, insert, charge",
        r"clear_page|alloc|rmqueue|page_list|add_folio|charge|mem_cgroup|xas_",
    ),
    ("page cache: look up, map", r"filemap_|next_uptodate|set_pte|fault|find_get|folio_mark|xa_load|read_batch"),
    ("page cache: lists and freeing", r"lru|free_|folio_batch|remove_mapping|release_pages"),
    ("FUSE requests", r"fuse|gup_|iov_iter"),
    ("waking, sleeping, switching", r"sched|futex|wake|wait|idle|switch|syscall|entry_"),
)
LOCKS = r"^_raw_spin|^__list|_lock|rcu"
"""Frames that say nothing by themselves: their caller does."""


def classify(stack: list[str]) -> str:
    """What it is about: the kind of the innermost frame that has one, of the three innermost that are no lock."""
    telling = [frame for frame in reversed(stack) if not re.search(LOCKS, frame)]
    found = (kind for frame in telling[:3] for kind, pattern in KINDS if re.search(pattern, frame))
    return next(found, "other")


def record(work: Work, data: Path, way: str) -> tuple[float, int]:
    """Samples reader and daemon while a fresh process reads; returns its GB/s and the daemon's pid."""
    model = work.model()
    command = "import sys; sys.path.insert(0, sys.argv[1]); from benchmarks import mount_profile as p; p.read_on()"
    scripts = str(Path(__file__).parents[1])
    with servers.zipfs_mount(work.folder, model.container, work.cache_size) as served:
        readers.warm_pages(served.source)
        arguments = [sys.executable, "-c", command, scripts, served.path, way, str(work.seconds)]
        reader = subprocess.Popen(arguments, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        reader.stdout.readline()
        perf = subprocess.Popen(
            ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "-g", "-o", str(data)]
            + ["-p", f"{served.pid},{reader.pid}"],
            stderr=subprocess.PIPE,
        )
        time.sleep(0.5)
        told, _ = reader.communicate("go\n")
        perf.send_signal(signal.SIGINT)
        if perf.wait() not in (0, -signal.SIGINT):
            raise servers.Missing(f"perf: {perf.stderr.read().decode().strip()[-200:]}")
    return float(told), served.pid


def read_on() -> None:
    """The reader's process: says that it is there, waits, reads for a while, tells the GB/s."""
    path, way, seconds = sys.argv[2], sys.argv[3], float(sys.argv[4])
    print("ready", flush=True)
    sys.stdin.readline()
    start, total = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        readers.drop_pages(path)
        total += readers.WAYS[way](path)
    print(total / (time.perf_counter() - start) / 1e9)


def stacks(data: Path, daemon: int) -> collections.Counter:
    """How often each stack was seen: (process, outermost frame, ..., innermost frame). What drops the reader's pages
    between two runs is left out.
    """
    command = ["perf", "script", "-i", str(data), "-F", "pid,ip,sym"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: collections.Counter = collections.Counter()
    for sample in text.split("\n\n"):
        pid, *lines = [line.strip() for line in sample.strip().splitlines()] or [""]
        if lines and not any("fadvise" in line for line in lines):
            frames = [line.partition(" ")[2] or "?" for line in lines]
            found["daemon" if int(pid) == daemon else "reader", *reversed(frames)] += 1
    return found


def measure(work: Work) -> dict:
    """{gb_s, way, samples, kinds: {process: {kind: share}}, symbols: [(share, process, symbol)], stacks}"""
    servers.require("perf")
    say("profile of a streaming read")
    data = work.folder / "perf.data"
    speed, daemon = record(work, data, "read")
    found = stacks(data, daemon)
    total = sum(found.values())
    kinds: dict[str, collections.Counter] = {}
    symbols: collections.Counter = collections.Counter()
    for stack, count in found.items():
        kinds.setdefault(stack[0], collections.Counter())[classify(list(stack[1:]))] += count
        symbols[stack[0], stack[-1]] += count
    return {
        "gb_s": speed,
        "way": "read",
        "samples": total,
        "kinds": {name: {kind: num / total for kind, num in counts.items()} for name, counts in kinds.items()},
        "symbols": [[num / total, *key] for key, num in symbols.most_common(ROWS)],
        "stacks": [[num, list(stack)] for stack, num in found.most_common(flame.MAX_STACKS)],
    }


def bars(result: dict) -> list[dict]:
    return []


def markdown(result: dict) -> str:
    kinds = [
        [f"{process}: {kind}", f"{100 * share:.1f} %"]
        for process, shares in sorted(result["kinds"].items())
        for kind, share in sorted(shares.items(), key=lambda item: -item[1])
    ]
    symbols = [[f"{process}: `{symbol}`", f"{100 * share:.1f} %"] for share, process, symbol in result["symbols"]]
    what = f"{result['way']}, {result['gb_s']:.2f} GB/s, {result['samples']} samples"
    return "\n\n".join([table.markdown([what, "share"], kinds), table.markdown(["innermost frame", "share"], symbols)])


PART = Part("profile", measure, bars, markdown)
