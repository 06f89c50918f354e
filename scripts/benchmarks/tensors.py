"""`scripts/bench tensors`: zipfs.safetensors beside the codec and the package safetensors.

Everything on one CPU, in turn, with the files in the page cache, in bytes by second of CPU time, which other work on
the machine disturbs less than the clock. The codec decodes payloads that lie in memory, or that it reads from the
container as load_file() has to: into one buffer of a chunk, and into memory that is new each time, as that of tensors
is. Ratios are of one run.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch

import zipfs
from zipfs import _native
from zipfs.safetensors import load_file

from . import machine, table
from .mount import BUILD
from .mount_work import write_model

NAME = "tensors"
HELP = "zipfs.safetensors.load_file beside the codec alone"
WANTED = 0.8
"""Of the codec's speed."""
IN_MEMORY, READING = "codec, payloads in memory, into new memory", "codec, payloads read, into new memory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mib", type=int, help="size of the model (default 64, with --quick 16)")
    parser.add_argument("--runs", type=int, help="default 25, with --quick 5")
    parser.add_argument("--dtype", default="bf16", help="class of weights (default bf16)")
    parser.add_argument("--dir", type=Path, default=BUILD, help="where to work (default build/)")


class Codec:
    """The chunks of a container in memory, and what decodes them."""

    def __init__(self, path: Path):
        self.payloads = np.fromfile(path, np.uint8)
        with open(path, "rb") as file:
            self.reader = _native.Reader(file.fileno())
        self.header = self.reader.header
        self.entries = [self.reader.entry(number) for number in range(self.header["num_chunks"])]
        self.chunk = 1 << self.header["chunk_log2"]
        self.codec = _native.Codec(self.header["chunk_log2"])
        self.buffer = np.ones(self.chunk, np.uint8)

    def read(self) -> None:
        size = self.header["plain_size"]
        plain = np.empty(size, np.uint8)
        for number in range(len(self.entries)):
            start, end = number * self.chunk, min((number + 1) * self.chunk, size)
            self.reader.read_chunk(self.codec, number, plain[start:end])

    def decode(self, new_memory: bool) -> None:
        size = self.header["plain_size"]
        plain = np.empty(size, np.uint8) if new_memory else None
        for number, (offset, entry) in enumerate(self.entries):
            start, end = number * self.chunk, min((number + 1) * self.chunk, size)
            target = self.buffer[: end - start] if plain is None else plain[start:end]
            self.codec.decode(self.payloads[offset : offset + entry[0]], number, entry, target, True)


def speed(function: Callable[[], object], size: int) -> float:
    """GB/s of CPU time."""
    start = time.process_time()
    found = function()
    seconds = time.process_time() - start
    del found
    return size / seconds / 1e9


def ratio(speeds: list[float], others: list[float]) -> float:
    """Median of the ratios by run."""
    return statistics.median(one / other for one, other in zip(speeds, others, strict=True))


def run(arguments: argparse.Namespace) -> dict:
    size = (arguments.mib or (16 if arguments.quick else 64)) << 20
    runs = arguments.runs or (5 if arguments.quick else 25)
    arguments.dir.mkdir(exist_ok=True)
    described = machine.describe()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="bench-") as folder:
        plain = Path(folder) / "model.safetensors"
        container = Path(folder) / "model.safetensors.zipfs"
        write_model(plain, arguments.dtype, size)
        zipfs.compress(plain, container)
        codec = Codec(container)
        functions: dict[str, Callable[[], object]] = {
            "codec, payloads in memory, into one buffer": lambda: codec.decode(False),
            IN_MEMORY: lambda: codec.decode(True),
            READING: codec.read,
            "zipfs.safetensors, torch": lambda: load_file(container),
            "zipfs.safetensors, numpy": lambda: load_file(container, framework="np"),
            "safetensors, torch, pread, of the plain file": lambda: safetensors.torch.load_file(plain, backend="pread"),
        }
        speeds: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(runs):
            for name, function in functions.items():
                speeds[name].append(speed(function, plain.stat().st_size))
    bars = [
        table.bar(f"{name} / {base}", ratio(speeds[name], speeds[base]), ">=", WANTED)
        for base in (READING, IN_MEMORY)
        for name in functions
        if name.startswith("zipfs.safetensors")
    ]
    summaries = {name: table.summary(values) for name, values in speeds.items()}
    return {"machine": described, "mib": size >> 20, "runs": runs, "speeds": summaries, "bars": bars}


def to_markdown(report: dict) -> str:
    rows = [[name, table.spread(speeds), f"{speeds['max']:.2f}"] for name, speeds in report["speeds"].items()]
    parts = [
        f"`{report['command']}` on {machine.headline(report['machine'])}",
        f"{report['mib']} MiB on one CPU, {report['runs']} runs in turn.",
        table.markdown(["", "GB by second of CPU time (quartiles)", "best"], rows),
        "\n".join(map(table.verdict, report["bars"])),
    ]
    return "\n\n".join(parts)
