"""`scripts/bench mount`: reading one BF16 model through the mount, beside the plain file, the null server and squashfs.

Warm source, cold reader: stored bytes are in the page cache, the pages of the file that is read are dropped before each
run, and the file is at least four times the chunk cache, so that everything is decoded again; the daemon's own counters
prove it. Every run goes once through all servers; ratios are taken within a run.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from zipfs import names

from . import corpus, machine, mount_listing, mount_random, readers, servers, table

NAME = "mount"
HELP = "reads through the mount beside the plain file, the null server, squashfs and squashfuse; listings"
BUILD = Path(__file__).parents[2] / "build"
BARS = {"null server": 0.85, "squashfs, kernel": 3, "squashfuse_ll": 3}
NARROW_BAR, DECODED_BAR = 0.8, 0.98
NARROW_KB = 128
"""The window that the kernel gives a mount when nobody raises it."""
NARROW_WAYS = ("read", "mmap")
PLAIN_COLD, PLAIN_WARM = "plain file, cold", "plain file, in the page cache"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mib", type=int, help="size of the file (default 1024, with --quick 128)")
    parser.add_argument("--runs", type=int, help="default 9, with --quick 3")
    parser.add_argument("--files", type=int, help="files to list (default 100000, with --quick 2000)")
    parser.add_argument(
        "--drivers",
        default="mfusepy",
        help="drivers to measure beside the default one, comma-separated, of native, mfusepy, fusepy (default mfusepy)",
    )
    parser.add_argument(
        "--dir", type=Path, default=BUILD, help="where to work; a folder on the disk to be measured (default build/)"
    )


def write_model(path: Path, size: int) -> None:
    """A safetensors file of `size` bytes of BF16 weights."""
    tensor_size = corpus.ROWS * corpus.COLUMNS * 2
    header = {
        f"layers.{number}.weight": {
            "dtype": "BF16",
            "shape": [corpus.ROWS, corpus.COLUMNS],
            "data_offsets": [number * tensor_size, (number + 1) * tensor_size],
        }
        for number in range(size // tensor_size)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in corpus.tensors("bf16", size):
            file.write(values.tobytes())


def prepare(work: Path, size: int) -> tuple[Path, Path, float]:
    """(plain file, container, compress GB/s), all on disk."""
    plain = work / "plain" / "model.safetensors"
    plain.parent.mkdir()
    write_model(plain, size)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "zipfs", "compress", str(plain.parent), str(work / "packed")],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    speed = size / (time.perf_counter() - start) / 1e9
    os.sync()
    return plain, work / "packed" / "model.safetensors.zipfs", speed


def start_servers(
    stack: contextlib.ExitStack, work: Path, plain: Path, container: Path, drivers: list[str]
) -> tuple[list[servers.Served], dict[str, str]]:
    """(servers that run, reasons of the others by name); zipfs comes first and its readahead is given to all."""
    size = plain.stat().st_size
    running = [stack.enter_context(servers.zipfs_mount(work, container, size // 4))]
    readahead = servers.readahead_kb(running[0].mountpoint)
    others = {f"zipfs ({name})": servers.zipfs_mount(work, container, size // 4, name) for name in drivers}
    others |= {
        "null server": servers.null_server(work, container, size, readahead),
        "squashfs, kernel": servers.squashfs_kernel(work, plain, readahead),
        "squashfuse_ll": servers.squashfuse(work, plain, readahead),
    }
    left_out = {}
    for name, server in others.items():
        try:
            running.append(stack.enter_context(server))
        except servers.Missing as reason:
            left_out[name] = str(reason)
    running += [servers.Served(PLAIN_COLD, str(plain)), servers.Served(PLAIN_WARM, str(plain))]
    return running, left_out


def counters(served: servers.Served) -> dict[str, int]:
    return json.loads((Path(served.mountpoint) / names.STATS).read_bytes())["total"]


def decoded_share(before: dict[str, int], after: dict[str, int]) -> float:
    """Bytes decoded over bytes read between two looks at the counters."""
    return (after["bytes_decoded"] - before["bytes_decoded"]) / (after["bytes_read"] - before["bytes_read"])


def read_once(served: servers.Served, way: str) -> tuple[float, float | None]:
    """(GB/s, decoded share of a zipfs mount)"""
    if served.name == PLAIN_WARM:
        readers.warm_pages(served.path)
        return readers.speed(served.path, way), None
    if served.source:
        readers.warm_pages(served.source)
    if not served.name.startswith("zipfs"):
        return readers.cold_speed(served.path, way), None
    before = counters(served)
    speed = readers.cold_speed(served.path, way)
    return speed, decoded_share(before, counters(served))


def is_measured(served: servers.Served, way: str) -> bool:
    """O_DIRECT passes by the page cache, and some file systems have none of it."""
    return readers.can_read(served.path, way) and (served.name, way) != (PLAIN_WARM, "O_DIRECT")


def measure(running: list[servers.Served], way: str, runs: int) -> dict:
    """{server: [GB/s per run]} of those that can be read this way, and the smallest decoded share of a zipfs mount."""
    running = [served for served in running if is_measured(served, way)]
    speeds: dict[str, list[float]] = {served.name: [] for served in running}
    shares = []
    for run in range(runs):
        for served in running if run % 2 == 0 else reversed(running):
            speed, share = read_once(served, way)
            speeds[served.name].append(speed)
            shares += [share] if share is not None else []
    return {"speeds": speeds, "decoded_share": min(shares)}


def measure_from_disk(plain: Path, served: servers.Served, way: str, runs: int) -> dict:
    """Plain file and mount, both with nothing of them in the page cache."""
    speeds: dict[str, list[float]] = {"plain": [], "zipfs": []}
    for _ in range(runs):
        speeds["plain"].append(readers.cold_speed(str(plain), way))
        readers.drop_pages(served.source)
        speeds["zipfs"].append(readers.cold_speed(served.path, way))
    return {name: table.summary(values) for name, values in speeds.items()} | {"ratio": ratio(speeds, "zipfs", "plain")}


def ratio(speeds: dict[str, list[float]], name: str, base: str) -> dict[str, float]:
    return table.summary([speed / other for speed, other in zip(speeds[name], speeds[base], strict=True)])


def report_way(way: str, measured: dict) -> dict:
    speeds = measured["speeds"]
    return {
        "way": way,
        "decoded_share": measured["decoded_share"],
        "servers": {name: table.summary(values) for name, values in speeds.items()},
        "zipfs_over": {name: ratio(speeds, "zipfs", name) for name in speeds if name != "zipfs"},
    }


def measure_narrow(running: list[servers.Served], runs: int) -> list[dict]:
    """The mounts again as users have them, who may not raise the kernel's window."""
    running = [served for served in running if served.name.startswith(("zipfs", "null"))]
    windows = [servers.readahead_kb(served.path) for served in running]
    for served in running:
        servers.set_readahead(served.path, NARROW_KB)
    ways = [report_way(way, measure(running, way, runs)) for way in NARROW_WAYS]
    for served, window in zip(running, windows, strict=True):
        servers.set_readahead(served.path, window)
    return ways


def bars(ways: list[dict], wanted: dict[str, float], note: str = "") -> list[dict]:
    """As far as the peers ran."""
    found = []
    for way in ways:
        for name, least in wanted.items():
            if name in way["zipfs_over"]:
                what = f"{way['way']}{note}: zipfs over {name}"
                found.append(table.bar(what, way["zipfs_over"][name]["median"], ">=", least))
        what = f"{way['way']}{note}: bytes decoded over bytes read"
        found.append(table.bar(what, way["decoded_share"], ">=", DECODED_BAR))
    return found


def run(arguments: argparse.Namespace) -> dict:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/bench: stopped"))
    size = (arguments.mib or (128 if arguments.quick else 1024)) << 20
    runs = arguments.runs or (3 if arguments.quick else 9)
    arguments.dir.mkdir(exist_ok=True)
    described = machine.describe()
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="bench-") as folder, contextlib.ExitStack() as stack:
        work, drivers = Path(folder), list(filter(None, arguments.drivers.split(",")))
        plain, container, compress_speed = prepare(work, size)
        running, left_out = start_servers(stack, work, plain, container, drivers)
        ways, from_disk = [], {}
        for way in readers.WAYS:
            print(f"scripts/bench: {way}", file=sys.stderr)
            ways.append(report_way(way, measure(running, way, runs)))
            from_disk[way] = measure_from_disk(plain, running[0], way, runs)
        print("scripts/bench: small windows, random reads, listings", file=sys.stderr)
        narrow = measure_narrow(running, runs)
        random = mount_random.run(running, seconds=2 if arguments.quick else 10)
        num_files = arguments.files or (2000 if arguments.quick else 100_000)
        listing = mount_listing.run(work, num_files, drivers, runs=3)
        return {
            "machine": described,
            "plain_bytes": plain.stat().st_size,
            "stored_bytes": container.stat().st_size,
            "compress": compress_speed,
            "readahead_kb": {served.name: servers.readahead_kb(served.path) for served in running},
            "runs": runs,
            "ways": ways,
            "from_disk": from_disk,
            "narrow": narrow,
            "random": random,
            "listing": listing,
            "left_out": left_out,
            "bars": [
                *bars(ways, BARS),
                *bars(narrow, {"null server": NARROW_BAR}, f", window {NARROW_KB} KiB"),
                *mount_random.bars(random),
                *mount_listing.bars(listing),
            ],
        }


def cell(figures: dict[str, dict], name: str) -> str:
    return table.spread(figures[name]) if name in figures else "-"


def speed_table(report: dict) -> str:
    header = ["GB/s (quartiles)", *(way["way"] for way in report["ways"]), "readahead KiB"]
    rows = [
        [name, *(cell(way["servers"], name) for way in report["ways"]), str(readahead)]
        for name, readahead in report["readahead_kb"].items()
    ]
    return table.markdown(header, rows)


def narrow_table(report: dict) -> str:
    ways = report["narrow"]
    header = [f"window {NARROW_KB} KiB, GB/s", *(way["way"] for way in ways)]
    header += [f"{way['way']}: zipfs over it" for way in ways]
    rows = [
        [name, *(cell(way["servers"], name) for way in ways), *(cell(way["zipfs_over"], name) for way in ways)]
        for name in ways[0]["servers"]
    ]
    return table.markdown(header, rows)


def ratio_table(report: dict) -> str:
    rows = [
        [f"zipfs over {name}", *(cell(way["zipfs_over"], name) for way in report["ways"])]
        for name in report["readahead_kb"]
        if name != "zipfs"
    ]
    return table.markdown(["paired ratio (quartiles)", *(way["way"] for way in report["ways"])], rows)


def disk_table(report: dict) -> str:
    rows = [
        [way, table.spread(figures["plain"]), table.spread(figures["zipfs"]), table.spread(figures["ratio"])]
        for way, figures in report["from_disk"].items()
    ]
    return table.markdown(["from disk, nothing cached", "plain GB/s", "zipfs GB/s", "paired ratio"], rows)


def to_markdown(report: dict) -> str:
    percent = 100 * report["stored_bytes"] / report["plain_bytes"]
    shares = statistics.mean(way["decoded_share"] for way in report["ways"])
    parts = [
        f"`{report['command']}` on {machine.headline(report['machine'])}",
        f"BF16 safetensors of {report['plain_bytes'] >> 20} MiB, stored {percent:.2f} %, compressed at "
        f"{report['compress']:.2f} GB/s; chunk cache a quarter of it. Source in the page cache, the reader's pages "
        f"dropped, medians of {report['runs']} runs; bytes decoded over bytes read {shares:.3f}.",
        speed_table(report),
        ratio_table(report),
        disk_table(report),
        narrow_table(report),
        *([mount_random.to_markdown(report["random"])] if report["random"] else []),
        mount_listing.to_markdown(report["listing"]),
    ]
    if report["left_out"]:
        parts.append("Left out: " + "; ".join(f"{name}: {why}" for name, why in report["left_out"].items()) + ".")
    return "\n\n".join([*parts, "\n".join(map(table.verdict, report["bars"]))])
