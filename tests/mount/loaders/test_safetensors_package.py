"""safetensors on a mount: every way it reads, numpy and torch."""

import inspect
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

SEED = 17
SHAPE = (301, 257)
DTYPES = {"numpy": ["float32", "float16", "bfloat16", "int8"]}
DTYPES["pt"] = [*DTYPES["numpy"], "float8_e4m3fn"]
"""By framework: what safetensors makes of each file in it."""


def arrays(framework: str) -> dict[str, np.ndarray]:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    found = {"scalar": np.array(3.5, np.float32), "empty": np.zeros((0, 7), np.float32)}
    for dtype in DTYPES[framework]:
        values = rng.normal(0, 5 if dtype == "int8" else 0.05, SHAPE)
        found[f"layer.{dtype}"] = values.astype(getattr(ml_dtypes, dtype, dtype))
    return found


@pytest.fixture(scope="module")
def shelf(shelve):
    from safetensors.numpy import save_file

    def write(folder):
        for framework in DTYPES:
            save_file(arrays(framework), folder / f"{framework}.safetensors", metadata={"format": "pt"})

    return shelve(write)


@pytest.fixture(params=["numpy", "pt"])
def framework(request) -> str:
    if request.param == "pt":
        pytest.importorskip("torch")
    return request.param


def backends(function: Callable) -> list[dict[str, str]]:
    """Options for each way of reading that this version of safetensors has."""
    try:
        has_backends = "backend" in inspect.signature(function).parameters
    except ValueError:
        has_backends = "backend" in (function.__text_signature__ or "")
    return [{"backend": "mmap"}, {"backend": "pread"}] if has_backends else [{}]


def test_whole_files(mounted, shelf, hashes, framework):
    module = pytest.importorskip("safetensors.torch" if framework == "pt" else "safetensors.numpy")
    shown, wanted = mounted(shelf.stored).path / f"{framework}.safetensors", hashes(arrays(framework).items())
    for options in backends(module.load_file):
        assert hashes(module.load_file(shown, **options).items()) == wanted, options
    if framework == "pt":  # from bytes the numpy side knows no BF16
        assert hashes(module.load(shown.read_bytes()).items()) == wanted


def test_tensor_by_tensor(mounted, shelf, hashes, framework):
    from safetensors import safe_open

    shown, wanted = mounted(shelf.stored).path / f"{framework}.safetensors", arrays(framework)
    for options in backends(safe_open):
        with safe_open(shown, framework, **options) as file:
            assert file.metadata() == {"format": "pt"}
            assert hashes((name, file.get_tensor(name)) for name in file.keys()) == hashes(wanted.items())  # noqa: SIM118
            for name in (f"layer.{dtype}" for dtype in DTYPES[framework]):
                part = file.get_slice(name)
                assert tuple(part.get_shape()) == SHAPE
                for cut in np.s_[7:77], np.s_[:, 100:101], np.s_[300]:
                    assert hashes([(name, part[cut])]) == hashes([(name, wanted[name][cut])]), (name, cut, options)


def test_pread_is_among_them():
    """What the extra `loaders` installs has both ways, so that the tests above go through both."""
    safetensors = pytest.importorskip("safetensors")
    if tuple(map(int, safetensors.__version__.split(".")[:2])) < (0, 8):
        pytest.skip(f"safetensors {safetensors.__version__} reads by mmap alone; pread came with 0.8")
    assert backends(safetensors.safe_open) == [{"backend": "mmap"}, {"backend": "pread"}]
