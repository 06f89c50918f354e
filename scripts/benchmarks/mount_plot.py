"""The picture of a mount's speed by way of reading, zipfs beside its peers and the two limits."""

from pathlib import Path

from matplotlib.figure import Figure

from . import peer_mounts, servers
from .mount_warm import PLAIN_WARM

COLOURS = {
    "zipfs": "tab:blue",
    servers.NULL: "black",
    PLAIN_WARM: "dimgray",
    peer_mounts.SQUASHFS: "tab:orange",
    peer_mounts.SQUASHFUSE: "tab:red",
    peer_mounts.BTRFS: "tab:green",
    peer_mounts.RATARMOUNT: "tab:purple",
}
LIMITS = (servers.NULL, PLAIN_WARM)


def collect(parts: dict) -> dict[str, dict[str, dict]]:
    """{way: {server: summary of GB/s}}; a server is taken from the part that is about it."""
    found: dict[str, dict[str, dict]] = {}
    for name in ("peers", "warm"):
        for way in parts.get(name, {}).get("ways", []):
            found.setdefault(way["way"], {}).update(way["servers"])
    return found


def draw(parts: dict, path: Path, title: str) -> None:
    """Writes a PNG of what `warm` and `peers` measured: a group of bars for each way."""
    ways = collect(parts)
    figure = Figure(figsize=(9, 4.5))
    axes = figure.subplots()
    width = 0.8 / len(COLOURS)
    for place, (name, colour) in enumerate(COLOURS.items()):
        there = [(number, ways[way][name]) for number, way in enumerate(ways) if name in ways[way]]
        if not there:
            continue
        medians = [figures["median"] for _, figures in there]
        spread = [
            [figures["median"] - figures["q1"] for _, figures in there],
            [figures["q3"] - figures["median"] for _, figures in there],
        ]
        positions = [number + (place - len(COLOURS) / 2 + 0.5) * width for number, _ in there]
        hatch = "//" if name in LIMITS else None
        fill = "none" if name in LIMITS else colour
        bars = axes.bar(
            positions, medians, width, yerr=spread, color=fill, edgecolor=colour, hatch=hatch, label=name, capsize=2
        )
        axes.bar_label(bars, fmt="%.2g", fontsize=7, padding=2)
    axes.set_xticks(range(len(ways)), ways)
    axes.set_ylabel("GB/s of plain bytes, page cache of the reader cold")
    axes.legend(fontsize=8, ncols=2)
    axes.set_title(title, fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
