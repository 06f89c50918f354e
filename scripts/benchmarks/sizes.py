"""What `zipfs compress` makes of each row of rows.py, beside its peers: bytes, with every table, index and header."""

import os
import sys
import tempfile
from pathlib import Path

import zipfs
from zipfs.info import file_info

from . import peers, rows, table

DEFAULT, GUESSED, FAST, MAX = "zipfs", "zipfs, opaque file", "zipfs fast", "zipfs max"
OPENZL = "OpenZL, best float graph"
COLUMNS = (DEFAULT, GUESSED, FAST, MAX, peers.ZipNN.name, OPENZL, peers.Zstd.name, peers.Zstd19.name)


def memory_folder() -> str:
    """A folder in memory where there is one."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()


def compressed(file: bytes, plain_size: int, level: str) -> tuple[int, int]:
    """(stored bytes, chunk size) of a folder with this one file; a file that is copied counts plain_size.

    What the codec reaches: files that save anything become containers here. Unless asked for, `zipfs compress` copies
    those that would not shrink by 2 %.
    """
    with tempfile.TemporaryDirectory(dir=memory_folder()) as work:
        source, target = Path(work, "plain"), Path(work, "stored")
        source.mkdir()
        (source / "x").write_bytes(file)
        zipfs.compress(source, target, level=level, min_saving=0)
        (output,) = target.iterdir()
        chunk_size = file_info(str(output))["chunk_size"]
        return (output.stat().st_size, chunk_size) if chunk_size else (plain_size, peers.CHUNK_SIZE)


def peer_size(peer: peers.Peer) -> int:
    """Stored bytes; raises unless the plain bytes come back."""
    stored = peer.encode(peer.source())
    if peer.restored(stored) != peer.plain:
        raise SystemExit(f"scripts/bench: {peer.name} does not give the bytes back")
    return peer.size(stored)


def peer_sizes(dtype: str, plain: bytes, chunk_size: int) -> dict[str, int]:
    """Peers that were not made for a dtype take its bytes."""
    found = {}
    as_zipnn = dtype if dtype in peers.ZipNN.DTYPES else "F8_E4M3"
    for name, makers in {
        peers.ZipNN.name: [lambda: peers.ZipNN(as_zipnn, plain)],
        OPENZL: [lambda: peers.OpenZL(dtype, plain), lambda: peers.OpenZLFse(dtype, plain)],
        peers.Zstd.name: [lambda: peers.Zstd(dtype, plain, chunk_size)],
        peers.Zstd19.name: [lambda: peers.Zstd19(dtype, plain, chunk_size)],
    }.items():
        try:
            found[name] = min(peer_size(make()) for make in makers)
        except peers.Missing as reason:
            print(f"scripts/bench: {reason}", file=sys.stderr)
    return found


def measure(name: str, size: int) -> dict:
    """One row: {row, dtype, bytes, chunk_size, joint_entropy (bytes or None), stored: {column: bytes}}."""
    print(f"scripts/bench: size of {name}", file=sys.stderr)
    parts = rows.tensors(name, size)
    file, plain = rows.as_file(parts), b"".join(part.plain for part in parts)
    stored, chunk_size = {}, 0
    for column, content, level in (
        (FAST, file, "fast"),
        (MAX, file, "max"),
        (GUESSED, plain, "default"),
        (DEFAULT, file, "default"),
    ):
        stored[column], chunk_size = compressed(content, len(plain), level)
    dtype = parts[0].dtype
    return {
        "row": name,
        "dtype": dtype,
        "bytes": len(plain),
        "chunk_size": chunk_size,
        "joint_entropy": rows.joint_entropy(parts),
        "stored": stored | peer_sizes(dtype, plain, chunk_size),
    }


def measure_all(names: list[str], size: int) -> list[dict]:
    """The rows that can be made here."""
    found = []
    for name in names:
        try:
            found.append(measure(name, size))
        except peers.Missing as reason:
            print(f"scripts/bench: {name}: {reason}", file=sys.stderr)
    return found


def markdown(results: list[dict]) -> str:
    lines = []
    for result in results:
        joint, size = result["joint_entropy"], result["bytes"]
        cells = [f"{100 * result['stored'][name] / size:.3f}" if name in result["stored"] else "-" for name in COLUMNS]
        entropy = f"{100 * joint / size:.3f}" if joint else "-"
        lines.append([result["row"], result["dtype"] or "-", f"{size / 2**20:.1f}", *cells, entropy])
    return table.markdown(["stored size %", "dtype", "MiB", *COLUMNS, "joint entropy of 16-bit words"], lines)
