"""Weights in GGUF's block quantisations, and the fields that their blocks consist of.

Q8_0 is quantised by the package gguf. For Q4_K and Q6_K, which it only reads, the scales of a block are searched here
for the least weighted error, as k-quants do: each sub-block gets a scale of its own, coded by the block's f16 scale.
"""

import numpy as np

from . import table
from .peers import CHUNK_SIZE, Missing

BLOCK_WEIGHTS = 256
Q4_MAX, Q4_SCALE_MAX = 15, 63
Q6_MIN, Q6_MAX, Q6_SCALE_MAX = -32, 31, 128


def library():
    """The module gguf."""
    try:
        import gguf
    except ImportError:
        raise Missing("gguf is not installed") from None
    return gguf


def closest_line(x: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(scale, minimum) with the least weighted squared error of `scale * codes + minimum`, minimum at most 0."""
    w, wx, wl = weight.sum(-1), (weight * x).sum(-1), (weight * codes).sum(-1)
    wll, wxl = (weight * codes * codes).sum(-1), (weight * x * codes).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = w * wll - wl * wl
        scale, minimum = (w * wxl - wx * wl) / determinant, (wll * wx - wl * wxl) / determinant
        positive = minimum > 0
        return np.where(positive, wxl / wll, scale), np.where(positive, 0, minimum)


def searched_line(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best (scale, minimum) over some trial ranges, for each sub-block (last axis) of x."""
    weight = np.sqrt((x * x).mean(-1, keepdims=True)) + np.abs(x)
    low, high = np.minimum(x.min(-1), 0), x.max(-1)
    best = np.full(low.shape, np.inf)
    scale, minimum = np.zeros_like(low), np.zeros_like(low)
    for levels in np.arange(Q4_MAX - 1, Q4_MAX + 1.05, 0.1, dtype=np.float32):
        codes = np.clip(np.round((x - low[..., None]) * (levels / (high - low))[..., None]), 0, Q4_MAX)
        trial, floor = closest_line(x, codes, weight)
        error = (weight * (trial[..., None] * codes + floor[..., None] - x) ** 2).sum(-1)
        better = error < best
        best = np.where(better, error, best)
        scale, minimum = np.where(better, trial, scale), np.where(better, floor, minimum)
    return scale, minimum


def coded_scales(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(f16 per block, 6-bit codes per sub-block) for scales of 0 or more."""
    top = scales.max(-1, keepdims=True)
    codes = np.clip(np.round(scales * (Q4_SCALE_MAX / np.where(top == 0, 1, top))), 0, Q4_SCALE_MAX).astype(np.uint8)
    return (top / Q4_SCALE_MAX).astype(np.float16), codes


def q4_k(weights: np.ndarray) -> np.ndarray:
    """(blocks, 144) bytes: d, dmin, 12 bytes of scales and minimums, 128 bytes of nibbles."""
    x = weights.reshape(-1, 8, 32)
    scale, minimum = searched_line(x)
    d, scales = coded_scales(scale)
    dmin, mins = coded_scales(-minimum)
    step, floor = d.astype(np.float32) * scales, dmin.astype(np.float32) * mins
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.clip(np.round((x + floor[..., None]) / step[..., None]), 0, Q4_MAX)
    codes = np.nan_to_num(codes).astype(np.uint8).reshape(-1, 4, 2, 32)
    packed = [scales[:, :4] | scales[:, 4:] >> 4 << 6, mins[:, :4] | mins[:, 4:] >> 4 << 6]
    packed.append(scales[:, 4:] & 15 | (mins[:, 4:] & 15) << 4)
    nibbles = (codes[:, :, 0] | codes[:, :, 1] << 4).reshape(-1, 128)
    return np.concatenate([d.view(np.uint8), dmin.view(np.uint8), *packed, nibbles], axis=1)


def searched_scale(x: np.ndarray) -> np.ndarray:
    """The scale of each sub-block (last axis) with the least error, larger weights counting more."""
    top = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)
    weight = x * x
    best, scale = np.zeros(x.shape[:-1]), np.zeros(x.shape[:-1], dtype=np.float32)
    for levels in np.arange(Q6_MIN - 0.9, Q6_MIN + 0.95, 0.1, dtype=np.float32):
        codes = np.clip(np.round(x * (levels / top)), Q6_MIN, Q6_MAX)
        wxl, wll = (weight * x * codes).sum(-1), (weight * codes * codes).sum(-1)
        gain = wxl * wxl / wll
        scale = np.where(gain > best, wxl / wll, scale)
        best = np.maximum(gain, best)
    return scale


def q6_k(weights: np.ndarray) -> np.ndarray:
    """(blocks, 210) bytes: 128 of low nibbles, 64 of high bits, 16 scales, d."""
    x = weights.reshape(-1, 16, 16)
    scale = searched_scale(x)
    top = np.take_along_axis(scale, np.abs(scale).argmax(-1)[:, None], -1)
    d = (-top / Q6_SCALE_MAX).astype(np.float16)
    scales = np.minimum(np.round(scale * (-Q6_SCALE_MAX / top)), Q6_SCALE_MAX - 1).astype(np.int8)
    step = (d.astype(np.float32) * scales)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.nan_to_num(np.clip(np.round(x / step), Q6_MIN, Q6_MAX)) - Q6_MIN
    codes = codes.astype(np.uint8).reshape(-1, 2, 4, 32)
    low = (codes & 15).reshape(-1, 2, 2, 64)
    low = (low[:, :, 0] | low[:, :, 1] << 4).reshape(-1, 128)
    high = sum((codes[:, :, i] >> 4) << 2 * i for i in range(4)).reshape(-1, 64)
    return np.concatenate([low, high.astype(np.uint8), scales.view(np.uint8), d.view(np.uint8)], axis=1)


def q8_0(weights: np.ndarray) -> np.ndarray:
    """(blocks, 34) bytes: d, 32 codes."""
    kind = library().GGMLQuantizationType.Q8_0
    blocks = library().quants.quantize(weights.reshape(-1, BLOCK_WEIGHTS), kind)
    return blocks.reshape(-1, 34)


def halves(name: str, block: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
    """The bytes of an f16 field: high (sign, exponent, 2 bits of mantissa) and low."""
    return {f"{name} high byte": (block[:, 1], 8), f"{name} low byte": (block[:, 0], 8)}


def q4_k_fields(blocks: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
    scales, mins = library().quants.Q4_K.get_scale_min(np.ascontiguousarray(blocks[:, 4:16]))
    nibbles = np.stack([blocks[:, 16:] & 15, blocks[:, 16:] >> 4])
    fields = halves("d", blocks[:, 0:2]) | halves("dmin", blocks[:, 2:4])
    return fields | {"scales": (scales, 6), "mins": (mins, 6), "nibbles": (nibbles, 4)}


def q6_k_fields(blocks: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
    packed_low, packed_high = blocks[:, :128].reshape(-1, 2, 64), blocks[:, 128:192].reshape(-1, 2, 1, 32)
    low = np.stack([packed_low & 15, packed_low >> 4], axis=2).reshape(-1, 2, 4, 32)
    high = packed_high >> np.arange(0, 8, 2, dtype=np.uint8).reshape(1, 1, 4, 1) & 3
    fields = {"low nibbles": (low, 4), "high bits": (high, 2), "both together": (low | high << 4, 6)}
    return fields | {"scales": (blocks[:, 192:208], 8)} | halves("d", blocks[:, 208:])


def q8_0_fields(blocks: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
    return halves("d", blocks[:, :2]) | {"codes": (blocks[:, 2:], 8)}


def measure(name: str, weights: np.ndarray) -> list[dict]:
    """[{format, field, bits, entropy, share}]: entropy in bits, chunk by chunk; share: of the file, in %."""
    quantise, fields_of = FORMATS[name]
    blocks = quantise(weights)
    step = CHUNK_SIZE // blocks.shape[1]
    sums: dict[str, tuple[float, float, int]] = {}
    for start in range(0, len(blocks), step):
        for field, (values, bits) in fields_of(blocks[start : start + step]).items():
            held, plain, _ = sums.get(field, (0, 0, bits))
            sums[field] = held + table.entropy(values, bits), plain + values.size * bits / 8, bits
    return [
        {
            "format": name,
            "field": field,
            "bits": bits,
            "entropy": held / plain * bits,
            "share": 100 * plain / blocks.size,
        }
        for field, (held, plain, bits) in sums.items()
    ]


def markdown(results: list[dict]) -> str:
    lines = []
    for one in results:
        saved = one["share"] * (1 - one["entropy"] / one["bits"])
        cells = [f"{one['format']}: {one['field']}", str(one["bits"]), f"{one['entropy']:.3f}"]
        lines.append([*cells, f"{one['share']:.2f}", f"{saved:.2f}"])
    return table.markdown(["GGUF field", "bits", "entropy, bits", "% of the file", "to be saved, % of the file"], lines)


FORMATS = {"q4_k": (q4_k, q4_k_fields), "q6_k": (q6_k, q6_k_fields), "q8_0": (q8_0, q8_0_fields)}
