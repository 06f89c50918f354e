"""Text for people: tables and sentences out of what the library returns. Prints nothing."""

from collections.abc import Iterator
from typing import Any

from zipfs.folder import Summary
from zipfs.names import show

_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"]


def size_text(size: int) -> str:
    """For example 1.5 GiB."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{size} B"


def describe_summary(summary: Summary) -> str:
    files = "1 file" if summary.num_files == 1 else f"{summary.num_files} files"
    return f"{files}, plain {size_text(summary.plain_size)}, stored {_stored(summary.plain_size, summary.stored_size)}"


def describe_info(facts: dict[str, Any]) -> str:
    """The facts of zipfs.info."""
    return "\n".join(_folder(facts) if "files" in facts else _file(facts))


def describe_kernels(facts: dict[str, Any]) -> str:
    """The facts of zipfs.info.kernels, a line for each kernel."""
    return "\n".join(f"{kernel['name']:8} {_state(kernel, facts)}" for kernel in facts["kernels"])


def _state(kernel: dict[str, Any], facts: dict[str, Any]) -> str:
    if not kernel["built"]:
        return f"not built for {facts['machine']}"
    if kernel["lacks"]:
        return f"not for this CPU, which lacks {kernel['lacks']}"
    if kernel["used"]:
        return "in use, as ZIPFS_KERNEL demands" if facts["demanded"] else "in use"
    return "runs here"


def describe_estimate(facts: dict[str, Any]) -> str:
    """The facts of zipfs.estimate."""
    lines = list(_folder(facts)) if "files" in facts else [_line(facts)]
    return "\n".join(["estimated stored size, from a sample:", *lines])


def _folder(facts: dict[str, Any]) -> Iterator[str]:
    for file in facts["files"]:
        yield _line(file)
    yield _line(facts["total"] | {"path": f"total of {facts['total']['num_files']} files"})


def _line(facts: dict[str, Any]) -> str:
    plain, stored = size_text(facts["plain_size"]), size_text(facts["stored_size"])
    return f"{plain:>11} -> {stored:>11}  {facts['ratio']:7.2%}  {show(facts['path'])}"


def _file(facts: dict[str, Any]) -> Iterator[str]:
    yield f"path         {show(facts['path'])}"
    yield f"plain size   {facts['plain_size']} bytes ({size_text(facts['plain_size'])})"
    yield f"stored size  {facts['stored_size']} bytes ({_stored(facts['plain_size'], facts['stored_size'])})"
    if not facts["chunk_size"]:
        yield "no container: stored as it is"
        return
    yield f"chunks       {facts['num_chunks']} of {size_text(facts['chunk_size'])}"
    yield f"sha256       {facts['sha256'] or 'unknown: imported, the hash of the original file is not known'}"
    for segment in facts["segments"]:
        shape = "x".join(map(str, segment["shape"])) or "scalar"
        plain, stored = size_text(segment["plain_size"]), _stored(segment["plain_size"], segment["stored_size"])
        yield f"  {segment['dtype']:8} {shape:>16} {plain:>11} -> {stored:20} {show(segment['name'])}"


def _stored(plain_size: int, stored_size: int) -> str:
    share = f", {stored_size / plain_size:.1%}" if plain_size else ""
    return f"{size_text(stored_size)}{share}"
