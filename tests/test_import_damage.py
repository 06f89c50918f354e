"""Damaged files of ZipNN: an error that names file, place and reason, or plain bytes; never a crash, never a leftover.

ZipNN has no checksums, so flipped bits of raw bytes cannot be told from others.
"""

import json
import struct

import numpy as np
import pytest
from models import safetensors_bytes, tensor, weights

import zipfs
from zipfs.errors import ImportedFileError, UsageError
from zipfs.importers import Importer
from zipfs.importers.znn import Chain
from zipfs.importers.znn_frame import MAGIC
from zipfs.importers.znn_safetensors import MARKER
from zipfs.source import Source

pytest.importorskip("zipnn")
from znn_files import znn, znn_safetensors  # noqa: E402

NAMES = {"frame": "w.znn", "chain": "w.znn", "tensors": "w.znn.safetensors"}


@pytest.fixture
def samples(tmp_path, rng):
    """A small file of each kind, with coded and raw pieces: {kind: bytes}."""
    chained = weights(rng, "F32", 300)
    plain = tmp_path / "plain.safetensors"
    plain.write_bytes(
        safetensors_bytes({"a": tensor(rng, "BF16", [700]), "b": tensor(rng, "F32", [3])}, {"format": "pt"})
    )
    znn_safetensors(plain, tmp_path / "tensors")
    return {
        "frame": znn(weights(rng, "BF16", 1000)),
        "chain": znn(chained, "F32", is_streaming=True, streaming_chunk=512),
        "tensors": (tmp_path / "tensors").read_bytes(),
    }


def outcome(path, data: bytes) -> bytes | str | None:
    """The plain bytes, or the error's text, or None for a file like others."""
    path.write_bytes(data)
    with Source(str(path)) as source, Importer() as importer:
        try:
            imported = importer.open(source)
            return None if imported is None else imported.pread(imported.size, 0)
        except (ImportedFileError, UsageError) as error:
            assert str(error).startswith(f"{path}: ")
            assert isinstance(error, UsageError) or ", at byte " in str(error)
            return str(error)


@pytest.mark.parametrize("kind", NAMES)
def test_every_truncation(tmp_path, samples, kind):
    data, path = samples[kind], tmp_path / NAMES[kind]
    whole = outcome(path, data)
    assert type(whole) is bytes
    recognised = {"frame": 2, "chain": 2, "tensors": 8 + int.from_bytes(samples["tensors"][:8], "little")}[kind]
    for size in range(len(data)):
        cut = outcome(path, data[:size])
        if size < recognised:
            assert cut is None, size
        elif kind == "chain" and type(cut) is bytes:
            assert whole.startswith(cut), "a chain may end after any frame"
        else:
            assert type(cut) is str, size
    assert sum(data.startswith(MAGIC, i) for i in range(len(data))) >= {"frame": 1, "chain": 3, "tensors": 1}[kind]


@pytest.mark.parametrize("kind", NAMES)
def test_every_byte_flipped(tmp_path, samples, kind, rng):
    data, path = samples[kind], tmp_path / NAMES[kind]
    errors = 0
    for i in range(len(data)):
        for flip in {1, int(rng.integers(1, 256))}:
            damaged = bytearray(data)
            damaged[i] ^= flip
            errors += type(outcome(path, bytes(damaged))) is str
    assert errors > 100


def test_every_u64_of_a_frame_can_be_anything(tmp_path, samples):
    """Lengths and table entries that overflow, run backwards or point outside."""
    data, path = samples["frame"], tmp_path / "w.znn"
    for at in range(13, 80):
        for value in (0, 1, 1 << 31, 1 << 32, 1 << 50, (1 << 50) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
            damaged = data[:at] + struct.pack("<Q", value) + data[at + 8 :]
            plain = outcome(path, damaged)
            assert type(plain) is str or len(plain) == int.from_bytes(damaged[16:24], "little")


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (2, 1, "is written by ZipNN 1.5.4, whose layout is not known, at byte 2"),
        (3, 2, "is written by ZipNN 0.2.4"),
        (5, 11, "has the unknown dtype 6 or byte order 11, 1, at byte 5"),
        (7, 5, "has an unknown method"),
        (10, 1, "was compressed with loss, at byte 10"),
        (13, 1, "has an unknown method, input format, delta type or streaming mode"),
        (14, 2, "has chunks of 2^2 bytes"),
        (15, 13, "has the unknown dtype 13"),
        (22, 255, "plain bytes, out of bounds"),
        (24, 255, "is cut off: a frame of"),
        (32, 2, "has a wrong table entry for chunk 0"),
        (34, 255, "has groups that do not fill their frame, at byte 32"),
        (50, 0, "has damaged bytes for chunk 0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, rng, at, value, message):
    damaged = bytearray(znn(bytes(1000 * 2) + weights(rng, "BF16", 1000)))
    damaged[at] = value
    source = tmp_path / "w.znn"
    source.write_bytes(damaged)
    with pytest.raises(ImportedFileError) as caught:
        zipfs.compress(source, tmp_path / "w.zipfs")
    assert message in str(caught.value)
    assert caught.value.path == str(source)
    assert source.read_bytes() == damaged
    assert [file.name for file in tmp_path.iterdir()] == ["w.znn"]


def test_bytes_behind_a_frame(tmp_path, samples):
    for tail in (b"x", samples["frame"], samples["chain"]):
        assert "goes on behind its last frame" in outcome(tmp_path / "w.znn", samples["frame"] + tail) or len(tail) == 1
        assert type(outcome(tmp_path / "w.znn", samples["frame"] + tail)) is str


def test_a_long_piece_cannot_be_coded(tmp_path, rng):
    data = bytearray(znn(rng.bytes(1 << 20), compression_chunk=1 << 20))
    data[32] = 1
    assert "has a wrong table entry" in outcome(tmp_path / "w.znn", bytes(data))


def test_a_piece_stays_within_its_group(tmp_path):
    """Even where no other piece is read whose place would tell."""
    data = bytearray(znn(bytes(4 * (256 << 10))))
    end = 32 + 2 * 4
    assert data[end : end + 8] == struct.pack("<Q", 1), "a run of zeros takes a byte"
    data[end : end + 8] = struct.pack("<Q", 5)
    path = tmp_path / "w.znn"
    path.write_bytes(data)
    with Source(str(path)) as source, pytest.raises(ImportedFileError, match="wrong table entry for chunk 0"):
        Chain(source, "w").pread(10, 0)


def test_a_crafted_frame_costs_little(tmp_path):
    """A table for 2^50 bytes that is not there, and one that is: all pieces one byte, as of a file of zeros."""
    header = b"ZN\0\5\4\x0a\1\0\1" + bytes(5) + b"\x12\6" + struct.pack("<QQ", 1 << 50, 32)
    assert "too short for its table" in outcome(tmp_path / "w.znn", header)
    num_chunks = 64
    table = bytes([1]) * (2 * num_chunks) + struct.pack(f"<{num_chunks}Q", *range(1, num_chunks + 1)) * 2
    body = table + bytes(2 * num_chunks)
    header = header[:16] + struct.pack("<QQ", num_chunks << 18, 32 + len(body))
    assert outcome(tmp_path / "w.znn", header + body) == bytes(num_chunks << 18)


def retold(data: bytes, change) -> bytes:
    """A safetensors file whose header `change` has altered."""
    size = int.from_bytes(data[:8], "little")
    tree = json.loads(data[8 : 8 + size])
    marker = json.loads(tree["__metadata__"][MARKER])
    marker = change(marker)
    tree["__metadata__"][MARKER] = marker if type(marker) is str else json.dumps(marker)
    text = json.dumps(tree).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


@pytest.mark.parametrize(
    "change",
    [
        lambda marker: "no JSON",
        lambda marker: "[" * 100_000,
        lambda marker: [1],
        lambda marker: marker | {"b": marker["a"]},
        lambda marker: marker | {"c": marker["a"]},
        lambda marker: {"a": marker["a"] | {"dtype": "float32"}},
        lambda marker: {"a": marker["a"] | {"dtype": ["bfloat16"]}},
        lambda marker: {"a": marker["a"] | {"shape": "[701]"}},
        lambda marker: {"a": marker["a"] | {"shape": 700}},
        lambda marker: {"a": {}},
        lambda marker: {"a": None},
    ],
)
def test_marker_that_lies(tmp_path, samples, change):
    assert type(outcome(tmp_path / "w.znn.safetensors", retold(samples["tensors"], dict))) is bytes
    text = outcome(tmp_path / "w.znn.safetensors", retold(samples["tensors"], change))
    assert type(text) is str


def test_frame_that_does_not_fill_its_tensor(tmp_path, rng, samples):
    """Bytes behind it, or a frame of bytes, which has no shape."""
    with Source(str(tmp_path / "tensors")) as source:
        (segment,) = [segment for segment in source.segments() if segment.name == "a"]
    frame = samples["tensors"][segment.offset : segment.offset + segment.size]
    marker = {MARKER: json.dumps({"a": {"dtype": "bfloat16", "shape": "[700]"}})}
    for data, fits in ((frame, True), (frame + b"x", False), (znn(weights(rng, "BF16", 700)), False)):
        path = tmp_path / "w.znn.safetensors"
        text = outcome(path, safetensors_bytes({"a": ("U8", [len(data)], data)}, marker))
        assert type(text) is bytes if fits else "has a frame that does not fill the tensor 'a'" in text


def test_noise(tmp_path, rng):
    for _ in range(300):
        data = MAGIC + rng.bytes(int(rng.integers(0, 300)))
        assert type(outcome(tmp_path / "w.znn", data)) is str
    head = np.frombuffer(znn(weights(rng, "BF16", 1000)), np.uint8)[:50]
    for _ in range(300):
        data = head.tobytes() + rng.bytes(int(rng.integers(0, 3000)))
        data = data[:24] + struct.pack("<Q", len(data)) + data[32:]
        assert type(outcome(tmp_path / "w.znn", data)) is str
