"""The rows of the size table: the floats of corpus.py, and what else lies in model files: sparse and quantised tensors,
packed codes, scales, optimizer states, GGUF blocks, text. Deterministic.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from zipfs.layouts.segment import DTYPES

from . import corpus, gguf_blocks, table

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


class Tensor(NamedTuple):
    """One tensor of a row; dtype as in safetensors, "" in a file that is no safetensors file."""

    dtype: str
    plain: bytes


def row_codes(weights: np.ndarray, top: int) -> np.ndarray:
    """Each row scaled and rounded to integers of -top to top."""
    return np.round(weights / np.abs(weights).max(axis=1, keepdims=True) * top).astype(np.int8)


def group_codes(weights: np.ndarray) -> np.ndarray:
    """4-bit codes, rounded to nearest in groups of 128, as GPTQ and AWQ do."""
    groups = weights.reshape(-1, 128)
    low, high = groups.min(axis=1, keepdims=True), groups.max(axis=1, keepdims=True)
    return np.round((groups - low) / (high - low) * 15).astype(np.uint8).reshape(weights.shape)


def packed(codes: np.ndarray, bits: int, order: tuple[int, ...], dtype: type) -> np.ndarray:
    """Codes side by side in words, the code `order[i]` of each group from bit `i * bits`."""
    groups = codes.reshape(-1, len(order)).astype(dtype)
    return sum(groups[:, place] << dtype(i * bits) for i, place in enumerate(order)).astype(dtype)


def mxfp4(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(packed E2M1 codes, E8M0 scales) of groups of 32."""
    groups = weights.reshape(-1, 32)
    exponents = np.floor(np.log2(np.abs(groups).max(axis=1, keepdims=True))) - 2
    codes = (groups / 2.0**exponents).astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    return packed(codes, 4, (0, 1), np.uint8), (exponents + 127).astype(np.uint8)


def ternary(weights: np.ndarray) -> np.ndarray:
    """0, 1, 2 for less than -1/4, in between and more than 1/4 of the row's largest."""
    return np.digitize(weights / np.abs(weights).max(axis=1, keepdims=True), [-0.25, 0.25])


def two_of_four(weights: np.ndarray) -> np.ndarray:
    """2:4 sparsity: the two largest of each four are kept."""
    groups = np.abs(weights).reshape(-1, 4)
    kept = np.argsort(np.argsort(groups, axis=1), axis=1) >= 2
    return np.where(kept.reshape(weights.shape), weights, 0)


def gradients(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Of an embedding: nine rows of ten untouched, the others small and heavy-tailed."""
    return np.where(rng.random((shape[0], 1)) < 0.1, rng.laplace(0, 1e-4, shape), 0)


def few_values(rng: np.random.Generator, weights: np.ndarray, count: int) -> np.ndarray:
    """Each weight moved to the nearest of `count` values."""
    palette = np.quantile(weights, np.sort(rng.random(count)))
    return palette[np.searchsorted((palette[1:] + palette[:-1]) / 2, weights)]


def product_codes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Bytes with skewed frequencies, as indices into a codebook have."""
    share = rng.exponential(1, 256) ** 1.5
    return rng.choice(256, count, p=share / share.sum()).astype(np.uint8)


def tuned(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    return weights * np.where(rng.random(weights.shape) < 0.05, 1.01, 1)


def low_rank(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    return weights[:, :64] @ rng.standard_normal((64, corpus.COLUMNS), dtype=np.float32)


def half_zero(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    return np.where(rng.random(weights.shape) < 0.5, 0, weights)


def key_values(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """A KV cache: each channel has a scale of its own."""
    return weights * (40 * np.exp(rng.normal(0, 1.2, (1, corpus.COLUMNS))))


def bf16(values: np.ndarray) -> np.ndarray:
    return values.astype(ml_dtypes.bfloat16)


Cast = Callable[[np.random.Generator, np.ndarray], np.ndarray]
CASTS: dict[str, tuple[str, Cast]] = {
    "f32_of_f16": ("F32", lambda rng, w: w.astype(np.float16).astype(np.float32)),
    "f16_of_bf16": ("F16", lambda rng, w: bf16(w).astype(np.float16)),
    "bf16_tuned": ("BF16", lambda rng, w: bf16(tuned(rng, w))),
    "bf16_low_rank": ("BF16", lambda rng, w: bf16(low_rank(rng, w))),
    "bf16_kv": ("BF16", lambda rng, w: bf16(key_values(rng, w))),
    "bf16_half_zero": ("BF16", lambda rng, w: bf16(half_zero(rng, w))),
    "bf16_2_of_4": ("BF16", lambda rng, w: bf16(two_of_four(w))),
    "bf16_gradient": ("BF16", lambda rng, w: bf16(gradients(rng, w.shape))),
    "bf16_16_values": ("BF16", lambda rng, w: bf16(few_values(rng, w, 16))),
    "f32_200_values": ("F32", lambda rng, w: few_values(rng, w, 200).astype(np.float32)),
    "f32_adam_m": ("F32", lambda rng, w: w * np.float32(1e-4)),
    "f32_adam_v": ("F32", lambda rng, w: w**2 * np.float32(1e-8)),
    "i8": ("I8", lambda rng, w: row_codes(w, 127)),
    "i4_bytes": ("U8", lambda rng, w: packed(group_codes(w), 4, (0, 1), np.uint8)),
    "i4_gptq": ("I32", lambda rng, w: packed(group_codes(w).T, 4, tuple(range(8)), np.uint32)),
    "i4_awq": ("I32", lambda rng, w: packed(group_codes(w), 4, AWQ_ORDER, np.uint32)),
    "i3_in_nibbles": ("U8", lambda rng, w: packed(row_codes(w, 3) + 3, 4, (0, 1), np.uint8)),
    "ternary_2bit": ("U8", lambda rng, w: packed(ternary(w), 2, (0, 1, 2, 3), np.uint8)),
    "f4_mxfp4": ("F4", lambda rng, w: mxfp4(w)[0]),
    "e8m0_scales": ("F8_E8M0", lambda rng, w: mxfp4(w)[1]),
    "u8_codebook": ("U8", lambda rng, w: product_codes(rng, w.size)),
    "noise": ("U8", lambda rng, w: rng.integers(0, 256, w.size, dtype=np.uint8)),
    "zeros": ("U8", lambda rng, w: np.zeros(w.size, dtype=np.uint8)),
    **{f"gguf_{name}": ("", lambda rng, w, code=code: code(w)) for name, (code, _) in gguf_blocks.FORMATS.items()},
}

LEAST = {"zeros": 64 << 20}
"""Bytes: a file of the size that the bars are set for. Of one that takes some hundred bytes, headers are most."""
LARGEST = {"e8m0_scales": 1 << 20, "zeros": 64 << 20}
LARGEST_OTHERS = 16 << 20
"""Bytes: these rows are many, and zstd -19 is slow on them."""


def cast_tensors(name: str, size: int) -> list[Tensor]:
    dtype, cast = CASTS[name]
    rng = np.random.default_rng(corpus.SEED)
    size = min(max(size, LEAST.get(name, 0)), LARGEST.get(name, LARGEST_OTHERS))
    found = []
    while size > 0:
        plain = np.ascontiguousarray(cast(rng, corpus.tensor(rng))).tobytes()[:size]
        found.append(Tensor(dtype, plain))
        size -= len(plain)
    return found


def tied_embedding(size: int) -> list[Tensor]:
    """A tensor and, 1000 bytes later, the same again."""
    (first, *_) = corpus.tensors("bf16", 1)
    plain = first.tobytes()[: size // 2]
    between = np.random.default_rng(corpus.SEED).bytes(1000)
    return [Tensor("BF16", plain), Tensor("U8", between), Tensor("BF16", plain)]


def text(size: int) -> list[Tensor]:
    """The tokenizer (JSON) of the trained model."""
    return [Tensor("", Path(corpus.trained_model_path()).with_name("tokenizer.json").read_bytes()[:size])]


def tensors(name: str, size: int) -> list[Tensor]:
    """The tensors of a row, `size` bytes or a tensor's worth more; the trained model as it is."""
    if name == "bf16_tied_embedding":
        return tied_embedding(size)
    if name == "text":
        return text(size)
    if name in CASTS:
        return cast_tensors(name, size)
    if name in corpus.TRAINED:
        return [Tensor(corpus.LAYOUTS[name], values.tobytes()) for values in corpus.trained(name)]
    return [Tensor(corpus.LAYOUTS[name], values.tobytes()) for values in corpus.tensors(name, size)]


def as_file(parts: list[Tensor], past: int = 0) -> bytes:
    """The row as a safetensors file, whose data begins `past` bytes behind a multiple of 8, or its bytes alone when it
    has no dtype.
    """
    if not parts[0].dtype:
        return b"".join(part.plain for part in parts)
    header, end = {}, 0
    for number, (dtype, plain) in enumerate(parts):
        shape = [len(plain) * 8 // DTYPES[dtype][0]]
        header[f"layers.{number}"] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(plain)]}
        end += len(plain)
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8 + past)
    return b"".join([len(written).to_bytes(8, "little"), written, *(part.plain for part in parts)])


def joint_entropy(parts: list[Tensor]) -> float | None:
    """Bytes: order-0 entropy of the 16-bit words of each tensor, summed; None unless all have 1 M words or more."""
    if any(part.dtype != "BF16" or len(part.plain) < 2 << 20 for part in parts):
        return None
    return sum(table.entropy(np.frombuffer(part.plain, dtype="<u2"), 16) for part in parts)


NAMES = (*corpus.NAMES, corpus.EMBEDDING, *CASTS, "bf16_tied_embedding", "text")
NEAR_ZSTD_19 = (
    *("bf16_half_zero", "bf16_2_of_4", "bf16_gradient", "bf16_16_values", "f32_200_values"),
    *("i8", "i4_bytes", "i4_gptq", "i4_awq", "i3_in_nibbles", "ternary_2bit", "f4_mxfp4", "e8m0_scales"),
    *("u8_codebook", "zeros"),
)
"""Rows of integers, codes, few values or many zeros: never to be more than 1 % larger than zstd -19 makes them."""
