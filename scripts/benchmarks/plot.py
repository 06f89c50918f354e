"""The picture of stored size against decompression speed, every peer, level and kernel on it."""

from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from . import corpus, peers

LEVELS = {peers.ZipfsFast.name: "^", peers.Zipfs.name: "o", peers.ZipfsMax.name: "s"}
COLOURS = ("tab:blue", "tab:green", "tab:purple", "tab:pink")
OTHERS = {
    peers.ZipNN.name: ("D", "tab:red"),
    peers.ZipNNSmallCalls.name: ("d", "tab:red"),
    peers.OpenZL.name: ("P", "tab:orange"),
    peers.OpenZLFse.name: ("X", "tab:orange"),
    peers.Zstd.name: ("<", "tab:brown"),
    peers.Zstd19.name: (">", "tab:brown"),
}
PANELS = ("bf16", "f16", "f32")
CLOSE_UP = 1.2
"""Points of size above the smallest that the lower panels show."""


class Point(NamedTuple):
    label: str
    speed: float
    size: float
    marker: str
    colour: str


def points(name: str, speed: dict[str, list[dict]]) -> list[Point]:
    """Those of one data set."""
    found = []
    for number, (kernel, results) in enumerate(speed.items()):
        for row in (row for result in results if result["data"] == name for row in result["codecs"]):
            codec, place = row["codec"], (row["decompress"]["median"], row["size_percent"])
            if codec in LEVELS:
                found.append(Point(f"{codec}, {kernel}", *place, LEVELS[codec], COLOURS[number]))
            elif number == 0 and codec in OTHERS:
                found.append(Point(codec, *place, *OTHERS[codec]))
    return found


def copy_speed(name: str, speed: dict[str, list[dict]]) -> float | None:
    """GB/s of memcpy on one data set."""
    results = next(iter(speed.values()))
    rows = [row for result in results if result["data"] == name for row in result["codecs"]]
    return next((row["decompress"]["median"] for row in rows if row["codec"] == peers.Memcpy.name), None)


def draw_column(whole, close_up, name: str, speed: dict[str, list[dict]], found: list[Point]) -> None:
    """One data set: all sizes above, the smallest below."""
    copy = copy_speed(name, speed)
    for axes in (whole, close_up):
        for point in found:
            axes.plot(point.speed, point.size, point.marker, color=point.colour, label=point.label, alpha=0.8)
        if copy:
            axes.axvline(copy, color="black", linestyle="--", linewidth=0.8, label=peers.Memcpy.name)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    whole.set_title(corpus.LAYOUTS[name])
    smallest = min(point.size for point in found)
    close_up.set_ylim(smallest - 0.15, smallest + CLOSE_UP)
    close_up.set_xlabel("decompress, GB/s on one core")


def draw(speed: dict[str, list[dict]], path: Path, title: str) -> None:
    """Writes a PNG; data sets that were not measured have no column."""
    columns = [(name, found) for name in PANELS if (found := points(name, speed))]
    figure = Figure(figsize=(1 + 4 * len(columns), 8))
    grid = figure.subplots(2, len(columns), squeeze=False, sharex="col")
    for place, (name, found) in enumerate(columns):
        draw_column(grid[0, place], grid[1, place], name, speed, found)
    grid[0, 0].set_ylabel("stored size, %")
    grid[1, 0].set_ylabel("stored size, %: the smallest")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=5, fontsize=8)
    figure.suptitle(title, fontsize=8)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
