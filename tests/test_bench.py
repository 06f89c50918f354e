"""The parts of scripts/bench that judge: entropies, bars, and rows that are what they say."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from zipfs.layouts.safetensors import parse_safetensors

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
bars, gguf_blocks, rows = (importlib.import_module(f"benchmarks.{name}") for name in ("bars", "gguf_blocks", "rows"))


def test_joint_entropy_is_of_each_tensor(rng):
    """Two tensors that have one word each, but another one: nothing to code."""
    constant = [rows.Tensor("BF16", np.full(1 << 20, word, dtype="<u2").tobytes()) for word in (7, 9)]
    assert rows.joint_entropy(constant) == 0
    words = rng.permutation(np.repeat(np.array([0, 1, 500, 65535], dtype="<u2"), 1 << 18))
    assert rows.joint_entropy([rows.Tensor("BF16", words.tobytes())]) == pytest.approx((1 << 20) * 2 / 8)
    assert rows.joint_entropy([rows.Tensor("BF16", words[1:].tobytes())]) is None
    assert rows.joint_entropy([rows.Tensor("F16", words.tobytes())]) is None


def test_size_bar_names_the_rows_that_miss_it():
    (bar,) = bars.size_bar("size", 1.0, {"a": 0.9, "b": 1.0, "c": 1.2, "d": 1.3})
    assert (bar["met"], bar["measured"], bar["note"]) == (False, 1.3, "2 of 4 rows; d 1.3000; c 1.2000")
    (bar,) = bars.size_bar("size", 1.0, {"a": 0.9, "b": 1.0})
    assert (bar["met"], bar["note"]) == (True, "2 of 2 rows")


def test_speed_bars_differ_by_kernel():
    figures = {"median": 3.5, "q1": 3.4, "q3": 3.6}
    codec = {"codec": "zipfs", "decompress_ratio": figures, "compress_ratio": figures}
    results = [{"data": "f32", "codecs": [codec]}]
    wanted = {"avx512": [(4, False), (4, False)], "avx2": [(2, True), (2, True)], "scalar": [(0.5, True)]}
    for kernel, expected in wanted.items():
        found = bars.speed_bars(kernel, results, is_best=False)
        assert [(bar["wanted"], bar["met"]) for bar in found] == expected


@pytest.mark.parametrize("name", ["bf16", "i4_awq", "f4_mxfp4", "ternary_2bit", "bf16_tied_embedding"])
def test_rows_are_safetensors_files(name):
    parts = rows.tensors(name, 1 << 20)
    file = rows.as_file(parts)
    header_size = int.from_bytes(file[:8], "little")
    segments = parse_safetensors(file[8 : 8 + header_size], len(file) - 8 - header_size)
    held = [(segment.dtype, file[segment.offset : segment.offset + segment.size]) for segment in segments]
    assert held == [tuple(part) for part in parts]


def test_awq_words_hold_eight_codes_in_its_order():
    (word,) = rows.packed(np.arange(8, dtype=np.uint8), 4, rows.AWQ_ORDER, np.uint32)
    assert hex(word) == "0x75316420"


@pytest.mark.parametrize(("name", "error"), [("q4_k", 0.08), ("q6_k", 0.02), ("q8_0", 0.006)])
def test_gguf_blocks_mean_the_weights(rng, name, error):
    gguf = pytest.importorskip("gguf")
    weights = rng.normal(0, 0.02, (64, 1024)).astype(np.float32)
    blocks = gguf_blocks.FORMATS[name][0](weights)
    kind = gguf.GGMLQuantizationType[name.upper()]
    back = gguf.quants.dequantize(blocks.reshape(64, -1), kind)
    assert np.sqrt(((back - weights) ** 2).mean()) < error * 0.02
    fields = gguf_blocks.FORMATS[name][1](blocks)
    parts = [values.size * bits for field, (values, bits) in fields.items() if field != "both together"]
    assert sum(parts) == blocks.size * 8, "the fields are all there is"
