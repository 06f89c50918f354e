"""Facts of containers, folders and kernels as data, for `zipfs info`. Reads headers and segment tables, no chunk."""

import os
import platform
from typing import Any

from zipfs import _native, segments
from zipfs.errors import FormatError, ZipfsError, naming
from zipfs.folder import regular_files
from zipfs.source import Source


def info(path: str) -> tuple[dict[str, Any], list[Exception]]:
    """The facts of a file, or {"files": [...], "total": {...}} of a folder, and what could not be read.

    A file: path, plain_size, stored_size, ratio (stored by plain), chunk_size, num_chunks, sha256 (hexadecimal, or None
    when unknown) and segments. A file that is no container is its own plain file: it has no chunks, and its segments are
    stored as they are.
    """
    if not os.path.isdir(path):
        return file_info(path), []
    files: list[dict[str, Any]] = []
    failures: list[Exception] = []
    for file in regular_files(path, failures):
        try:
            files.append(file_info(file, follow=False))
        except (OSError, ZipfsError) as error:
            failures.append(error)
    return {"files": files, "total": total(files)}, failures


def kernels() -> dict[str, Any]:
    """The machine, what ZIPFS_KERNEL demands (None: nothing), the kernel in use, and each kernel there is, best first.

    A kernel: name, built (into this installation), lacks (a feature of CPUs that it needs and this one lacks, or None)
    and used.
    """
    used = _native.kernel()
    return {
        "machine": platform.machine(),
        "demanded": os.environ.get("ZIPFS_KERNEL") or None,
        "used": used,
        "kernels": [
            {"name": name, "built": built, "lacks": lacks, "used": name == used}
            for name, built, lacks in _native.kernels()
        ],
    }


def total(files: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the files."""
    plain_size = sum(file["plain_size"] for file in files)
    stored_size = sum(file["stored_size"] for file in files)
    return {
        "num_files": len(files),
        "plain_size": plain_size,
        "stored_size": stored_size,
        "ratio": ratio(plain_size, stored_size),
    }


def ratio(plain_size: int, stored_size: int) -> float:
    return round(stored_size / plain_size, 4) if plain_size else 1.0


def file_info(path: str, follow: bool = True) -> dict[str, Any]:
    """The facts of one file.

    FormatError when its header or root breaks a rule. A damaged segment table counts as none.
    """
    with naming(path), Source(path, follow) as source:
        if not source.is_container():
            plain = [segments.StoredSegment(segment, segment.size) for segment in source.segments()]
            return _facts(path, source.size, source.size, 0, 0, None, plain)
        with _native.Reader(source.fd) as reader:
            header = reader.header
            sha256 = header["sha256"]
            return _facts(
                path,
                header["plain_size"],
                header["container_size"],
                1 << header["chunk_log2"],
                header["num_chunks"],
                sha256.hex() if sha256 else None,
                read_segments(source.fd, header),
            )


def _facts(
    path: str,
    plain_size: int,
    stored_size: int,
    chunk_size: int,
    num_chunks: int,
    sha256: str | None,
    stored_segments: list[segments.StoredSegment],
) -> dict[str, Any]:
    return {
        "path": path,
        "plain_size": plain_size,
        "stored_size": stored_size,
        "ratio": ratio(plain_size, stored_size),
        "chunk_size": chunk_size,
        "num_chunks": num_chunks,
        "sha256": sha256,
        "segments": [
            {
                "name": segment.name,
                "dtype": segment.dtype,
                "shape": list(segment.shape),
                "offset": segment.offset,
                "plain_size": segment.size,
                "stored_size": stored_size,
            }
            for segment, stored_size in stored_segments
        ],
    }


def read_segments(fd: int, header: dict[str, Any]) -> list[segments.StoredSegment]:
    """The segment table of the container open at `fd`; a damaged one counts as none."""
    size = header["segments_size"]
    if not 0 < size <= segments.MAX_SECTION:
        return []
    try:
        return segments.parse(os.pread(fd, size, header["segments_offset"]), header["plain_size"])
    except FormatError:
        return []
