"""Caches as huggingface_hub makes them: blobs called by their digests, refs, snapshots of relative symlinks."""

import hashlib
import json
import os
from pathlib import Path

COMMIT = "c5f93f70e82d2ac3b0e5d4ba3f8d4a4b5c6d7e8f"
OLDER_COMMIT = "0ddba11c0ffee0ddba11c0ffee0ddba11c0ffee0"
NO_SUCH_FILE = "adapter_config.json"
LARGE = 10 << 20
"""Bytes from which on the hub keeps a file apart from git and names it by its SHA-256."""


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def blob_name(data: bytes, large: int = LARGE) -> str:
    return hashlib.sha256(data).hexdigest() if len(data) >= large else git_sha1(data)


def read_folder(folder: Path) -> dict[str, bytes]:
    """{path in the folder: bytes} of its files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def add_snapshot(
    hub: Path,
    repository: str,
    files: dict[str, bytes],
    commit: str = COMMIT,
    ref: str | None = "main",
    large: int = LARGE,
) -> Path:
    """Adds a downloaded snapshot of `repository` to the cache `hub`, also another one of a repository; returns it."""
    root = hub / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    for folder in (root / "blobs", root / "refs", root / ".no_exist" / commit, hub / ".locks" / root.name):
        folder.mkdir(parents=True, exist_ok=True)
    listing = {}
    for name, data in files.items():
        blob, link = root / "blobs" / blob_name(data, large), snapshot / name
        if not blob.exists():
            blob.write_bytes(data)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
        (hub / ".locks" / root.name / f"{blob.name}.lock").touch()
        listing[name] = {"size": len(data), "blob_id": git_sha1(data)}
    if ref is not None:
        (root / "refs" / ref).write_text(commit)
    (root / ".no_exist" / commit / NO_SUCH_FILE).touch()
    (root / "trees").mkdir(exist_ok=True)
    (root / "trees" / f"{commit}.json").write_text(json.dumps({"format_version": 1, "files": listing}))
    (hub / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    return snapshot
