"""`scripts/bench codec`: sizes and speeds on one thread beside ZipNN, zstd and OpenZL, all from and to memory.

Every run goes once through all peers, so that whatever the machine does meanwhile hits all of them; ratios are taken
within a run.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

from . import corpus, machine, peers, table

NAME = "codec"
HELP = "size, compress and decompress speed beside ZipNN, zstd and OpenZL"
DECOMPRESS_BARS = {"bf16": 4.0, "f32": 3.0}
SAME_SIZE = (peers.ZipfsFresh.name,)
SIZE_BARS = ("bf16", "f32", "f32_of_bf16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=",".join(corpus.NAMES), help="data sets, comma-separated (default: all)")
    parser.add_argument("--mib", type=int, help="size of a data set (default 64, with --quick 8)")
    parser.add_argument("--runs", type=int, help="default 7, with --quick 3")


def timed(call: Callable, *arguments) -> tuple[object, float]:
    """(result, seconds)"""
    start = time.perf_counter()
    result = call(*arguments)
    return result, time.perf_counter() - start


def make_peers(layout: str, plain: bytes) -> tuple[list[peers.Peer], dict[str, str]]:
    """(peers that can run, reasons of the others by name)"""
    made, left_out = [], {}
    for kind in peers.PEERS:
        try:
            made.append(kind(layout, plain))
        except peers.Missing as reason:
            left_out[kind.name] = str(reason)
    return made, left_out


def check(peer: peers.Peer) -> float:
    """Stored size in percent; raises unless the plain bytes come back."""
    stored = peer.encode(peer.source())
    if peer.restored(stored) != peer.plain:
        raise SystemExit(f"scripts/bench: {peer.name} does not give the bytes back")
    return 100 * peer.size(stored) / len(peer.plain)


def measure_once(peer: peers.Peer) -> tuple[float, float]:
    """(compress, decompress) in GB/s of plain bytes."""
    source = peer.source()
    stored, compress_seconds = timed(peer.encode, source)
    _, decompress_seconds = timed(peer.decode, stored)
    return len(peer.plain) / compress_seconds / 1e9, len(peer.plain) / decompress_seconds / 1e9


def ratios(speeds: list[float], base: list[float]) -> dict[str, float]:
    return table.summary([speed / other for speed, other in zip(speeds, base, strict=True)])


def measure(name: str, size: int, runs: int) -> dict:
    """One data set: {data, bytes, left_out, codecs: [{codec, size_percent, compress, decompress, *_ratio}]}."""
    layout, plain = corpus.data_set(name, size)
    chosen, left_out = make_peers(layout, plain)
    sizes = {peer.name: check(peer) for peer in chosen}
    speeds = {peer.name: ([], []) for peer in chosen}
    for run in range(runs):
        for peer in chosen if run % 2 == 0 else reversed(chosen):
            for kept, speed in zip(speeds[peer.name], measure_once(peer), strict=True):
                kept.append(speed)
    base = speeds.get(peers.ZipNN.name)
    rows = []
    for peer in chosen:
        compress, decompress = speeds[peer.name]
        row = {"codec": peer.name, "size_percent": sizes[peer.name]}
        row |= {"compress": table.summary(compress), "decompress": table.summary(decompress)}
        if base:
            row |= {"compress_ratio": ratios(compress, base[0]), "decompress_ratio": ratios(decompress, base[1])}
        rows.append(row)
    return {"data": name, "bytes": len(plain), "left_out": left_out, "codecs": rows}


def bars(results: list[dict]) -> list[dict]:
    """The first bars of the project, as far as the data sets and ZipNN were there."""
    found = []
    for result in results:
        rows = {row["codec"]: row for row in result["codecs"]}
        zipfs, zipnn = rows[peers.Zipfs.name], rows.get(peers.ZipNN.name)
        if zipnn is None:
            continue
        name = result["data"]
        if name in DECOMPRESS_BARS:
            measured = zipfs["decompress_ratio"]["median"]
            found.append(table.bar(f"{name}: decompress speed over ZipNN's", measured, ">=", DECOMPRESS_BARS[name]))
        if name in SIZE_BARS:
            found.append(
                table.bar(f"{name}: size in % beside ZipNN's", zipfs["size_percent"], "<=", zipnn["size_percent"])
            )
    return found


def run(arguments: argparse.Namespace) -> dict:
    size = (arguments.mib or (8 if arguments.quick else 64)) << 20
    runs = arguments.runs or (3 if arguments.quick else 7)
    described = machine.describe() | {"peers": machine.versions("zipnn", "zstandard", "openzl")}
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core for all; the peers have one thread each
    copies = machine.memcpy_speed(size, runs)
    results = []
    for name in arguments.data.split(","):
        print(f"scripts/bench: {name}", file=sys.stderr)
        results.append(measure(name, size, runs))
    return {"machine": described, "memcpy": table.summary(copies), "results": results, "bars": bars(results)}


def size_table(results: list[dict], names: list[str]) -> str:
    cells = {
        result["data"]: {row["codec"]: f"{row['size_percent']:.2f}" for row in result["codecs"]} for result in results
    }
    names = [name for name in names if name not in SAME_SIZE]
    rows = ([data, *(row.get(name, "-") for name in names)] for data, row in cells.items())
    return table.markdown(["stored size %", *names], rows)


def speed_table(results: list[dict], names: list[str], what: str) -> str:
    rows = []
    for result in results:
        row = {row["codec"]: row for row in result["codecs"]}
        times = row[peers.Zipfs.name].get(f"{what}_ratio")
        speeds = [table.spread(row[name][what]) if name in row else "-" for name in names]
        rows.append([result["data"], *speeds, f"{times['median']:.2f}" if times else "-"])
    return table.markdown([f"{what} GB/s", *names, "zipfs over ZipNN"], rows)


def to_markdown(report: dict) -> str:
    results = report["results"]
    present = {row["codec"] for result in results for row in result["codecs"]}
    names = [kind.name for kind in peers.PEERS if kind.name in present]
    left_out = sorted({f"{name}: {why}" for result in results for name, why in result["left_out"].items()})
    parts = [
        f"`{report['command']}` on {machine.headline(report['machine'])}",
        f"One thread, {results[0]['bytes'] >> 20} MiB each, memory to memory; medians of {report['memcpy']['runs']} "
        f"interleaved runs (quartiles); memcpy beside them {table.spread(report['memcpy'])} GB/s. "
        f"{', '.join(f'{name} {version}' for name, version in report['machine']['peers'].items())}.",
        size_table(results, names),
        speed_table(results, names, "decompress"),
        speed_table(results, [name for name in names if name != peers.ZipfsFresh.name], "compress"),
    ]
    if left_out:
        parts.append("Left out: " + "; ".join(left_out) + ".")
    return "\n\n".join([*parts, "\n".join(map(table.verdict, report["bars"]))])
