"""The body of scripts/demo: compresses a folder, mounts it, compares everything through the mount, prints a table."""

import argparse
import collections
import dataclasses
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from benchmarks import corpus, machine, readers, table

import zipfs

BUILD = Path(__file__).parents[1] / "build"
COMPARED_AT_ONCE = 64 << 20
COLD_RUNS = 3
SMALLEST_TIMED = 1 << 20
"""Bytes; a speed of less would tell of system calls only."""


@dataclasses.dataclass
class File:
    """One regular file of the folder, relative to it; what was measured is filled in on the way."""

    name: str
    plain_size: int
    stored_size: int = 0
    dtype: str = "-"
    num_tensors: int = 0
    compress_seconds: float = 0.0
    cold_plain: float | None = None
    cold_mount: float | None = None


def say(text: str) -> None:
    print(f"scripts/demo: {text}", file=sys.stderr)


def make_trained_folder(folder: Path) -> None:
    """The packaged model as it is (F32), and BF16 and F16 casts of it."""
    model = Path(corpus.trained_model_path())
    shutil.copytree(model.parent, folder)
    tensors = safetensors.torch.load_file(model)
    for dtype, suffix in ((torch.bfloat16, "bf16"), (torch.float16, "f16")):
        cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
        safetensors.torch.save_file(cast, folder / f"model-{suffix}.safetensors")
    os.sync()  # only pages that are on disk can be dropped from the page cache


def compress_folder(plain: Path, packed: Path) -> list[File]:
    """Mirrors plain to packed, file by file so that each can be timed."""
    files = []
    for parent, folders, names in os.walk(plain):
        target = packed / os.path.relpath(parent, plain)
        target.mkdir(exist_ok=True)
        for name in sorted(folders + names):
            path = Path(parent, name)
            if path.is_symlink():
                os.symlink(os.readlink(path), target / name)
            elif path.is_file():
                files.append(compress_file(path, target, os.path.relpath(path, plain)))
    return files


def compress_file(path: Path, target: Path, name: str) -> File:
    start = time.perf_counter()
    done = zipfs.compress(path, target)
    seconds = time.perf_counter() - start
    return File(name, done.plain_size, done.stored_size, compress_seconds=seconds)


def compare_bytes(plain: Path, mounted: Path) -> None:
    """Raises SystemExit unless the files are equal, read by numpy.memmap."""
    if plain.stat().st_size != mounted.stat().st_size:
        raise SystemExit(f"scripts/demo: {mounted}: the size differs from {plain}")
    if plain.stat().st_size == 0:
        return
    ours, theirs = (np.memmap(path, dtype=np.uint8, mode="r") for path in (mounted, plain))
    for at in range(0, len(theirs), COMPARED_AT_ONCE):
        if not np.array_equal(ours[at : at + COMPARED_AT_ONCE], theirs[at : at + COMPARED_AT_ONCE]):
            raise SystemExit(f"scripts/demo: {mounted}: bytes differ from {plain} after offset {at}")


def raw_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Bits, not values: a NaN equals itself."""
    return tensor.reshape(-1).view(torch.uint8)


def compare_tensors(plain: Path, mounted: Path) -> collections.Counter:
    """Bytes per dtype of a safetensors file whose every tensor is equal through stock safetensors, else SystemExit."""
    sizes, count = collections.Counter(), 0
    with safetensors.safe_open(plain, "pt") as theirs, safetensors.safe_open(mounted, "pt") as ours:
        if ours.keys() != theirs.keys():
            raise SystemExit(f"scripts/demo: {mounted}: tensor names differ from {plain}")
        for name in theirs.keys():
            tensor = theirs.get_tensor(name)
            if tensor.numel() and not torch.equal(raw_bytes(ours.get_tensor(name)), raw_bytes(tensor)):
                raise SystemExit(f"scripts/demo: {mounted}: tensor {name} differs from {plain}")
            sizes[theirs.get_slice(name).get_dtype()] += tensor.nbytes
            count += 1
    sizes["tensors"] = count
    return sizes


def check(file: File, plain: Path, mounted: Path) -> None:
    compare_bytes(plain / file.name, mounted / file.name)
    if not file.name.endswith(".safetensors"):
        return
    try:
        sizes = compare_tensors(plain / file.name, mounted / file.name)
    except safetensors.SafetensorError as error:
        say(f"{file.name}: safetensors does not read it: {error}; compared byte by byte only")
        return
    file.num_tensors = sizes.pop("tensors")
    file.dtype = sizes.most_common(1)[0][0] if sizes else "-"


def time_cold(file: File, plain: Path, packed: Path, mounted: Path) -> None:
    """Reads end to end with nothing in the page cache, plain and mounted in turn."""
    stored = packed / f"{file.name}.zipfs"
    if not stored.exists():
        stored = packed / file.name
    speeds: tuple[list[float], list[float]] = ([], [])
    for _ in range(COLD_RUNS):
        speeds[0].append(readers.cold_speed(str(plain / file.name), "read"))
        readers.drop_pages(str(stored))
        speeds[1].append(readers.cold_speed(str(mounted / file.name), "read"))
    file.cold_plain, file.cold_mount = map(statistics.median, speeds)


def row(file: File) -> list[str]:
    saved = 100 - 100 * file.stored_size / file.plain_size if file.plain_size else 0.0
    timed = file.plain_size >= SMALLEST_TIMED
    compress = f"{file.plain_size / file.compress_seconds / 1e9:.2f}" if timed else "-"
    cold = [f"{speed:.2f}" if speed is not None else "-" for speed in (file.cold_plain, file.cold_mount)]
    return [file.name, file.dtype, f"{file.plain_size:,}", f"{file.stored_size:,}", f"{saved:.1f}", compress, *cold]


def total(files: list[File]) -> File:
    whole = File("total", sum(file.plain_size for file in files), sum(file.stored_size for file in files))
    whole.compress_seconds = sum(file.compress_seconds for file in files)
    return whole


def check_space(plain: Path, work: Path) -> None:
    needed = sum(path.lstat().st_size for path in plain.rglob("*") if path.is_file())
    free = shutil.disk_usage(work).free
    if free < needed:
        raise SystemExit(
            f"scripts/demo: {work}: {free >> 20} MiB are free and {needed >> 20} MiB may be needed; free some"
        )


def demonstrate(plain: Path, work: Path) -> list[File]:
    packed, mounted = work / "packed", work / "mounted"
    check_space(plain, work)
    say(f"compressing {plain}")
    files = compress_folder(plain, packed)
    mounted.mkdir()
    say("mounting, and comparing every byte and every tensor")
    with zipfs.mount(packed, mounted):
        for file in files:
            check(file, plain, mounted)
        for file in files:
            if file.plain_size >= SMALLEST_TIMED:
                time_cold(file, plain, packed, mounted)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of models; it is only read")
    given = parser.parse_args().folder
    if given is not None and not given.is_dir():
        parser.error(f"{given}: no such folder")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/demo: stopped"))
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="demo-") as folder:
        work = Path(folder)
        if given is None:
            make_trained_folder(work / "plain")
        try:
            files = demonstrate(given or work / "plain", work)
        except zipfs.ZipfsError as error:
            raise SystemExit(f"scripts/demo: {error}") from None
    header = [
        "file",
        "dtype",
        "plain size",
        "stored size",
        "saved %",
        "compress GB/s",
        "cold read GB/s, plain",
        "cold read GB/s, mount",
    ]
    print(f"`scripts/demo` on {machine.headline(machine.describe())}\n")
    print(table.markdown(header, map(row, [*files, total(files)])))
    num_tensors = sum(file.num_tensors for file in files)
    print(f"\n{len(files)} files and {num_tensors} tensors: every byte equal through the mount.")


main()
