"""How well tensors compress, by dtype and one by one, out of the facts of zipfs.info. Does no I/O."""

from typing import Any

from zipfs.info import ratio
from zipfs.tally import OTHER


def tensors(facts: dict[str, Any]) -> dict[str, Any]:
    """{"dtypes": [...], "tensors": [...], "total": {...}} for a file or a folder, the lists by the bytes saved.

    Each has plain_size, stored_size, saved and ratio (stored by plain). A dtype: dtype and num_tensors; that of the
    bytes in no tensor, headers and the container's own among them, is "other". A tensor: path, name, dtype, shape,
    offset. total: num_tensors, and num_files (None for a file).
    """
    is_folder = "files" in facts
    files = facts["files"] if is_folder else [facts]
    found = [
        {"path": file["path"]} | segment | _saving(segment["plain_size"], segment["stored_size"])
        for file in files
        for segment in file["segments"]
    ]
    whole = facts["total"] if is_folder else facts
    return {
        "dtypes": _by_dtype(found, whole["plain_size"], whole["stored_size"]),
        "tensors": sorted(found, key=lambda tensor: (-tensor["saved"], tensor["path"], tensor["offset"])),
        "total": {
            "num_files": len(files) if is_folder else None,
            "num_tensors": len(found),
            "plain_size": whole["plain_size"],
            "stored_size": whole["stored_size"],
            **_saving(whole["plain_size"], whole["stored_size"]),
        },
    }


def _by_dtype(found: list[dict[str, Any]], plain_size: int, stored_size: int) -> list[dict[str, Any]]:
    """Sums by dtype, and OTHER for what remains of the sizes given."""
    sums: dict[str, list[int]] = {OTHER: [0, plain_size, stored_size]}
    for tensor in found:
        plain, stored = tensor["plain_size"], tensor["stored_size"]
        own, rest = sums.setdefault(tensor["dtype"], [0, 0, 0]), sums[OTHER]
        own[:] = own[0] + 1, own[1] + plain, own[2] + stored
        rest[:] = rest[0], rest[1] - plain, rest[2] - stored
    rows = [
        {"dtype": dtype, "num_tensors": count, "plain_size": plain, "stored_size": stored, **_saving(plain, stored)}
        for dtype, (count, plain, stored) in sums.items()
    ]
    return sorted(rows, key=lambda row: (-row["saved"], row["dtype"]))


def _saving(plain_size: int, stored_size: int) -> dict[str, Any]:
    return {"saved": plain_size - stored_size, "ratio": ratio(plain_size, stored_size)}
