"""Loading from a disk: the plain file and the mount in turn, with nothing of either in the page cache.

What can be hoped for: the disk reads less, by the factor to which files shrink, unless the mount's own speed (source in
the page cache) is what limits. `cold` uses the machine's disk, `throttled` one that the kernel holds back.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from . import counters, readers, servers, table, throttle, verdicts
from .mount_warm import DECODED_BAR
from .mount_work import Model, Part, Work, say

SHARE = 0.93


def measure_way(model: Model, served: servers.Served, way: str, runs: int, settle: Callable[[], None]) -> dict:
    """GB/s of plain, zipfs and warm (zipfs with its source in the page cache); speed_up: zipfs over plain. settle() is
    called right before the disk is read.
    """
    speeds: dict[str, list[float]] = {"plain": [], "zipfs": [], "warm": []}
    shares = []
    for _ in range(runs):
        settle()
        speeds["plain"].append(readers.cold_speed(str(model.plain), way))
        servers.empty_cache(served.mountpoint)
        readers.drop_pages(served.source)
        settle()
        with counters.counting(served.mountpoint) as counted:
            speeds["zipfs"].append(readers.cold_speed(served.path, way))
        shares.append(counters.decoded_share(counted))
        servers.empty_cache(served.mountpoint)
        readers.warm_pages(served.source)
        speeds["warm"].append(readers.cold_speed(served.path, way))
    return {
        **{name: table.summary(values) for name, values in speeds.items()},
        "way": way,
        "speed_up": verdicts.ratios(speeds["zipfs"], speeds["plain"]),
        "hoped_for": hoped_for(model.shrinks, verdicts.ratios(speeds["warm"], speeds["plain"])["median"]),
        "decoded_share": min(shares),
    }


def hoped_for(shrinks: float, warm_over_plain: float) -> float:
    """The most that a mount can bring: what the disk saves, or its own speed over the disk's."""
    return min(shrinks, warm_over_plain)


def measure_model(
    work: Work, model: Model, dtype: str, disk: float = 0, settle: Callable[[], None] = lambda: None
) -> list[dict]:
    """A row for each way; `disk` is its limit in GB/s."""
    with servers.zipfs_mount(work.folder, model.container, work.cache_size) as served:
        rows = [measure_way(model, served, way, work.runs, settle) for way in readers.LOADING_WAYS]
    return [row | {"dtype": dtype, "shrinks": model.shrinks, "disk": disk} for row in rows]


def measure_cold(work: Work) -> list[dict]:
    return measure_each(work, measure_model)


def measure_throttled(work: Work) -> list[dict]:
    return measure_each(work, measure_on_disks)


def measure_each(work: Work, measure: Callable[[Work, Model, str], list[dict]]) -> list[dict]:
    """The rows of every dtype; one that cannot be measured does not cost the others."""
    readers.get_ready(readers.LOADING_WAYS)
    rows = []
    for dtype in work.dtypes:
        say(f"from disk, {dtype}")
        try:
            rows += measure(work, work.model(dtype), dtype)
        except servers.Missing as reason:
            say(f"no {dtype}: {reason}")
    return rows


def measure_on_disks(work: Work, model: Model, dtype: str) -> list[dict]:
    rows = []
    with throttle.disk(work.folder, model.size + model.stored_size) as disk:
        copied = copy(model, disk.folder)
        for speed in work.disks:
            say(f"throttled to {speed} GB/s, {dtype}")
            disk.limit(speed)
            rows += measure_model(work, copied, dtype, speed, disk.settle)
        disk.limit(0)
    return rows


def copy(model: Model, folder: Path) -> Model:
    """The model on another disk."""
    (folder / "packed").mkdir()
    plain = shutil.copy(model.plain, folder / "model.safetensors")
    container = shutil.copy(model.container, folder / "packed" / model.container.name)
    shutil.copy(model.container.with_name(f"{servers.EVICTOR}.zipfs"), folder / "packed")
    throttle.run("sync", "-f", str(folder))
    return Model(Path(plain), Path(container), model.compress_speed)


def title(row: dict) -> str:
    return f"{row['dtype']}, {row['way']}" + (f", disk of {row['disk']:g} GB/s" if row["disk"] else "")


def bars(rows: list[dict]) -> list[dict]:
    where = "throttled" if rows and rows[0]["disk"] else "cold"
    found = [
        verdicts.ratio_bar(
            f"{where}, {title(row)}: speed-up over the plain file",
            row["speed_up"],
            ">=",
            SHARE * row["hoped_for"],
            f"{SHARE} x {row['hoped_for']:.2f}",
        )
        for row in rows
    ]
    least = min((row["decoded_share"] for row in rows), default=1.0)
    name = f"{where}: bytes decoded over bytes read, least of all runs"
    return [*found, verdicts.bar(name, least, ">=", DECODED_BAR)]


def break_even(rows: list[dict]) -> dict[tuple[str, str], float]:
    """GB/s of the disk at which mount and plain file load equally fast, by dtype and way.

    A slower disk than the mount's own speed with a warm source makes the mount the faster one; the largest is taken,
    as a throttled disk costs the loop device's CPU time besides.
    """
    found: dict[tuple[str, str], float] = {}
    for row in rows:
        key = row["dtype"], row["way"]
        found[key] = max(found.get(key, 0.0), row["warm"]["median"])
    return found


def markdown(rows: list[dict]) -> str:
    lines = [
        [
            title(row),
            *(table.spread(row[name]) for name in ("plain", "zipfs", "warm", "speed_up")),
            f"{row['shrinks']:.2f}",
            f"{row['hoped_for']:.2f}",
        ]
        for row in rows
    ]
    header = ["from disk, nothing cached", "plain GB/s", "zipfs GB/s", "zipfs, warm source", "speed-up"]
    even = "; ".join(f"{dtype} by {way} {speed:.2f}" for (dtype, way), speed in break_even(rows).items())
    return (
        table.markdown([*header, "plain/stored", "hoped for"], lines)
        + f"\n\nBreak-even disk, GB/s, above which the plain file is the faster one: {even}."
    )


COLD = Part("cold", measure_cold, bars, markdown)
THROTTLED = Part("throttled", measure_throttled, bars, markdown)
