"""Text for people: tables and sentences out of what the library returns. Prints nothing."""

from collections.abc import Iterable, Iterator
from typing import Any

from zipfs.estimate import Estimates
from zipfs.folder import Summary
from zipfs.info import ratio, total
from zipfs.names import show
from zipfs.tally import Row, as_facts

_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"]


def size_text(size: int) -> str:
    """For example 1.5 GiB."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{size} B"


def signed_size_text(size: int) -> str:
    return size_text(size) if size >= 0 else f"-{size_text(-size)}"


def describe_summary(summary: Summary) -> str:
    """What was done, with a table by dtype where it says what was compressed."""
    files = "1 file" if summary.num_files == 1 else f"{summary.num_files} files"
    line = f"{files}, plain {size_text(summary.plain_size)}, stored {_stored(summary.plain_size, summary.stored_size)}"
    return "\n".join([*_table(summary.rows), line])


def summary_facts(summary: Summary) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "num_files": summary.num_files,
        "plain_size": summary.plain_size,
        "stored_size": summary.stored_size,
        "ratio": ratio(summary.plain_size, summary.stored_size),
        "dtypes": as_facts(summary.rows),
        "notes": list(summary.notes),
    }


def describe_rehearsal(found: Estimates) -> str:
    """What compress would do: a line for each file, the table, and the sum."""
    lines = [f"{file['action']:8} {_line(file)}" for file in found.files]
    sums = _line(total(found.files) | {"path": f"total of {len(found.files)} files"})
    return "\n".join(["would be done (sizes estimated from a sample):", *lines, *_table(found.rows), " " * 9 + sums])


def rehearsal_facts(found: Estimates) -> dict[str, Any]:
    """The same for JSON."""
    return {"files": found.files, "total": total(found.files), "dtypes": as_facts(found.rows)}


def _table(rows: Iterable[Row]) -> Iterator[str]:
    if rows:
        yield f"{'dtype':8} {'files':>7} {'plain':>11} {'stored':>11} {'saved':>11}"
    for row in rows:
        sizes = " ".join(f"{size_text(size):>11}" for size in (row.plain_size, row.stored_size))
        share = f" {row.saved / row.plain_size:6.1%}" if row.plain_size else ""
        yield f"{row.dtype:8} {row.num_files:>7} {sizes} {signed_size_text(row.saved):>11}{share}"


def describe_info(facts: dict[str, Any]) -> str:
    """The facts of zipfs.info."""
    return "\n".join(_folder(facts) if "files" in facts else _file(facts))


def describe_tensors(facts: dict[str, Any]) -> str:
    """The facts of zipfs.tensors: a table of dtypes, then one of tensors."""
    lines = [f"{'saved':>11} {'plain':>11} {'stored':>11} {'ratio':>7}  {'dtype':8}  tensors"]
    lines += [f"{_sizes(row)}  {row['dtype']:8}  {row['num_tensors']}" for row in facts["dtypes"]]
    lines.append(f"{_sizes(facts['total'])}  {'total':8}  {facts['total']['num_tensors']}")
    lines += ["", f"{'saved':>11} {'plain':>11} {'stored':>11} {'ratio':>7}  {'dtype':8}  {'shape':>16}  tensor"]
    is_folder = facts["total"]["num_files"] is not None
    for tensor in facts["tensors"]:
        where = f"  in {show(tensor['path'])}" if is_folder else ""
        name = show(tensor["name"]) + where
        lines.append(f"{_sizes(tensor)}  {tensor['dtype']:8}  {_shape(tensor):>16}  {name}")
    return "\n".join(lines)


def _sizes(facts: dict[str, Any]) -> str:
    sizes = (signed_size_text(facts["saved"]), size_text(facts["plain_size"]), size_text(facts["stored_size"]))
    return " ".join(f"{size:>11}" for size in sizes) + f" {facts['ratio']:7.2%}"


def _shape(segment: dict[str, Any]) -> str:
    return "x".join(map(str, segment["shape"])) or "scalar"


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
    if facts["chunk_size"]:
        yield f"chunks       {facts['num_chunks']} of {size_text(facts['chunk_size'])}"
        yield f"sha256       {facts['sha256'] or 'unknown: imported, the hash of the original file is not known'}"
    else:
        yield "no container: stored as it is"
    for segment in facts["segments"]:
        plain, stored = size_text(segment["plain_size"]), _stored(segment["plain_size"], segment["stored_size"])
        yield f"  {segment['dtype']:8} {_shape(segment):>16} {plain:>11} -> {stored:20} {show(segment['name'])}"


def _stored(plain_size: int, stored_size: int) -> str:
    share = f", {stored_size / plain_size:.1%}" if plain_size else ""
    return f"{size_text(stored_size)}{share}"
