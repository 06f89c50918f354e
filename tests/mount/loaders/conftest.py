"""A shelf of small models in the formats that engines load, plain and compressed."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import zipfs

SMALL = 64 << 10


class Shelf(NamedTuple):
    """The folder of plain files, and the folder with their containers."""

    plain: Path
    stored: Path


def digest(data: Any) -> str:
    """SHA-256 of the bytes of an array, of a tensor of torch, or of bytes."""
    if hasattr(data, "untyped_storage"):
        import torch

        data = data.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif hasattr(data, "dtype"):
        data = data.tobytes()
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="session")
def hashes() -> Callable[[Iterable[tuple[str, Any]]], dict[str, str]]:
    """hashes((name, array or tensor) pairs): their SHA-256 by name."""
    return lambda tensors: {name: digest(tensor) for name, tensor in tensors}


@pytest.fixture(scope="module")
def shelve(tmp_path_factory) -> Callable[..., Shelf]:
    """shelve(write): write(folder) makes the plain files; all but small ones must become containers."""

    def make(write: Callable[[Path], None]) -> Shelf:
        folder = tmp_path_factory.mktemp("shelf")
        shelf = Shelf(folder / "plain", folder / "stored")
        shelf.plain.mkdir()
        write(shelf.plain)
        zipfs.compress(shelf.plain, shelf.stored)
        for path in filter(Path.is_file, shelf.plain.rglob("*")):
            assert (
                path.stat().st_size < SMALL
                or (shelf.stored / path.relative_to(shelf.plain)).with_name(f"{path.name}.zipfs").is_file()
            ), path
        return shelf

    return make
