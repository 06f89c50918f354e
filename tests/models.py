"""Plain files for tests.

Weights of every dtype, and safetensors files written byte by byte. Everything is drawn from the rng that is passed in.
"""

import json
import math
from pathlib import Path

import ml_dtypes
import numpy as np

from zipfs.layouts.segment import DTYPES

FLOATS = {
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}
INTEGERS = {"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64}

Tensor = tuple[str, list[int], bytes]


def weights(rng: np.random.Generator, dtype: str, count: int) -> bytes:
    """`count` elements as a trained model has them.

    Floats of a narrow normal distribution, small integers, packed noise.
    """
    bits = DTYPES[dtype][0]
    if dtype in FLOATS:
        scale = 0.5 if dtype.startswith("F8") else 0.02
        return rng.normal(0, scale, count).astype(FLOATS[dtype]).tobytes()
    if dtype == "C64":
        return rng.normal(0, 0.02, 2 * count).astype(np.float32).tobytes()
    if dtype == "BOOL":
        return rng.integers(0, 2, count, np.uint8).tobytes()
    if bits < 8:
        return rng.bytes(count * bits // 8)
    signed = INTEGERS.get(dtype) or INTEGERS[f"I{bits}"]
    return np.abs(rng.normal(0, 30, count)).astype(signed).tobytes()


def tensor(rng: np.random.Generator, dtype: str, shape: list[int]) -> Tensor:
    return dtype, shape, weights(rng, dtype, math.prod(shape))


def all_dtypes(rng: np.random.Generator, rows: int = 64) -> dict[str, Tensor]:
    """A tensor of each dtype that safetensors knows, an empty one and a scalar."""
    tensors = {f"layer.{dtype.lower()}": tensor(rng, dtype, [rows, 48]) for dtype in DTYPES}
    return tensors | {"empty": ("F32", [0, 7], b""), "scalar": tensor(rng, "F64", [])}


def safetensors_bytes(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None, padding: int = 0) -> bytes:
    """A safetensors file with the tensors in the order given, and `padding` blanks behind the JSON."""
    header: dict = {} if metadata is None else {"__metadata__": metadata}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode() + b" " * padding
    return len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values())


def write_safetensors(path: Path, tensors: dict[str, Tensor], **options) -> Path:
    path.write_bytes(safetensors_bytes(tensors, **options))
    return path
