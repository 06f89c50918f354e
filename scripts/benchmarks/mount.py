"""`scripts/bench mount`: what a mount reaches, beside its limits, its peers and the bars that are set for it.

Each part is a module of its own; `--only` chooses among them. `--from` prints what earlier runs with `--json` found,
all of it in one table.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import (
    corpus,
    flame,
    machine,
    mount_cold,
    mount_jobs,
    mount_listing,
    mount_lru,
    mount_memory,
    mount_peers,
    mount_profile,
    mount_random,
    mount_readers,
    mount_scale,
    mount_second,
    mount_warm,
    servers,
    verdicts,
)
from .mount_work import Work, say

NAME = "mount"
HELP = "a mount beside its limits (null server, plain file) and its peers; memory, scale, parallel reads"
BUILD = Path(__file__).parents[2] / "build"
PARTS = {
    part.name: part
    for part in (
        mount_warm.PART,
        mount_cold.COLD,
        mount_cold.THROTTLED,
        mount_second.PART,
        mount_peers.PART,
        mount_random.PART,
        mount_lru.PART,
        mount_jobs.PART,
        mount_readers.PART,
        mount_memory.PART,
        mount_listing.PART,
        mount_scale.PART,
        mount_profile.PART,
    )
}
DTYPES = ("bf16", "f32", "f16", "f32_of_bf16")
PACKAGES = ("safetensors", "torch", "ratarmount", "mfusepy")


def names(text: str, known: Iterable[str]) -> str:
    if unknown := set(text.split(",")) - set(known):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not among {', '.join(known)}")
    return text


def gb_s(text: str) -> list[float]:
    return [float(speed) for speed in text.split(",")]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    every = ",".join(PARTS)
    add("--only", type=lambda text: names(text, PARTS), default=every, metavar="PART,...", help=f"of {every}")
    add("--mib", type=int, help="size of a file (default 1024, with --quick 64)")
    add("--runs", type=int, help="default 9, with --quick 2")
    add("--files", type=int, help="files of `listing` (default 100000, with --quick 2000)")
    add("--minutes", type=float, help="how long `memory` reads (default 5, with --quick 0.1)")
    add(
        "--dtypes",
        type=lambda text: names(text, corpus.CASTS),
        default=",".join(DTYPES),
        metavar="CLASS,...",
        help="of `cold` and `throttled`",
    )
    add("--disks", type=gb_s, default="0.2,0.5,1", metavar="GB/S,...", help="of `throttled` (default 0.2,0.5,1)")
    add("--drivers", default="mfusepy", help="drivers besides the default one in `warm` and `listing`, comma-separated")
    add("--dir", type=Path, default=BUILD, help="where to work; a folder on the disk to be measured (default build/)")
    add("--plot", type=Path, metavar="FILE", help="draw what `warm` and `peers` measured as a PNG")
    add("--flame", type=Path, metavar="FILE", help="draw what `profile` sampled as an SVG")
    add("--from", dest="earlier", type=Path, nargs="+", metavar="FILE", help="measure nothing: show these reports")


def measure(arguments: argparse.Namespace) -> dict:
    arguments.dir.mkdir(exist_ok=True)
    parts, left_out, told = {}, {}, {}
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="bench-") as folder:
        work = Work(Path(folder), arguments)
        for name in (name for name in PARTS if name in arguments.only.split(",")):
            try:
                found = PARTS[name].measure(work)
            except servers.Missing as reason:
                left_out[name] = str(reason)
                say(f"no {name}: {reason}")
                continue
            parts[name] = json.loads(json.dumps(found))
            told[name] = work.describe() | {"load": round(os.getloadavg()[0], 1)}
    return {
        "machine": machine.describe() | {"packages": machine.versions(*PACKAGES)},
        "parts": parts,
        "told": told,
        "left_out": left_out,
    }


def merge(paths: list[Path]) -> dict:
    """Reports of earlier runs as one. Of a part that is in several, the rows are put together, or the last is taken."""
    merged: dict = {"parts": {}, "told": {}, "left_out": {}}
    commands = []
    for path in paths:
        report = json.loads(path.read_text())
        commands.append(report["command"])
        merged["machine"] = report["machine"]
        for name, found in report["parts"].items():
            before = merged["parts"].get(name)
            merged["parts"][name] = before + found if isinstance(before, list) else found
        load = {"load": report["machine"]["load"]}
        merged["told"] |= {name: load | told for name, told in report["told"].items()}
        merged["left_out"] |= report["left_out"]
    return merged | {"command": "; ".join(commands)}


def run(arguments: argparse.Namespace) -> dict:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/bench: stopped"))
    report = merge(arguments.earlier) if arguments.earlier else measure(arguments)
    report["bars"] = [bar for name in report["parts"] for bar in PARTS[name].bars(report["parts"][name])]
    if arguments.plot:
        plotter()(report["parts"], arguments.plot, machine.headline(report["machine"]))
        report["plot"] = str(arguments.plot)
    if arguments.flame and "profile" in report["parts"]:
        profile = report["parts"]["profile"]
        flame.draw(profile["stacks"], arguments.flame, f"{profile['way']}, {profile['gb_s']:.2f} GB/s")
    return report


def plotter():
    """mount_plot.draw, if it can draw here."""
    try:
        from .mount_plot import draw
    except ImportError:
        raise SystemExit("scripts/bench: --plot needs matplotlib; scripts/bench --setup installs it") from None
    return draw


def to_markdown(report: dict) -> str:
    met = sum(bar["met"] for bar in report["bars"])
    parts = [
        f"`{report['command']}` on {machine.headline(report['machine'])}",
        f"{met} of {len(report['bars'])} bars are met.",
        verdicts.markdown(report["bars"]),
    ]
    if "plot" in report:
        parts.append(f"![GB/s by way of reading]({report['plot']})")
    for name, found in report["parts"].items():
        told = report["told"][name]
        parts.append(f"### {name}: files of {told['bytes'] >> 20} MiB, {told['runs']} runs, load {told['load']}")
        parts.append(PARTS[name].markdown(found))
    if report["left_out"]:
        parts.append("Left out: " + "; ".join(f"{name}: {why}" for name, why in report["left_out"].items()) + ".")
    return "\n\n".join(parts)
