"""`scripts/bench codec`: sizes and speeds beside ZipNN, zstd, OpenZL and a plain copy, and the bars that they set.

Its parts: `speed` (speeds.py, every kernel), `sizes` (every row of rows.py), `gguf` (the fields of quantised blocks),
`unaligned` (tensors wherever they lie), `cores` (two of them), `files` (compress end to end).
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import bars, cores, corpus, files, gguf_blocks, machine, peers, sizes, speeds, table, unaligned
from .rows import NAMES as ROWS

NAME = "codec"
HELP = "size, compress and decompress speed beside ZipNN, zstd, OpenZL and memcpy, with the bars"
PART_MODULES = {"sizes": sizes, "gguf": gguf_blocks, "unaligned": unaligned, "cores": cores, "files": files}
PARTS = ("speed", *PART_MODULES)
PEERS = tuple(kind.name for kind in peers.PEERS)
PACKAGES = ("zipnn", "zstandard", "openzl", "gguf")


def some_of(names: tuple[str, ...]) -> Callable[[str], str]:
    """An argument type: some of the names, comma-separated."""

    def check(text: str) -> str:
        if unknown := set(text.split(",")) - set(names):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not among {', '.join(names)}")
        return text

    return check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for option, names, what in (
        ("--only", PARTS, "parts"),
        ("--data", corpus.NAMES, "data sets of `speed`"),
        ("--peers", PEERS, "peers of `speed`"),
        ("--rows", ROWS, "rows of `sizes`"),
    ):
        text = f"{what}, comma-separated (default: all; {', '.join(names)})"
        parser.add_argument(option, type=some_of(names), default=",".join(names), metavar="NAME,...", help=text)
    parser.add_argument("--mib", type=int, help="size of a data set (default 64, with --quick 4)")
    parser.add_argument("--runs", type=int, help="default 9, with --quick 3")
    parser.add_argument("--file-mib", type=int, help="size of the file of `files` (default 512, with --quick 16)")
    parser.add_argument("--dir", type=Path, help="a folder on the disk that `files` writes to (default: the system's)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what `speed` measured as a PNG")


def plotter() -> Callable:
    """plot.draw, if it can draw here."""
    try:
        from .plot import draw
    except ImportError:
        raise SystemExit("scripts/bench: --plot needs matplotlib; scripts/bench --setup installs it") from None
    return draw


def run(arguments: argparse.Namespace) -> dict:
    draw = plotter() if arguments.plot else None
    size = (arguments.mib or (4 if arguments.quick else 64)) << 20
    runs = arguments.runs or (3 if arguments.quick else 9)
    file_size = (arguments.file_mib or (16 if arguments.quick else 512)) << 20
    report = {"machine": machine.describe() | {"peers": machine.versions(*PACKAGES)}, "bytes": size, "runs": runs}
    for part, measure in (
        ("speed", lambda: speeds.measure_kernels(arguments, size, runs)),
        ("sizes", lambda: sizes.measure_all(arguments.rows.split(","), size)),
        ("gguf", measure_gguf),
        ("unaligned", lambda: unaligned.measure(size, runs)),
        ("cores", lambda: cores.measure(size, runs)),
        ("files", lambda: files.measure(file_size, runs, arguments.dir)),
    ):
        try:
            if part in arguments.only.split(","):
                report[part] = measure()
        except peers.Missing as reason:
            print(f"scripts/bench: no {part}: {reason}", file=sys.stderr)
    if draw and "speed" in report:
        draw(report["speed"], arguments.plot, headline(report).replace("; ", "\n"))
        report["plot"] = str(arguments.plot)
    return report | {"bars": bars.all_bars(report)}


def measure_gguf() -> list[dict]:
    weights = corpus.tensor(np.random.default_rng(corpus.SEED))
    return [field for name in gguf_blocks.FORMATS for field in gguf_blocks.measure(name, weights)]


def headline(report: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["machine"]["peers"].items())
    return f"{machine.headline(report['machine'])}; {versions}"


def speed_table(results: list[dict], names: list[str], what: str) -> str:
    lines = []
    for result in results:
        row = {row["codec"]: row for row in result["codecs"]}
        lines.append([result["data"], *(table.spread(row[name][what]) if name in row else "-" for name in names)])
    return table.markdown([f"{what} GB/s", *names], lines)


def speed_parts(report: dict) -> list[str]:
    """The tables of the best kernel; what the others reach stands among the bars."""
    kernel, results = next(iter(report["speed"].items()))
    codecs = [row for result in results for row in result["codecs"]]
    decoding = list(dict.fromkeys(row["codec"] for row in codecs))
    once = {kind.name for kind in peers.PEERS if kind.encode_once}
    left_out = sorted({f"{name}: {why}" for result in results for name, why in result["left_out"].items()})
    return [
        f"Kernel {kernel}, one thread, {report['bytes'] >> 20} MiB each, memory to memory; medians of "
        f"{report['runs']} interleaved runs (quartiles).",
        speed_table(results, decoding, "decompress"),
        speed_table(results, [name for name in decoding if name not in once], "compress"),
        *(["Left out: " + "; ".join(left_out) + "."] if left_out else []),
    ]


def to_markdown(report: dict) -> str:
    parts = [f"`{report['command']}` on {headline(report)}", bars.markdown(report["bars"])]
    if "plot" in report:
        parts.append(f"![stored size against decompression speed]({report['plot']})")
    if "speed" in report:
        parts += speed_parts(report)
    for name, module in PART_MODULES.items():
        if name in report:
            parts.append(module.markdown(report[name]))
    return "\n\n".join(part for part in parts if part)
