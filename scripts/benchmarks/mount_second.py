"""Loading a model again, with nothing dropped: the mount and the plain file, both from the page cache.

The null server stands beside them: what it loses to the plain file, the kernel's page cache of FUSE files does.
"""

import contextlib

from . import counters, readers, servers, table, verdicts
from .mount_work import Part, Work, say

BAR = 0.95
COLUMNS = {
    "plain": "plain GB/s",
    "zipfs": "zipfs GB/s",
    "null": "null server GB/s",
    "ratio": "zipfs over plain",
    "null_ratio": "null server over plain",
}


def measure(work: Work) -> dict:
    """{ways: {way: {plain, zipfs, null: GB/s, ratio, null_ratio}}, asked: bytes that the daemon was asked for, over
    those of second loads}. More than none are asked for where the kernel takes pages away that are not in use.
    """
    say("second load")
    model, found = work.model(), {}
    readers.get_ready(readers.LOADING_WAYS)
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(servers.zipfs_mount(work.folder, model.container, work.cache_size))
        readahead = servers.readahead_kb(served.mountpoint)
        null = stack.enter_context(servers.null_server(work.folder, model.container, model.size, readahead, bare=True))
        paths = {"plain": str(model.plain), "zipfs": served.path, "null": null.path}
        with counters.counting(served.mountpoint) as counted:
            for way in readers.LOADING_WAYS:
                found[way] = measure_way(ways_of(paths, way), way, work.runs)
    num_loads = len(readers.LOADING_WAYS) * work.runs
    return {"ways": found, "asked": counted["bytes_read"] / model.size / num_loads - 1}


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
    found = summaries | {"ratio": verdicts.ratios(speeds["zipfs"], speeds["plain"])}
    return found | ({"null_ratio": verdicts.ratios(speeds["null"], speeds["plain"])} if "null" in speeds else {})


def bars(result: dict) -> list[dict]:
    found = []
    for way, figures in result["ways"].items():
        note = f"null server {figures['null_ratio']['median']:.2f}" if "null_ratio" in figures else ""
        name = f"second load, {way}: zipfs over the plain file"
        found.append(verdicts.ratio_bar(name, figures["ratio"], ">=", BAR, note))
    return found


def markdown(result: dict) -> str:
    rows = [
        [way, *(table.spread(figures[name]) if name in figures else "-" for name in COLUMNS)]
        for way, figures in result["ways"].items()
    ]
    asked = f"Of the bytes loaded again, {100 * result['asked']:.2f} % had to be asked of the daemon."
    return table.markdown(["second load, nothing dropped", *COLUMNS.values()], rows) + "\n\n" + asked


PART = Part("second", measure, bars, markdown)
