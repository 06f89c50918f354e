"""What the C encoder and `zipfs.compress` write, decoded by the reference decoder: every dtype, level, chunk size and
awkward length.
"""

import json
import struct

import numpy as np
import pytest
from both import native_decode
from forge import Chunk, Forged
from reference import Container, decode
from reference_chunk import LAYOUTS, RUNS, decode_chunk, parse_runs
from reference_common import xxh3

import zipfs
from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2

SEED = 20261122
CHUNK = 1 << 16
LEVELS = range(3)
PLAIN_LAYOUTS = {id: layout for id, layout in LAYOUTS.items() if not layout.is_joint}
"""Those that a segment may have; whether to use the joint one of a dtype is the encoder's choice."""


def weights(name: str, size: int, rng: np.random.Generator) -> bytes:
    """`size` bytes of elements of a layout, as trained weights have them; integers are small, of both signs."""
    width = next(layout.width for layout in LAYOUTS.values() if layout.name == name)
    n = size // width + 1
    floats = rng.normal(0, 0.02, n)
    match name:
        case "BF16":
            data = (floats.astype("<f4").view("<u4") >> 16).astype("<u2")
        case "F16" | "F32" | "F64":
            data = floats.astype(f"<f{width}")
        case "F8_E5M2":
            data = (floats.astype("<f2").view("<u2") >> 8).astype("u1")
        case "F8_E4M3":
            magnitude = np.clip((floats.astype("<f2").view("<u2") >> 7 & 0xFF).astype(int) - 40, 0, 0x7E)
            data = (magnitude | (floats < 0) << 7).astype("u1")
        case _:
            data = (floats * 500).astype(f"<i{width}")
    return data.tobytes()[:size]


def text(size: int, rng: np.random.Generator) -> bytes:
    words = [json.dumps({"token": int(i), "score": float(x)}) for i, x in enumerate(rng.normal(size=size // 30 + 1))]
    return "\n".join(words).encode()[:size].ljust(size, b" ")


def mixture(size: int, rng: np.random.Generator) -> bytes:
    """Weights of two dtypes, noise, zeros and text, joined at odd offsets: for the guess."""
    part = size // 5
    parts = [weights("BF16", part | 1, rng), weights("F32", part | 1, rng), rng.bytes(part), bytes(part)]
    return (b"".join(parts) + text(size, rng))[:size]


def repeated(size: int, rng: np.random.Generator) -> bytes:
    return (rng.bytes(97) * (size // 97 + 1))[:size]


DATA = {
    layout.name: lambda size, rng, name=layout.name: weights(name, size, rng) for layout in PLAIN_LAYOUTS.values()
} | {
    "text": text,
    "noise": lambda size, rng: rng.bytes(size),
    "zeros": lambda size, rng: bytes(size),
    "ones": lambda size, rng: b"\xff" * size,
    "mixture": mixture,
    "repeated": repeated,
}


def encode(data: bytes, layout: int, level: int = 1, chunk_log2: int = 16, start: int = 0) -> list[Chunk]:
    """The chunks that C makes of data; elements of `layout` from plain offset `start` on."""
    segment = struct.pack("<QQII", start, len(data) - start, layout, 0)
    out = bytearray(len(data))
    entries = _native.Codec(chunk_log2).encode(data, 0, segment, level, out)
    chunks, at = [], 0
    for number, (size, kind, stored_hash, plain_hash) in enumerate(entries):
        plain = data[number << chunk_log2 : (number + 1) << chunk_log2]
        payload = bytes(out[at : at + size])
        assert (stored_hash, plain_hash) == (xxh3(payload, number), xxh3(plain, 0))
        chunks.append(Chunk(payload, kind, plain))
        at += size
    return chunks


def check(data: bytes, layout: int, level: int = 1, chunk_log2: int = 16, start: int = 0) -> list[Chunk]:
    chunks = encode(data, layout, level, chunk_log2, start)
    for chunk in chunks:
        assert decode_chunk(chunk.payload, chunk.kind, len(chunk.plain)) == chunk.plain
    container = Forged(chunks, chunk_log2).seal()
    assert decode(container) == native_decode(container) == data
    return chunks


def layout_ids(name: str) -> list[int]:
    """The layout of the data and the guess, or the guess alone."""
    return [_native.LAYOUTS[name], _native.LAYOUTS["GUESS"]] if name in _native.LAYOUTS else [_native.LAYOUTS["GUESS"]]


def test_layout_ids():
    """Those of the format; numbers of 255 and more mean something to the encoder alone."""
    assert {name: id for name, id in _native.LAYOUTS.items() if id < 255} == {
        layout.name: id for id, layout in PLAIN_LAYOUTS.items()
    }


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", DATA)
def test_every_kind_of_data(name, level):
    rng = np.random.default_rng([SEED, level])
    for layout in layout_ids(name):
        check(DATA[name](2 * CHUNK + 4321, rng), layout, level)


@pytest.mark.parametrize(
    "size", [1, 2, 3, 7, 8, 9, 255, 256, 257, 4095, 4097, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK + 1]
)
def test_lengths(size):
    rng = np.random.default_rng([SEED, size])
    for name in ("BF16", "F32", "F64", "F8_E4M3", "text", "noise", "zeros"):
        for layout in layout_ids(name):
            check(DATA[name](size, rng), layout)


@pytest.mark.parametrize("name", ["BF16", "F16", "F32", "F8_E4M3", "F8_E5M2"])
def test_joint_layouts_are_used(name):
    """The joint layout of a dtype codes its trained weights."""
    chunks = check(weights(name, 2 * CHUNK, np.random.default_rng(SEED)), _native.LAYOUTS[name])
    found = {run.layout for chunk in chunks for run in parse_runs(chunk.payload, len(chunk.plain))}
    assert f"{name}_JOINT" in {LAYOUTS[id].name for id in found if id in LAYOUTS}


@pytest.mark.parametrize("layout", PLAIN_LAYOUTS)
def test_data_of_another_layout(layout):
    """A layout is no promise: any bytes may be cut by any."""
    rng = np.random.default_rng([SEED, layout])
    for name in ("F32", "text", "noise", "zeros", "I64"):
        check(DATA[name](CHUNK + 777, rng), layout)


@pytest.mark.parametrize("start", [1, 3, 5, 4099, CHUNK - 3])
def test_phase(start):
    """Elements that begin anywhere: runs with a head, also where a chunk cuts an element."""
    rng = np.random.default_rng([SEED, start])
    for name in ("BF16", "F32", "F64"):
        data = rng.bytes(start) + weights(name, 2 * CHUNK, rng)
        chunks = check(data, _native.LAYOUTS[name], start=start)
        phases = {
            run.phase for chunk in chunks if chunk.kind == RUNS for run in parse_runs(chunk.payload, len(chunk.plain))
        }
        assert phases - {0}, "nothing here has a phase"


@pytest.mark.parametrize("chunk_log2", range(16, 23))
def test_chunk_sizes(chunk_log2):
    rng = np.random.default_rng([SEED, chunk_log2])
    data = weights("BF16", (1 << chunk_log2) + 12345, rng)
    check(data, _native.LAYOUTS["BF16"], chunk_log2=chunk_log2)


def test_special_floats():
    """Infinities, NaNs with payloads, both zeros, subnormals: bits are bits."""
    rng = np.random.default_rng(SEED)
    for name in ("BF16", "F16", "F32", "F64"):
        width = LAYOUTS[_native.LAYOUTS[name]].width
        data = bytearray(weights(name, CHUNK, rng))
        for special in (
            b"\0" * width,
            b"\xff" * width,
            b"\0" * (width - 1) + b"\x80",
            b"\0" * (width - 2) + b"\x80\x7f",
            b"\1" + bytes(width - 1),
        ):
            for at in rng.integers(0, CHUNK // width, 50):
                data[at * width : (at + 1) * width] = special
        check(bytes(data), _native.LAYOUTS[name])


def safetensors_file(rng: np.random.Generator) -> tuple[bytes, dict[str, tuple[str, list[int], int, int]]]:
    """A file with a tensor of each float dtype, an empty one and integers, and what it says of them: dtype, shape,
    offset, size.
    """
    tensors, body = {}, b""
    for name, dtype, shape in (
        ("a", "BF16", [300, 200]), ("b", "F32", [100, 301]), ("c", "F16", [77]), ("empty", "F32", [0, 4]),
        ("d", "F64", [5000]),
        ("e", "F8_E4M3", [9999]), ("f", "F8_E5M2", [123, 45]), ("g", "I64", [1000]), ("h", "U8", [301]),
    ):  # fmt: skip
        layout = dtype if dtype in _native.LAYOUTS else "BYTES"
        data = weights(layout, int(np.prod(shape)) * LAYOUTS[_native.LAYOUTS[layout]].width, rng)
        tensors[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    head = json.dumps(tensors).encode()
    start = 8 + len(head)
    said = {
        name: (t["dtype"], t["shape"], start + t["data_offsets"][0], np.diff(t["data_offsets"])[0])
        for name, t in tensors.items()
    }
    return struct.pack("<Q", len(head)) + head + body, said


@pytest.mark.parametrize("level", ["fast", "default", "max"])
def test_compress(tmp_path, level):
    """Whole containers of the writer: plain bytes, SHA-256 and the segment table."""
    plain, said = safetensors_file(np.random.default_rng(SEED))
    source, target = tmp_path / "model.safetensors", tmp_path / "model.safetensors.zipfs"
    source.write_bytes(plain)
    zipfs.compress(source, target, level=level)
    container = Container(target.read_bytes())
    assert container.plain() == plain == native_decode(target.read_bytes())
    assert container.header.sha256 is not None
    assert container.header.level == ["fast", "default", "max"].index(level)
    found = {s.name: (s.dtype, list(s.shape), s.offset, s.plain_size) for s in container.segments()}
    assert {name: found[name] for name in said if name in found} == {
        name: value for name, value in said.items() if name in found
    }
    assert set(said) - set(found) <= {"empty"}
    assert sum(s.stored_size for s in container.segments()) < len(plain) * 0.9


@pytest.mark.parametrize("size", [0, 1, 3, *((1 << CHUNK_LOG2) + i for i in (-1, 0, 1))])
@pytest.mark.parametrize("name", ["BF16", "text", "zeros", "noise"])
def test_compress_lengths(tmp_path, name, size):
    """A container is made of any length when it is asked for by name."""
    plain = DATA[name](size, np.random.default_rng([SEED, size]))
    source, target = tmp_path / "x.bin", tmp_path / "x.bin.zipfs"
    source.write_bytes(plain)
    zipfs.compress(source, target)
    assert decode(target.read_bytes()) == plain == native_decode(target.read_bytes())
