"""Sizes and speeds of the peers on one thread, from and to memory, for one kernel after the other.

A kernel is chosen once per process, so each has a process of its own. Every run goes once through all peers, so that
whatever the machine does meanwhile hits all of them; ratios are taken within a run.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from zipfs import _native

from . import corpus, peers, table

BASE, COPY = peers.ZipNN.name, peers.Memcpy.name
WITH_EVERY_KERNEL = ("bf16", "f16", "f32", "f32_of_bf16", "f8_e4m3", "f8_e5m2")
PEERS_OF_EVERY_KERNEL = tuple(
    kind.name for kind in (peers.Zipfs, peers.ZipfsFast, peers.ZipfsMax, peers.ZipNN, peers.Memcpy)
)


def timed(call: Callable, *arguments) -> tuple[object, float]:
    """(result, seconds)"""
    start = time.perf_counter()
    result = call(*arguments)
    return result, time.perf_counter() - start


def make_peers(layout: str, plain: bytes, names: list[str]) -> tuple[list[peers.Peer], dict[str, str]]:
    """(peers that can run, reasons of the others by name)"""
    made, left_out = [], {}
    for kind in peers.PEERS:
        try:
            if kind.name in names:
                made.append(kind(layout, plain))
        except peers.Missing as reason:
            left_out[kind.name] = str(reason)
    return made, left_out


class Measured:
    """One peer with what was measured of it: stored size, and GB/s of plain bytes of each run."""

    def __init__(self, peer: peers.Peer) -> None:
        """Encodes once; raises unless the plain bytes come back."""
        self.peer = peer
        self.stored, seconds = timed(peer.encode, peer.source())
        self.compress = [len(peer.plain) / seconds / 1e9] if peer.encode_once else []
        self.decompress: list[float] = []
        self.size = peer.size(self.stored)
        if peer.restored(self.stored) != peer.plain:
            raise SystemExit(f"scripts/bench: {peer.name} does not give the bytes back")
        if not peer.encode_once:
            self.stored = None

    def run(self) -> None:
        stored, size = self.stored, len(self.peer.plain) / 1e9
        if not self.peer.encode_once:
            source = self.peer.source()
            stored, seconds = timed(self.peer.encode, source)
            self.compress.append(size / seconds)
        self.decompress.append(size / timed(self.peer.decode, stored)[1])

    def row(self, others: dict[str, "Measured"]) -> dict:
        """{codec, size, size_percent, compress, decompress, and over ZipNN and memcpy *_ratio, decompress_over_copy}"""
        row = {"codec": self.peer.name, "size": self.size, "size_percent": 100 * self.size / len(self.peer.plain)}
        row |= {"compress": table.summary(self.compress), "decompress": table.summary(self.decompress)}
        if base := others.get(BASE):
            row["decompress_ratio"] = ratios(self.decompress, base.decompress)
            if not self.peer.encode_once:
                row["compress_ratio"] = ratios(self.compress, base.compress)
        if copy := others.get(COPY):
            row["decompress_over_copy"] = ratios(self.decompress, copy.decompress)
        return row


def ratios(speeds: list[float], base: list[float]) -> dict[str, float]:
    return table.summary([speed / other for speed, other in zip(speeds, base, strict=True)])


def measure(name: str, size: int, runs: int, names: list[str]) -> dict:
    """One data set: {data, bytes, left_out, codecs: [...]}."""
    layout, plain = corpus.data_set(name, size)
    chosen, left_out = make_peers(layout, plain, names)
    measured = {peer.name: Measured(peer) for peer in chosen}
    for run in range(runs):
        for one in measured.values() if run % 2 == 0 else reversed(measured.values()):
            one.run()
    rows = [one.row(measured) for one in measured.values()]
    return {"data": name, "bytes": len(plain), "left_out": left_out, "codecs": rows}


def measure_here(arguments: argparse.Namespace, size: int, runs: int) -> list[dict]:
    """All data sets with the kernel of this process, on one core; the peers have one thread each."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    results = []
    for name in arguments.data.split(","):
        print(f"scripts/bench: {_native.kernel()}: {name}", file=sys.stderr)
        results.append(measure(name, size, runs, arguments.peers.split(",")))
    os.sched_setaffinity(0, allowed)
    return results


def measure_in_child(kernel: str, arguments: argparse.Namespace, size: int, runs: int, only: dict[str, str]) -> list:
    """What measure_here() returns, from a process that ZIPFS_KERNEL holds to one kernel."""
    options = {"only": "speed", "mib": size >> 20, "runs": runs, "data": arguments.data, "peers": arguments.peers}
    command = [sys.executable, sys.argv[0], "codec", "--json"]
    command += [f"--{name}={value}" for name, value in (options | only).items()]
    done = subprocess.run(command, env=os.environ | {"ZIPFS_KERNEL": kernel}, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"scripts/bench: measuring the kernel {kernel} failed ({done.returncode})")
    return json.loads(done.stdout)["speed"][kernel]


def measure_kernels(arguments: argparse.Namespace, size: int, runs: int) -> dict[str, list[dict]]:
    """Results by kernel, best first: all data sets and peers with the best, those that have a bar with the others.

    With ZIPFS_KERNEL set: of that kernel alone.
    """
    if os.environ.get("ZIPFS_KERNEL"):
        return {_native.kernel(): measure_here(arguments, size, runs)}
    kernels = [name for name, built, lacks in _native.kernels() if built and not lacks]
    data = [name for name in arguments.data.split(",") if name in WITH_EVERY_KERNEL]
    names = [name for name in arguments.peers.split(",") if name in PEERS_OF_EVERY_KERNEL]
    fewer = {"data": ",".join(data), "peers": ",".join(names)}
    found = {kernels[0]: measure_in_child(kernels[0], arguments, size, runs, {})}
    if data:
        found |= {kernel: measure_in_child(kernel, arguments, size, runs, fewer) for kernel in kernels[1:]}
    return found
