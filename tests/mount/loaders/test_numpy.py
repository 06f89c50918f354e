"""numpy on a mount: arrays read and mapped, archives, raw maps."""

import numpy as np
import pytest

SEED = 17
SHAPE = (501, 257)


def arrays() -> dict[str, np.ndarray]:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    found = {dtype: rng.normal(0, 0.02, SHAPE).astype(dtype) for dtype in ("float32", "float16", "float64")}
    return found | {"int32": rng.integers(0, 1000, SHAPE, np.int32), "fortran": np.asfortranarray(found["float32"])}


@pytest.fixture(scope="module")
def shelf(shelve):
    def write(folder):
        for name, array in arrays().items():
            np.save(folder / f"{name}.npy", array)
        np.savez(folder / "all.npz", **arrays())

    return shelve(write)


@pytest.mark.parametrize("mode", [None, "r", "c"])
def test_arrays(mounted, shelf, hashes, mode):
    shown = mounted(shelf.stored).path
    loaded = {name: np.load(shown / f"{name}.npy", mmap_mode=mode) for name in arrays()}
    assert all(isinstance(array, np.memmap) == (mode is not None) for array in loaded.values())
    assert hashes(loaded.items()) == hashes(arrays().items())
    if mode:
        assert np.array_equal(loaded["float32"][123:125, 7], arrays()["float32"][123:125, 7])


def test_archive(mounted, shelf, hashes):
    with np.load(mounted(shelf.stored).path / "all.npz") as archive:
        assert hashes(archive.items()) == hashes(arrays().items())


def test_raw(mounted, shelf):
    shown = mounted(shelf.stored).path
    for path in shelf.plain.iterdir():
        assert np.array_equal(np.memmap(shown / path.name, np.uint8, "r"), np.memmap(path, np.uint8, "r")), path.name
        assert np.array_equal(np.fromfile(shown / path.name, np.uint8), np.fromfile(path, np.uint8)), path.name


def test_writable_maps_are_refused(mounted, shelf):
    with pytest.raises(OSError, match="Read-only file system"):
        np.load(mounted(shelf.stored).path / "float32.npy", mmap_mode="r+")
