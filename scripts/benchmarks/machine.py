"""What a figure must be quoted with: the machine, the versions, the date, and the speed of a plain copy."""

import contextlib
import datetime
import importlib.metadata
import os
import pathlib
import platform
import time

import numpy as np

import zipfs
from zipfs import _native


def cpu_model() -> str:
    fields = dict(line.split(":", 1) for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    return next((value.strip() for name, value in fields.items() if name.strip() == "model name"), platform.machine())


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of Python packages; those that are not installed are left out."""
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def describe() -> dict[str, object]:
    return {
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "linux": platform.release(),
        "python": platform.python_version(),
        "zipfs": zipfs.__version__,
        "kernel": _native.kernel(),
        "date": datetime.date.today().isoformat(),
        "load": round(os.getloadavg()[0], 1),
    }


def headline(machine: dict[str, object]) -> str:
    """One line for the top of a table."""
    return (
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_gib']} GiB, Linux {machine['linux']}, "
        f"zipfs {machine['zipfs']} (kernel {machine['kernel']}), {machine['date']}, load {machine['load']}"
    )


def memcpy_speed(size: int, runs: int) -> list[float]:
    """GB/s of copying `size` bytes between two buffers whose pages exist already, one figure per run."""
    source, target = np.ones(size, dtype=np.uint8), np.ones(size, dtype=np.uint8)
    speeds = []
    for _ in range(runs):
        start = time.perf_counter()
        np.copyto(target, source)
        speeds.append(size / (time.perf_counter() - start) / 1e9)
    return speeds
