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
BAR = 0.11
"""Width."""
LIMITS = (servers.NULL, PLAIN_WARM)


def collect(parts: dict) -> dict[str, dict[str, dict]]:
    """{way: {server: summary of GB/s}}; a server is taken from the part that is about it."""
    found: dict[str, dict[str, dict]] = {}
    for name in ("peers", "warm"):
        for way in parts.get(name, {}).get("ways", []):
            found.setdefault(way["way"], {}).update(way["servers"])
    return found


def draw_bar(axes, position: float, name: str, figures: dict[str, float]) -> None:
    is_limit = name in LIMITS
    spread = [[figures["median"] - figures["q1"]], [figures["q3"] - figures["median"]]]
    bar = axes.bar(
        [position],
        [figures["median"]],
        BAR,
        yerr=spread,
        color="none" if is_limit else COLOURS[name],
        edgecolor=COLOURS[name],
        hatch="//" if is_limit else None,
        label=name,
        capsize=2,
    )
    axes.bar_label(bar, fmt="%.2g", fontsize=7, padding=2)


def draw(parts: dict, path: Path, title: str) -> None:
    """Writes a PNG of what `warm` and `peers` measured: a group of bars for each way."""
    ways = collect(parts)
    figure = Figure(figsize=(9, 4.5))
    axes = figure.subplots()
    for number, servers_there in enumerate(ways.values()):
        there = [name for name in COLOURS if name in servers_there]
        for place, name in enumerate(there):
            draw_bar(axes, number + (place - (len(there) - 1) / 2) * BAR, name, servers_there[name])
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    axes.set_xticks(range(len(ways)), ways)
    axes.set_ylabel("GB/s of plain bytes, page cache of the reader cold")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(handles.values(), handles, fontsize=8, ncols=2)
    axes.set_title(title, fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
