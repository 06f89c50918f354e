"""The mount beside other file systems that hold compressed files; sources and images in the page cache."""

import contextlib

from . import peer_mounts, servers, table, verdicts
from .mount_warm import measure_way
from .mount_work import Part, Work, say

BARS = {peer_mounts.SQUASHFS: 3, peer_mounts.SQUASHFUSE: 3, peer_mounts.BTRFS: 2, peer_mounts.RATARMOUNT: 4}
WAYS = ("read", "mmap")


def measure(work: Work) -> dict:
    """{stored: bytes by name, ways: as of mount_warm.measure_way(), left_out}"""
    say("peers")
    model, left_out = work.model(), {}
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(servers.zipfs_mount(work.folder, model.container, work.cache_size))]
        readahead = servers.readahead_kb(running[0].mountpoint)
        for name, start in peer_mounts.ALL.items():
            try:
                running.append(stack.enter_context(start(work.folder, model.plain, readahead)))
            except servers.Missing as reason:
                left_out[name] = str(reason)
        stored = {served.name: stored_size(served) for served in running}
        ways = [measure_way(running, way, work.runs) for way in WAYS]
    return {"plain_bytes": model.size, "stored": stored, "ways": ways, "left_out": left_out}


def stored_size(served: servers.Served) -> int:
    with open(served.source, "rb") as file:
        return served.stored_size or file.seek(0, 2)


def bars(result: dict) -> list[dict]:
    found = []
    for way in result["ways"]:
        for name, wanted in BARS.items():
            if name in way["zipfs_over"]:
                figures = way["zipfs_over"][name]
                found.append(verdicts.ratio_bar(f"{way['way']}: zipfs over {name}", figures, ">=", wanted))
    mine = result["stored"]["zipfs"]
    for name, size in result["stored"].items():
        if name != "zipfs":
            found.append(verdicts.bar(f"stored size: zipfs over {name}", mine / size, "<=", 1))
    return found


def markdown(result: dict) -> str:
    rows = [
        [
            name,
            f"{100 * size / result['plain_bytes']:.1f} %",
            *(table.spread(way["servers"][name]) for way in result["ways"]),
            *(table.spread(way["zipfs_over"][name]) for way in result["ways"]),
        ]
        for name, size in result["stored"].items()
    ]
    ways = [way["way"] for way in result["ways"]]
    header = ["warm source", "stored", *(f"{way} GB/s" for way in ways), *(f"{way}: zipfs over it" for way in ways)]
    left_out = "; ".join(f"{name}: {why}" for name, why in result["left_out"].items())
    return table.markdown(header, rows) + (f"\n\nLeft out: {left_out}." if left_out else "")


PART = Part("peers", measure, bars, markdown)
