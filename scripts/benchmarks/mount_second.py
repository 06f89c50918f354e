"""Loading a model again, with nothing dropped: the mount and the plain file, both from the page cache."""

import contextlib

from . import counters, readers, servers, table, verdicts
from .mount_work import Part, Work, say

BAR = 0.95


def measure(work: Work) -> dict:
    """{way: {plain, zipfs: GB/s, ratio}}, and the bytes that the daemon was asked for meanwhile."""
    say("second load")
    model, found = work.model(), {}
    readers.get_ready(readers.LOADING_WAYS)
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(servers.zipfs_mount(work.folder, model.container, work.cache_size))
        paths = {"plain": str(model.plain), "zipfs": served.path}
        for path in paths.values():
            readers.warm_pages(path)
        with counters.counting(served.mountpoint) as counted:
            for way in readers.LOADING_WAYS:
                found[way] = measure_way(paths, way, work.runs)
    return {"ways": found, "bytes_asked": counted["bytes_read"]}


def measure_way(paths: dict[str, str], way: str, runs: int) -> dict:
    speeds: dict[str, list[float]] = {name: [] for name in paths}
    for run in range(runs + 1):  # the first is not counted
        for name in list(paths) if run % 2 == 0 else reversed(paths):
            speed = readers.speed(paths[name], way)
            if run:
                speeds[name].append(speed)
    summaries = {name: table.summary(values) for name, values in speeds.items()}
    return summaries | {"ratio": verdicts.ratios(speeds["zipfs"], speeds["plain"])}


def bars(result: dict) -> list[dict]:
    found = [
        verdicts.ratio_bar(f"second load, {way}: zipfs over the plain file", figures["ratio"], ">=", BAR)
        for way, figures in result["ways"].items()
    ]
    return [*found, verdicts.bar("second load: bytes that reached the daemon", result["bytes_asked"], "<=", 0)]


def markdown(result: dict) -> str:
    rows = [
        [way, *(table.spread(figures[name]) for name in ("plain", "zipfs", "ratio"))]
        for way, figures in result["ways"].items()
    ]
    return table.markdown(["second load, nothing dropped", "plain GB/s", "zipfs GB/s", "paired ratio"], rows)


PART = Part("second", measure, bars, markdown)
