"""The C codec through zipfs._native: round trips on every kernel, sizes, reference decoder, statistical guess."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
import zstandard
from reference_chunk import decode_chunk

from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2

CHUNK = 1 << CHUNK_LOG2
LAYOUTS = {"BYTES": 1, "BF16": 2, "F16": 2, "F32": 4, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1}
LAYOUTS |= {"I16": 2, "I32": 4, "I64": 8}
FAST, DEFAULT, MAX = range(3)

# What a child under ZIPFS_KERNEL does: encodes stdin as one segment, decodes it, and prints a hash of all entries.
CHILD = """
import sys
from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2
layout, level = int(sys.argv[1]), int(sys.argv[2])
import struct
plain = sys.stdin.buffer.read()
codec, dst = _native.Codec(CHUNK_LOG2), bytearray(len(plain))
entries = codec.encode(plain, 0, struct.pack("<QQII", 0, len(plain), layout, 0), level, dst)
offset, back = 0, bytearray(len(plain))
for number, entry in enumerate(entries):
    chunk = memoryview(back)[number << CHUNK_LOG2 : (number + 1) << CHUNK_LOG2]
    codec.decode(bytes(dst[offset : offset + entry[0]]), number, entry, chunk)
    offset += entry[0]
assert back == plain
print(_native.kernel(), _native.hash(repr(entries).encode()), _native.hash(dst[:offset]))
"""


def segments(*records: tuple[int, int, str]) -> bytes:
    return b"".join(struct.pack("<QQII", offset, size, _native.LAYOUTS[layout], 0) for offset, size, layout in records)


def encode(plain: bytes, table: bytes, level: int = DEFAULT) -> tuple[list[tuple[int, int, int, int]], bytes]:
    dst = bytearray(len(plain))
    entries = _native.Codec(CHUNK_LOG2).encode(plain, 0, table, level, dst)
    return entries, bytes(dst[: sum(entry[0] for entry in entries)])


def stored_size(plain: bytes, layout: str, level: int = DEFAULT) -> int:
    return len(encode(plain, segments((0, len(plain), layout)), level)[1])


def check(plain: bytes, table: bytes, level: int = DEFAULT) -> int:
    """Encodes, decodes in C and by the reference; returns the stored size."""
    entries, payloads = encode(plain, table, level)
    codec, offset = _native.Codec(CHUNK_LOG2), 0
    for number, entry in enumerate(entries):
        chunk = plain[number << CHUNK_LOG2 : (number + 1) << CHUNK_LOG2]
        payload = payloads[offset : offset + entry[0]]
        back = bytearray(len(chunk))
        codec.decode(payload, number, entry, back)
        assert back == chunk
        assert decode_chunk(payload, entry[1], len(chunk)) == chunk
        assert entry[2:] == (_native.hash(payload, number), _native.hash(chunk))
        offset += entry[0]
    return offset


def other_kernels() -> list[str]:
    """Kernels besides the portable one that this machine runs."""
    return [name for name in ("avx2", "avx512") if run_child(b"", "BYTES", name).returncode == 0]


def run_child(plain: bytes, layout: str, kernel: str, level: int = DEFAULT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(_native.LAYOUTS[layout]), str(level)],
        input=plain,
        capture_output=True,
        env=os.environ | {"ZIPFS_KERNEL": kernel},
        cwd=Path(__file__).parent.parent,
        check=False,
    )


def floats(rng: np.random.Generator, layout: str, size: int) -> bytes:
    dtype = layout if layout in models.FLOATS or layout in models.INTEGERS else "I8"
    return models.weights(rng, dtype, -(-size // LAYOUTS[layout]))[:size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 127, 128, 1025, 65537, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 9])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip(rng, layout, size):
    check(floats(rng, layout, size), segments((0, size, layout)))
    check(rng.bytes(size), segments((0, size, layout)))
    check(bytes(size), segments((0, size, layout)))


@pytest.mark.parametrize("level", [FAST, DEFAULT, MAX])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_levels(rng, layout, level):
    size = 40_001
    check(b"\1" + floats(rng, layout, size) + b"{}" * 2000, segments((1, size, layout)), level)


@pytest.mark.parametrize("layout", ["BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2"])
def test_special_values(rng, layout):
    """NaNs with payloads, infinities, subnormals and both zeros are bytes like others."""
    words = np.frombuffer(rng.bytes(50_000), np.uint8).copy()
    words[rng.integers(0, words.size, 30_000)] = 0xFF
    words[rng.integers(0, words.size, 10_000)] = 0x7F
    words[rng.integers(0, words.size, 10_000)] = 0x80
    check(words.tobytes(), segments((0, words.size, layout)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kernels_agree(rng, layout):
    plain = floats(rng, layout, CHUNK + 4321) + bytes(3000) + rng.bytes(70_000)
    scalar = run_child(plain, layout, "scalar")
    assert scalar.returncode == 0, scalar.stderr
    for name in other_kernels():
        child = run_child(plain, layout, name)
        assert child.returncode == 0, child.stderr
        assert child.stdout.split() == [name.encode(), *scalar.stdout.split()[1:]]


@pytest.mark.parametrize("name", ["neon9", "AVX512", "scalar "])
def test_unknown_kernel_is_an_error(name):
    child = run_child(b"x", "BYTES", name)
    assert child.returncode != 0
    assert b"Error" in child.stderr
    assert b"KERNEL" in child.stderr


@pytest.mark.parametrize(
    ("layout", "bound"),
    [("BF16", 0.68), ("F32", 0.84), ("F16", 0.87), ("F64", 0.90), ("F8_E4M3", 0.88), ("F8_E5M2", 0.76)],
)
def test_floats_shrink(rng, layout, bound):
    plain = floats(rng, layout, 4 * CHUNK)
    assert stored_size(plain, layout) < bound * len(plain)
    assert stored_size(plain, layout) < 1.01 * len(zstandard.compress(plain, 3))


def test_floats_of_narrow_origin(rng):
    """F32 that holds BF16 values is half zeros, and those cost nothing."""
    narrow = np.frombuffer(floats(rng, "BF16", CHUNK), np.uint16)
    wide = (narrow.astype(np.uint32) << 16).tobytes()
    assert stored_size(wide, "F32") < 0.34 * len(wide)


def zstd_size(plain: bytes) -> int:
    chunks = (plain[at : at + CHUNK] for at in range(0, len(plain), CHUNK))
    return sum(min(len(chunk), len(zstandard.compress(chunk, 3))) for chunk in chunks)


@pytest.mark.parametrize("layout", ["BYTES", "I16", "I32", "I64", "GUESS"])
def test_integers_and_bytes_are_at_least_zstd(rng, layout):
    width = LAYOUTS.get(layout, 1)
    ids = rng.zipf(1.3, 2 * CHUNK // width).clip(0, 100).astype(np.dtype(f"u{width}")).tobytes()
    ramp = np.arange(2 * CHUNK // width).astype(np.dtype(f"u{width}")).tobytes()
    text = b"".join(b'{"id": %d, "piece": "%x"}, ' % (i, i * i) for i in range(20_000))
    repeated = rng.bytes(5000) * 100
    for plain in (ids, ramp, text, repeated, rng.bytes(CHUNK)):
        slack = 40 * -(-len(plain) // CHUNK)  # run and plane records
        assert stored_size(plain, layout) <= zstd_size(plain) + slack


@pytest.mark.parametrize("layout", LAYOUTS)
def test_constant_planes_cost_next_to_nothing(layout):
    width = LAYOUTS[layout]
    element = bytes(range(0x3F, 0x3F + width))
    assert stored_size(element * (CHUNK // width), layout) < 110


def test_noise_is_stored(rng):
    plain = rng.bytes(3 * CHUNK)
    for layout in [*LAYOUTS, "GUESS"]:
        entries, payloads = encode(plain, segments((0, len(plain), layout)))
        assert [entry[:2] for entry in entries] == [(CHUNK, 0)] * 3
        assert payloads == plain


def test_max_is_no_larger_than_default(rng):
    plain = floats(rng, "BF16", 60_000) + b"the quick brown fox " * 3000 + np.arange(20_000, dtype="<u4").tobytes()
    table = segments((0, 60_000, "BF16"))
    sizes = [len(encode(plain, table, level)[1]) for level in (MAX, DEFAULT, FAST)]
    assert sizes[0] <= sizes[1] <= sizes[2]


def test_input_is_not_changed(rng):
    plain = bytearray(floats(rng, "F32", CHUNK))
    before = bytes(plain)
    _native.Codec(CHUNK_LOG2).encode(plain, 0, segments((0, CHUNK, "F32")), DEFAULT, bytearray(CHUNK))
    assert plain == before


def joined(rng: np.random.Generator, mean: int, total: int) -> tuple[bytes, bytes]:
    """Tensors and noise end to end, and the table that says what is where."""
    parts, records, offset = [], [], 0
    while offset < total:
        layout = ["BF16", "F32", "BYTES"][rng.integers(3)]
        size = int(mean * rng.uniform(0.3, 2))
        part = rng.bytes(size // 3 | 1) if layout == "BYTES" else floats(rng, layout, size // 4 * 4)
        parts.append(part)
        records.append((offset, len(part), layout))
        offset += len(part)
    return b"".join(parts), segments(*records)


def test_guess_finds_tensors_at_odd_offsets(rng):
    plain, table = joined(rng, 200_000, 16 * CHUNK)
    known, guessed = len(encode(plain, table)[1]), len(encode(plain, b"")[1])
    assert known < 0.9 * len(plain)
    assert guessed <= 1.01 * known


@pytest.mark.parametrize("scale", [0.05, 0.3, 1])
@pytest.mark.parametrize("share", [0.25, 0.4, 0.5, 0.75])
def test_guess_of_a_mixture_is_not_f16(rng, share, scale):
    """A chunk half of BF16, half of F32 of larger values was once taken for F16, which fits both about as well."""
    size = int(CHUNK * share) // 8 * 8
    bf16 = floats(rng, "BF16", size)
    f32 = (rng.standard_normal((CHUNK - size) // 4) * scale).astype(np.float32).tobytes()
    known = len(encode(bf16 + f32, segments((0, size, "BF16"), (size, len(f32), "F32")))[1])
    assert stored_size(bf16 + f32, "GUESS") <= 1.01 * known


@pytest.mark.parametrize("layout", ["BF16", "F16", "F32", "F64"])
def test_guess_of_one_dtype(rng, layout):
    """At every phase."""
    for phase in range(LAYOUTS[layout]):
        plain = rng.bytes(phase) + floats(rng, layout, 2 * CHUNK)
        known = len(encode(plain, segments((phase, 2 * CHUNK, layout)))[1])
        assert stored_size(plain, "GUESS") <= 1.005 * known


def small_integers(rng: np.random.Generator, size: int) -> bytes:
    return np.clip(rng.normal(0, rng.uniform(5, 50), size), -127, 127).astype(np.int8).tobytes()


@pytest.mark.parametrize("layout", ["BF16", "F16", "F32", "F64"])
@pytest.mark.parametrize("beside", [small_integers, np.random.Generator.bytes])
def test_guess_finds_floats_beside_bytes(rng, beside, layout):
    size, start = 60_000, int(rng.integers(10_000, CHUNK - 80_000))  # of less, F64 in noise saves hardly what it costs
    plain = beside(rng, start) + floats(rng, layout, size) + beside(rng, CHUNK - start - size)
    known = len(encode(plain, segments((0, start, "BYTES"), (start, size, layout)))[1])
    assert stored_size(plain, "GUESS") <= 1.005 * known


def test_runs_tell_layout_and_phase(rng):
    plain = b"x" * 2001 + floats(rng, "BF16", 100_000) + floats(rng, "F32", 100_000)
    entries, payloads = encode(plain, segments((2001, 100_000, "BF16"), (102_001, 100_000, "F32")))
    runs = _native.chunk_runs(payloads, len(plain))
    joint_bf16, joint_f32 = 10, 12
    assert [run[:3] for run in runs] == [(0, 0, 2001), (joint_bf16, 0, 100_000), (joint_f32, 0, 100_000)]
    assert sum(run[3] for run in runs) + 4 + 12 * 3 == entries[0][0] == len(payloads)


def test_a_changed_payload_is_found(rng):
    plain = floats(rng, "BF16", 30_000)
    entries, payloads = encode(plain, segments((0, len(plain), "BF16")))
    codec = _native.Codec(CHUNK_LOG2)
    for at in rng.integers(0, len(payloads), 50):
        broken = bytearray(payloads)
        broken[at] ^= 1 << rng.integers(8)
        with pytest.raises(_native.FormatError) as failure:
            codec.decode(broken, 0, entries[0], bytearray(len(plain)))
        assert failure.value.status == "CHUNK_CHECKSUM"
    with pytest.raises(_native.FormatError):
        codec.decode(payloads, 1, entries[0], bytearray(len(plain)))
