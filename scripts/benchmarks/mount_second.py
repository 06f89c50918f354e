"""Loading a model again, with nothing dropped: the mount and the plain file, both from the page cache, and a mount with
--resident, which keeps the file whole.

The null server stands beside them: what it loses to the plain file, the kernel's page cache of FUSE files does.
"""

import contextlib
import json
import time
from pathlib import Path

from zipfs.names import STATS

from . import counters, readers, servers, table, verdicts
from .mount_work import Part, Work, say

BAR = 0.95
COLUMNS = {
    "plain": "plain GB/s",
    "zipfs": "zipfs GB/s",
    "resident": "zipfs --resident GB/s",
    "null": "null server GB/s",
    "ratio": "zipfs over plain",
    "resident_ratio": "zipfs --resident over plain",
    "null_ratio": "null server over plain",
}
RATIOS = {"ratio": "zipfs", "resident_ratio": "resident", "null_ratio": "null"}
RESIDENT_WITHIN_S, SEEN_WITHIN_S = 60, 1.5
"""Until a file is resident, and until the kernel looks its name up again."""


def measure(work: Work) -> dict:
    """{ways: {way: {plain, zipfs, resident, null: GB/s, and the ratio of each to plain}}, asked: bytes that the daemon
    was asked for, over those of second loads}. More than none are asked for where the kernel takes pages away that are
    not in use. Without `resident` where the kernel does not read by itself.
    """
    say("second load")
    model, found = work.model(), {}
    readers.get_ready(readers.LOADING_WAYS)
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(servers.zipfs_mount(work.folder, model.container, work.cache_size))
        readahead = servers.readahead_kb(served.mountpoint)
        null = stack.enter_context(servers.null_server(work.folder, model.container, model.size, readahead, bare=True))
        paths = {"plain": str(model.plain), "zipfs": served.path, "null": null.path}
        with contextlib.suppress(servers.Missing):
            options = {"resident_size": 2 * model.size}
            kept = stack.enter_context(servers.zipfs_mount(work.folder, model.container, work.cache_size, **options))
            await_resident(kept)
            paths["resident"] = kept.path
        with counters.counting(served.mountpoint) as counted:
            for way in readers.LOADING_WAYS:
                found[way] = measure_way(ways_of(paths, way), way, work.runs)
    num_loads = len(readers.LOADING_WAYS) * work.runs
    return {"ways": found, "asked": counted["bytes_read"] / model.size / num_loads - 1}


def await_resident(served: servers.Served) -> None:
    readers.speed(served.path, "read")
    until = time.monotonic() + RESIDENT_WITHIN_S
    while not json.loads(Path(served.mountpoint, STATS).read_bytes())["resident"]["files"]:
        if time.monotonic() > until:
            raise servers.Missing(f"{served.path} did not become resident within {RESIDENT_WITHIN_S} s")
        time.sleep(0.1)
    time.sleep(SEEN_WITHIN_S)


def ways_of(paths: dict[str, str], way: str) -> dict[str, str]:
    """The null server's file is no safetensors file."""
    return {name: path for name, path in paths.items() if (name, way) != ("null", "safetensors")}


def measure_way(paths: dict[str, str], way: str, runs: int) -> dict:
    """Each run drops the pages, loads, and counts a second load: how fast that is depends on where the kernel put the
    pages, which differs from load to load.
    """
    speeds: dict[str, list[float]] = {name: [] for name in paths}
    for run in range(runs):
        for name in list(paths) if run % 2 == 0 else reversed(paths):
            readers.drop_pages(paths[name])
            readers.speed(paths[name], way)
            speeds[name].append(readers.speed(paths[name], way))
    summaries = {name: table.summary(values) for name, values in speeds.items()}
    ratios = {ratio: verdicts.ratios(speeds[name], speeds["plain"]) for ratio, name in RATIOS.items() if name in speeds}
    return summaries | ratios


def bars(result: dict) -> list[dict]:
    found = []
    for way, figures in result["ways"].items():
        note = f"null server {figures['null_ratio']['median']:.2f}" if "null_ratio" in figures else ""
        name = f"second load, {way}: zipfs over the plain file"
        found.append(verdicts.ratio_bar(name, figures["ratio"], ">=", BAR, note))
        if "resident_ratio" in figures:
            name = f"second load, {way}: zipfs --resident over the plain file"
            found.append(verdicts.ratio_bar(name, figures["resident_ratio"], ">=", BAR))
    return found


def markdown(result: dict) -> str:
    rows = [
        [way, *(table.spread(figures[name]) if name in figures else "-" for name in COLUMNS)]
        for way, figures in result["ways"].items()
    ]
    asked = f"Of the bytes loaded again, {100 * result['asked']:.2f} % had to be asked of the daemon."
    return table.markdown(["second load, nothing dropped", *COLUMNS.values()], rows) + "\n\n" + asked


PART = Part("second", measure, bars, markdown)
