"""Stored bytes in the page cache, the reader's pages dropped: the mount beside the limits of its transport.

Every run goes once through all servers, there and back; ratios are taken within a run.
"""

import contextlib

from . import counters, readers, servers, table, verdicts
from .mount_work import Part, Work, say

BAR, NARROW_BAR, DECODED_BAR = 0.85, 0.8, 0.98
NARROW_KB = 128
"""The window that the kernel gives a mount when nobody raises it."""
PLAIN_WARM = "plain file, in the page cache"


def start_servers(stack: contextlib.ExitStack, work: Work) -> tuple[list[servers.Served], dict[str, str]]:
    """(servers that run, reasons of the others by name); zipfs comes first and its readahead is given to all."""
    model = work.model()
    running = [stack.enter_context(servers.zipfs_mount(work.folder, model.container, work.cache_size))]
    readahead = servers.readahead_kb(running[0].mountpoint)
    others = {
        f"zipfs ({name})": servers.zipfs_mount(work.folder, model.container, work.cache_size, name)
        for name in work.drivers
    }
    others |= {
        name: servers.null_server(work.folder, model.container, model.size, readahead, bare=name != servers.NULL)
        for name in (servers.NULL, servers.NULL_BARE)
    }
    left_out = {}
    for name, server in others.items():
        try:
            running.append(stack.enter_context(server))
        except servers.Missing as reason:
            left_out[name] = str(reason)
    return [*running, servers.Served(PLAIN_WARM, str(model.plain))], left_out


def read_once(served: servers.Served, way: str) -> tuple[float, float | None]:
    """(GB/s, decoded share of a zipfs mount)"""
    if served.name == PLAIN_WARM:
        readers.warm_pages(served.path)
        return readers.speed(served.path, way), None
    if served.source:
        readers.warm_pages(served.source)
    if not served.name.startswith("zipfs"):
        return readers.cold_speed(served.path, way), None
    servers.empty_cache(served.mountpoint)
    with counters.counting(served.mountpoint) as counted:
        speed = readers.cold_speed(served.path, way)
    return speed, counters.decoded_share(counted)


def is_measured(served: servers.Served, way: str) -> bool:
    """O_DIRECT passes by the page cache, and some file systems have none of it."""
    return readers.can_read(served.path, way) and (served.name, way) != (PLAIN_WARM, "O_DIRECT")


def measure_way(running: list[servers.Served], way: str, runs: int) -> dict:
    """{way, decoded_share: the smallest of a run, servers: {name: speeds}, zipfs_over: {name: paired ratios}}"""
    running = [served for served in running if is_measured(served, way)]
    speeds: dict[str, list[float]] = {served.name: [] for served in running}
    shares = []
    for run in range(runs):
        for served in running if run % 2 == 0 else reversed(running):
            speed, share = read_once(served, way)
            speeds[served.name].append(speed)
            shares += [share] if share is not None else []
    return {
        "way": way,
        "decoded_share": min(shares),
        "servers": {name: table.summary(values) for name, values in speeds.items()},
        "zipfs_over": {name: verdicts.ratios(speeds["zipfs"], values) for name, values in speeds.items()},
    }


def measure_narrow(running: list[servers.Served], runs: int) -> list[dict]:
    """The mounts again as users have them, who may not raise the kernel's window."""
    running = [served for served in running if served.mountpoint]
    windows = [servers.readahead_kb(served.path) for served in running]
    for served in running:
        servers.set_readahead(served.path, NARROW_KB)
    ways = [measure_way(running, way, runs) for way in readers.TRANSPORT_WAYS]
    for served, window in zip(running, windows, strict=True):
        servers.set_readahead(served.path, window)
    return ways


def measure(work: Work) -> dict:
    with contextlib.ExitStack() as stack:
        running, left_out = start_servers(stack, work)
        windows = {served.name: servers.readahead_kb(served.path) for served in running}
        ways = []
        for way in readers.TRANSPORT_WAYS:
            say(f"warm source, {way}")
            ways.append(measure_way(running, way, work.runs))
        say(f"warm source, window of {NARROW_KB} KiB")
        narrow = measure_narrow(running, work.runs)
    return {"readahead_kb": windows, "ways": ways, "narrow": narrow, "left_out": left_out}


def bars(result: dict) -> list[dict]:
    found = []
    for ways, wanted, note in (
        (result["ways"], BAR, ""),
        (result["narrow"], NARROW_BAR, f", window {NARROW_KB} KiB"),
    ):
        for way in ways:
            over = way["zipfs_over"]
            if servers.NULL in over:
                bare = f"{over[servers.NULL_BARE]['median']:.2f} of the bare null server"
                name = f"warm source, {way['way']}{note}: zipfs over the null server with SOURCE"
                found.append(verdicts.ratio_bar(name, over[servers.NULL], ">=", wanted, bare))
    least = min(way["decoded_share"] for way in (*result["ways"], *result["narrow"]))
    name = "warm source: bytes decoded over bytes read, least of all runs"
    return [*found, verdicts.bar(name, least, ">=", DECODED_BAR)]


def cell(figures: dict[str, dict], name: str) -> str:
    return table.spread(figures[name]) if name in figures else "-"


def speed_table(title: str, ways: list[dict], names: list[str], readahead: dict[str, int]) -> str:
    rows = [
        [
            name,
            *(cell(way["servers"], name) for way in ways),
            *(cell(way["zipfs_over"], name) for way in ways),
            str(readahead[name]),
        ]
        for name in names
    ]
    header = [title, *(way["way"] for way in ways), *(f"{way['way']}: zipfs over it" for way in ways)]
    return table.markdown([*header, "readahead KiB"], rows)


def markdown(result: dict) -> str:
    wide = speed_table("warm source, GB/s", result["ways"], list(result["readahead_kb"]), result["readahead_kb"])
    names = list(result["narrow"][0]["servers"])
    narrow = speed_table("small window, GB/s", result["narrow"], names, dict.fromkeys(names, NARROW_KB))
    left_out = "; ".join(f"{name}: {why}" for name, why in result["left_out"].items())
    return "\n\n".join([wide, narrow, *([f"Left out: {left_out}."] if left_out else [])])


PART = Part("warm", measure, bars, markdown)
