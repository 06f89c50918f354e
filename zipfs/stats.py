"""What the daemon of a mount has counted, for `zipfs stats`: read from a hidden file in the mount's root.

Counters have the names of struct zipfs_file_stats and struct zipfs_stats (native/zipfs.h). The daemon counts anyway,
and puts a report together only when the file is opened.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

from zipfs import mountpoint as points
from zipfs.errors import MountError
from zipfs.mount import PathLike
from zipfs.names import STATS, show
from zipfs.report import size_text

MAX_SHOWN = 30
"""Files in a table, those that were read most."""


def read_stats(mnt: PathLike) -> dict[str, Any]:
    """{"mountpoint", "source", "settings", "total", "files"}: counters of the mount since it began, and of each file
    that is open or was lately, those that were read most first. Of the native driver also "passthrough", whether the
    kernel reads by itself what is no container, which nobody counts then, and "resident", {"size_max", "files",
    "bytes"}: what is kept whole.

    To the counters of the total and of each file `amplification` is added: bytes decoded for each byte that readers got
    of containers, None before they got any. MountError when mnt is no zipfs mount or belongs to somebody else.
    """
    mountpoint = points.find_ours(mnt).mountpoint
    try:
        with open(os.path.join(mountpoint, STATS), "rb") as file:
            facts = json.load(file)
    except PermissionError:
        raise MountError(f"{show(mountpoint)}: its counters are for who mounted it; run as that user") from None
    except OSError as error:
        raise MountError(f"{show(mountpoint)}: the mount does not answer: {error.strerror}") from None
    for counters in (facts["total"], *facts["files"]):
        counters["amplification"] = amplification(counters)
    facts["files"].sort(key=lambda file: file["bytes_read"], reverse=True)
    return {"mountpoint": mountpoint, **facts}


def amplification(counters: dict[str, Any]) -> float | None:
    served = counters["bytes_read"] - counters["bytes_passed"]
    return round(counters["bytes_decoded"] / served, 4) if served else None


HEADINGS = ("reads", "served", "decoded", "ampl.", "hits", "waits", "decode s", "ahead used", "wasted", "errors")


def describe_stats(facts: dict[str, Any]) -> str:
    """A table for people: a line for each file that was read, and one for all."""
    rows = [(*HEADINGS, "file"), *_rows(facts)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    lines = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    return "\n".join([_memory(facts), *lines])


def _memory(facts: dict[str, Any]) -> str:
    held = size_text(facts["total"]["cache_bytes"] + facts["total"]["source_buffer_bytes"])
    budget = size_text(facts["settings"]["cache_size"])
    line = f"{show(facts['mountpoint'])}: of {show(facts['source'])}, cache {held} of {budget}"
    resident = facts.get("resident", {"size_max": 0})
    if not resident["size_max"]:
        return line
    kept, most = size_text(resident["bytes"]), size_text(resident["size_max"])
    return f"{line}, resident files {resident['files']} with {kept} of {most}"


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    files = [file for file in facts["files"] if file["reads"]]
    for file in files[:MAX_SHOWN]:
        yield (*_cells(file), show(file["name"]))
    others = len(files) - MAX_SHOWN
    yield (*_cells(facts["total"]), f"total, with {others} other files" if others > 0 else "total")


def _cells(counters: dict[str, Any]) -> tuple[str, ...]:
    ratio = counters["amplification"]
    return (
        str(counters["reads"]),
        size_text(counters["bytes_read"]),
        size_text(counters["bytes_decoded"]),
        "" if ratio is None else f"{ratio:.2f}",
        str(counters["cache_hits"]),
        str(counters["cache_waits"]),
        f"{counters['decode_ns'] / 1e9:.2f}",
        size_text(counters["ahead_used_bytes"]),
        size_text(counters["ahead_wasted_bytes"]),
        str(counters["errors"]),
    )
