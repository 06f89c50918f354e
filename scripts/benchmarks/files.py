"""`zipfs compress` end to end on a warm file: read, hash, encode, decode and compare, write; without Python's start.

Beside it: ZipNN's compress from memory to memory, on the same bytes with as many threads.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import zipfs

from . import peers, rows, sizes, speeds, table

THREADS = 2
ZIPNN = "ZipNN in memory, threads={}"
SHA256 = "SHA-256 alone"


class Work:
    """A warm BF16 file on disk and what is to be timed with it."""

    def __init__(self, disk: Path, memory: Path, size: int) -> None:
        parts = rows.tensors("bf16", size)
        self.plain, self.size = b"".join(part.plain for part in parts), size
        self.source, self.disk, self.memory = disk / "model.safetensors", disk, memory
        self.source.write_bytes(rows.as_file(parts))
        os.sync()

    def to_folder(self, folder: Path, jobs: int) -> float:
        """Seconds."""
        target = folder / "model.safetensors.zipfs"
        _, seconds = speeds.timed(lambda: zipfs.compress(self.source, target, jobs=jobs))
        target.unlink()
        return seconds

    def zipnn(self, threads: int) -> float:
        peer = peers.ZipNN("BF16", self.plain, threads=threads)
        source = peer.source()
        return speeds.timed(peer.encode, source)[1]

    def sha256(self) -> float:
        return speeds.timed(hashlib.sha256, self.plain)[1]

    def ways(self) -> dict:
        """What is timed, by name."""
        ways = {}
        for jobs in (THREADS, 1):
            ways[f"zipfs to tmpfs, --jobs {jobs}"] = lambda jobs=jobs: self.to_folder(self.memory, jobs)
            ways[f"zipfs to disk with fsync, --jobs {jobs}"] = lambda jobs=jobs: self.to_folder(self.disk, jobs)
            ways[ZIPNN.format(jobs)] = lambda jobs=jobs: self.zipnn(jobs)
        return ways | {SHA256: self.sha256}


def measure(size: int, runs: int, disk: Path | None) -> dict:
    """{bytes, disk, ways: [{way, speed, ratio over ZipNN with THREADS threads}]}; disk: a folder on the disk to use."""
    print("scripts/bench: files end to end", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory(dir=disk) as on_disk,
        tempfile.TemporaryDirectory(dir=sizes.memory_folder()) as in_memory,
    ):
        work = Work(Path(on_disk), Path(in_memory), size)
        measured = {name: [] for name in work.ways()}
        for _ in range(runs):
            for name, way in work.ways().items():
                measured[name].append(work.size / 1e9 / way())
    base = measured[ZIPNN.format(THREADS)]
    ways = [
        {"way": name, "speed": table.summary(found), "ratio": speeds.ratios(found, base)}
        for name, found in measured.items()
    ]
    return {"bytes": size, "ways": ways}


def markdown(result: dict) -> str:
    lines = [[way["way"], table.spread(way["speed"]), table.spread(way["ratio"])] for way in result["ways"]]
    over = f"over ZipNN with {THREADS} threads"
    return table.markdown([f"compress a BF16 file of {result['bytes'] >> 20} MiB, end to end", "GB/s", over], lines)
