"""What the parts of `scripts/bench mount` share: the files that are read, made once, and how much is to be done."""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zipfs
from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2

from . import corpus, sparse_container
from .servers import EVICTOR

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Model:
    """A safetensors file and its container, whose folder holds only servers.EVICTOR besides."""

    plain: Path
    container: Path
    compress_speed: float
    """GB/s"""

    @property
    def size(self) -> int:
        return self.plain.stat().st_size

    @property
    def stored_size(self) -> int:
        return self.container.stat().st_size

    @property
    def shrinks(self) -> float:
        """Plain size over stored size."""
        return self.size / self.stored_size

    @property
    def chunk_size(self) -> int:
        with open(self.container, "rb") as file:
            return 1 << _native.header_parse(file.read(256), self.stored_size)["chunk_log2"]


def write_model(path: Path, dtype: str, size: int) -> None:
    """A safetensors file of about `size` bytes of weights of the class `dtype` of corpus.py."""
    tensor_size = next(corpus.tensors(dtype, 1)).nbytes
    header = {
        f"layers.{number}.weight": {
            "dtype": corpus.LAYOUTS[dtype],
            "shape": [corpus.ROWS, corpus.COLUMNS],
            "data_offsets": [number * tensor_size, (number + 1) * tensor_size],
        }
        for number in range(size // tensor_size)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in corpus.tensors(dtype, size // tensor_size * tensor_size):
            file.write(values.tobytes())


class Work:
    """`folder` goes away afterwards; `models` keeps plain files for the next run."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.folder, self.models, self.quick = folder, arguments.dir / "models", arguments.quick
        self.size = (arguments.mib or (64 if self.quick else 1024)) * MIB
        self.runs = arguments.runs or (2 if self.quick else 9)
        self.seconds = 1 if self.quick else 10
        self.minutes = arguments.minutes or (0.1 if self.quick else 5)
        self.num_files = arguments.files or (2000 if self.quick else 100_000)
        self.disks: list[float] = arguments.disks
        self.dtypes, self.drivers = arguments.dtypes.split(","), list(filter(None, arguments.drivers.split(",")))
        self._made: dict[str, Model] = {}

    @property
    def cache_size(self) -> int:
        """So that a file is four times the cache."""
        return self.size // 4

    def plain(self, dtype: str) -> Path:
        path = self.models / f"{dtype}-{self.size // MIB}.safetensors"
        if not path.exists():
            say(f"making {path.name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}")
            write_model(unfinished, dtype, self.size)
            unfinished.replace(path)
        return path

    def model(self, dtype: str = "bf16") -> Model:
        if dtype not in self._made:
            plain = self.plain(dtype)
            packed = self.folder / f"packed-{dtype}"
            packed.mkdir()
            container = packed / "model.safetensors.zipfs"
            start = time.perf_counter()
            zipfs.compress(plain, container)
            speed = plain.stat().st_size / (time.perf_counter() - start) / 1e9
            self.add_evictor(packed)
            os.sync()
            self._made[dtype] = Model(plain, container, speed)
        return self._made[dtype]

    def add_evictor(self, folder: Path) -> None:
        """A container of constant chunks for servers.empty_cache()."""
        pages = self.cache_size // (sparse_container.ENTRIES_PER_PAGE << CHUNK_LOG2) + 1
        sparse_container.write(folder / f"{EVICTOR}.zipfs", pages, CHUNK_LOG2)

    def describe(self) -> dict:
        """For the top of a part's table."""
        return {"bytes": self.size, "runs": self.runs, "quick": self.quick}


def say(text: str) -> None:
    print(f"scripts/bench: {text}", file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the benchmark: its name, and what measures it, judges it and prints it."""

    name: str
    measure: Callable[[Work], Any]
    """What it returns goes through JSON before it is judged or printed."""
    bars: Callable[[Any], list[dict]]
    markdown: Callable[[Any], str]
