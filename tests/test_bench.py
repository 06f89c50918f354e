"""The parts of scripts/bench that judge or simulate: entropies, bars, rows and containers that are what they say."""

import importlib
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import zipfs
from zipfs.layouts.safetensors import parse_safetensors

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
MODULES = (
    *("bars", "cores", "crowd", "flame", "gguf_blocks", "mount_cold", "mount_lru", "rows", "sparse_container"),
    *("unaligned", "verdicts"),
)
bars, cores, crowd, flame, gguf_blocks, mount_cold, mount_lru, rows, sparse_container, unaligned, verdicts = (
    importlib.import_module(f"benchmarks.{name}") for name in MODULES
)


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


def test_unaligned_tensors_are_unaligned(rng):
    """They begin at odd offsets, inside chunks, on a grid that is not the one before; no byte of them is lost."""
    plain = rng.bytes(4 << 20)
    parts = unaligned.apart(rng, unaligned.pieces(rng, "F32", plain))
    file = unaligned.at_odd_offset(parts)
    tensors = [segment for segment in file.segments() if segment.dtype == "F32"]
    assert b"".join(file.plain[one.offset : one.offset + one.size] for one in tensors) == plain
    assert tensors[0].offset % 2 == 1
    assert {(one.size // 4) % 2 for one in tensors[:-1]} == {1}
    assert all(100 << 10 <= one.size <= 700 << 10 for one in tensors[:-1])
    ends = [one.offset + one.size for one in tensors]
    assert all((after.offset - end) % 2 for end, after in zip(ends, tensors[1:], strict=False))


def test_two_threads_work_at_once():
    """Sleeping scales, what holds a lock does not."""
    lock = threading.Lock()

    def alone() -> None:
        with lock:
            time.sleep(0.02)

    with ThreadPoolExecutor(2) as pool:
        for call, wanted in ((lambda: time.sleep(0.02), 2), (alone, 1)):
            figures = cores.measure_pair([call, call], 1, 3, pool)
            assert figures["ratio"]["median"] == pytest.approx(wanted, rel=0.25)


def test_shares_hold_what_they_say():
    share = cores.Share("f8_e4m3", 2 << 20)
    share.decompress()
    assert share.chunk == share.plain[-len(share.chunk) :]
    assert len(share.decode_calls) == 4


def test_unaligned_bar_is_of_the_slowest_row():
    ratios = {"a": (1.0, 0.7), "b": (0.6, 0.4)}
    results = [{"case": "aligned", "base": ""}]
    for case, (compress, decompress) in ratios.items():
        results.append({"case": case, "base": "aligned", "compress_ratio": {"median": compress}})
        results[-1]["decompress_ratio"] = {"median": decompress}
    compress, decompress = bars.unaligned_bars(results)
    assert (compress["met"], compress["measured"], compress["note"]) == (True, 0.6, "2 of 2 rows, slowest: b")
    assert (decompress["met"], decompress["measured"], decompress["note"]) == (False, 0.4, "1 of 2 rows, slowest: b")


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


@pytest.mark.parametrize(("capacity", "hits"), [(1, 0), (2, 2), (3, 4)])
def test_exact_lru(capacity, hits):
    """By hand; with room for two, first in first out would hit once."""
    trace = [1, 2, 1, 3, 1, 2, 3]
    assert mount_lru.exact_hits(trace, capacity) == hits


def test_zipf_trace_is_skewed_and_scattered():
    trace = mount_lru.zipf_trace(64, 100_000)
    counts = np.sort(np.bincount(trace, minlength=64))[::-1]
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.1)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.1)
    assert list(np.argsort(-np.bincount(trace, minlength=64))[:4]) != [0, 1, 2, 3]


def test_speed_up_is_judged_by_what_the_disk_can_save():
    speeds = {"median": 1.0, "q1": 1.0, "q3": 1.0}
    row = {"dtype": "bf16", "way": "read", "disk": 0.5, "speed_up": speeds, "decoded_share": 1.0, "warm": speeds}
    for shrinks, warm_over_plain, met in ((1.5, 9.0, False), (1.05, 9.0, True), (1.5, 1.05, True), (1.5, 1.1, False)):
        hoped_for = mount_cold.hoped_for(shrinks, warm_over_plain)
        speed_up, decoded = mount_cold.bars([row | {"hoped_for": hoped_for}])
        assert (speed_up["met"], decoded["met"]) == (met, True)
    assert not mount_cold.bars([row | {"hoped_for": 1.0, "decoded_share": 0.97}])[1]["met"]
    assert mount_cold.break_even([row, row | {"warm": {"median": 3.0}}]) == {("bf16", "read"): 3.0}


def test_paired_ratios_are_paired():
    assert verdicts.ratios([2, 4, 6], [1, 2, 3])["median"] == 2


def test_sparse_container_is_one(tmp_path):
    size = sparse_container.write(tmp_path / "sparse.zipfs", 2, 16)
    assert size == 2 * 127 << 16
    zipfs.decompress(tmp_path / "sparse.zipfs", tmp_path / "sparse")
    assert (tmp_path / "sparse").read_bytes() == sparse_container.VALUE * size


def test_crowd_is_a_crowd():
    """Processes of their own, whose results are added up; one that fails is told."""
    own, _ = crowd.run([os.getpid] * 3)
    assert own != 3 * os.getpid()
    total, seconds = crowd.run([lambda: 1, lambda: 2])
    assert (total, seconds > 0) == (3, True)
    with pytest.raises(RuntimeError, match="failed"):
        crowd.run([lambda: 1, lambda: 1 // 0])


def test_flame_is_as_wide_as_its_samples(tmp_path):
    stacks = [[3, ["reader", "read"]], [1, ["reader", "seek"]], [4, ["daemon", "<decode>"]]]
    root = flame.tree(stacks)
    assert (root["count"], root["below"]["reader"]["count"], flame.depth(root)) == (8, 4, 3)
    flame.draw(stacks, tmp_path / "flame.svg", "all")
    text = (tmp_path / "flame.svg").read_text()
    assert text.count("<rect") == 6
    assert "&lt;decode&gt;: 4 samples" in text


def test_reports_of_several_runs_are_one(tmp_path):
    mount = pytest.importorskip("benchmarks.mount")
    for number in (1, 2):
        parts = {"lru": {"number": number}, "cold": [number], f"part{number}": {}}
        report = {"command": str(number), "machine": {"load": 0.5}, "left_out": {}, "told": {}, "parts": parts}
        (tmp_path / str(number)).write_text(json.dumps(report))
    merged = mount.merge([tmp_path / "1", tmp_path / "2"])
    assert merged["command"] == "1; 2"
    assert merged["parts"] == {"lru": {"number": 2}, "cold": [1, 2], "part1": {}, "part2": {}}


def test_profile_tells_by_the_innermost_frame_that_says_something():
    profile = importlib.import_module("benchmarks.mount_profile")
    locked = ["ksys_read", "filemap_add_folio", "_raw_spin_lock", "__list_add_valid_or_report"]
    assert profile.classify(locked).startswith("page cache: allocate")
    assert profile.classify(["op_read", "decode_chunk", "joint_merge_bf16"]) == "decode"
    assert profile.classify(["fuse_dev_do_read", "_copy_to_iter"]).startswith("copy")
    assert profile.classify(["main"]) == "other"
