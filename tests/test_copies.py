"""Equal tensors of one file are stored once: sizes, bytes by every way to read, damage, determinism."""

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from both import native_decode
from models import Tensor, tensor, write_safetensors
from reference import Container
from reference_chunk import COPY
from reference_common import Rejected

import zipfs
from zipfs import _native, duplicates, writer
from zipfs.batch import Batch
from zipfs.errors import CorruptError
from zipfs.estimate import estimate
from zipfs.info import file_info
from zipfs.output import Output
from zipfs.pipeline import CHUNK_LOG2, Pipeline, PipelinePool
from zipfs.source import Source
from zipfs.verify import verify

CHUNK = 1 << CHUNK_LOG2
LOSS = 2 * duplicates.MIN_PART
"""Plain bytes of a copied tensor that may be stored once more: a small part in its first chunk and in its last."""
EMBED = 5 * CHUNK // 2 + CHUNK // 6
"""Elements BF16 of the tied embeddings."""
PER_CHUNK = 100
"""Bytes of a chunk that copies, at most: run table, records and 16 bytes a copy."""


def compressed(tmp_path: Path, tensors: dict[str, Tensor], **options) -> Path:
    path = write_safetensors(tmp_path / "model.safetensors", tensors)
    zipfs.compress(path, tmp_path / "model.safetensors.zipfs", force=True, **options)
    return tmp_path / "model.safetensors.zipfs"


def check_bytes(rng, path: Path) -> None:
    """By the reference, by C, by random reads, by a decompressed file and by verify."""
    plain = path.with_suffix("").read_bytes()
    stored = path.read_bytes()
    assert Container(stored).plain() == plain == native_decode(stored)
    with zipfs.open(path) as file:
        assert file.readall() == plain
        for _ in range(100):
            offset, size = int(rng.integers(0, len(plain))), int(rng.integers(0, 3 * CHUNK))
            assert file.pread(size, offset) == plain[offset : offset + size]
    back = path.with_name("back")
    zipfs.decompress(path, back, force=True)
    assert back.read_bytes() == plain
    for fast in (False, True):
        assert list(verify(str(path), PipelinePool(), fast=fast)) == [(str(path), [])]


def stored_sizes(path: Path) -> dict[str, int]:
    return {segment["name"]: segment["stored_size"] for segment in file_info(str(path))["segments"]}


def most(tensor: Tensor) -> int:
    """The most that a tensor of these bytes may take as a copy."""
    return LOSS + PER_CHUNK * (len(tensor[2]) // CHUNK + 2)


@pytest.fixture
def tied(rng) -> dict[str, Tensor]:
    """Tied embeddings of 5 chunks and a bit, an odd number of bytes apart."""
    embed = tensor(rng, "BF16", [EMBED])
    return {
        "embed": embed,
        "bias": tensor(rng, "U8", [777]),
        "layer": tensor(rng, "F32", [13, CHUNK // 16]),
        "lm_head": embed,
        "norm": tensor(rng, "F32", [1001]),
    }


@pytest.mark.parametrize("level", ["fast", "default", "max"])
def test_tied_embeddings(rng, tmp_path, tied, level):
    path = compressed(tmp_path, tied, level=level)
    sizes = stored_sizes(path)
    assert sizes["lm_head"] < most(tied["embed"]) < 0.1 * sizes["embed"]
    check_bytes(rng, path)
    container = Container(path.read_bytes())
    assert container.header.has_copies
    assert file_info(str(path))["stored_size"] < sizes["embed"] + sizes["layer"] + LOSS + 8000


def test_without_equal_tensors_nothing_is_announced(rng, tmp_path, tied):
    """So that readers from before copies read the container."""
    different = tied | {"lm_head": tensor(rng, "BF16", [EMBED])}
    path = compressed(tmp_path, different)
    assert not Container(path.read_bytes()).header.has_copies
    assert path.read_bytes()[16:24] == bytes(8)


def test_three_equal_tensors(rng, tmp_path, tied):
    tensors = tied | {"third": tied["embed"]}
    path = compressed(tmp_path, tensors)
    sizes = stored_sizes(path)
    assert max(sizes["lm_head"], sizes["third"]) < most(tied["embed"])
    check_bytes(rng, path)


@pytest.mark.parametrize("size", [duplicates.MIN_TENSOR, 100_000, CHUNK - 2, CHUNK, CHUNK + 40_002])
def test_neighbours(rng, tmp_path, size):
    """Ten equal tensors in a row: some lie in the chunk of the first and are stored again."""
    one = tensor(rng, "BF16", [size // 2])
    path = compressed(tmp_path, {f"t{i}": one for i in range(10)})
    sizes = stored_sizes(path)
    assert sum(sizes.values()) < 0.68 * (size + CHUNK) + 10 * most(one)
    check_bytes(rng, path)


def test_equal_layers(rng, tmp_path):
    """Layers that are equal throughout, with tensors too small to be looked at between them."""
    shapes = {"q": [CHUNK // 4], "norm": [300], "up": [400, CHUNK // 1024], "bias": [17]}
    layer = {name: tensor(rng, "BF16", shape) for name, shape in shapes.items()}
    path = compressed(tmp_path, {f"{i}.{name}": value for i in range(12) for name, value in layer.items()})
    sizes = {name: size for name, size in stored_sizes(path).items() if name.endswith(("q", "up"))}
    assert sum(sizes.values()) < 2.5 * (sizes["0.q"] + sizes["0.up"])
    check_bytes(rng, path)


def test_runs_of_copies_are_joined(rng, tmp_path):
    """Neighbours that copy neighbours make one run: one pair of chunks to decode, not one for each."""
    tensors = {name: tensor(rng, "BF16", [CHUNK // 7]) for name in "abcdef"}
    path = compressed(tmp_path, tensors | {f"again {name}": value for name, value in tensors.items()})
    container = Container(path.read_bytes())
    copies = [layout for number in range(1, container.header.num_chunks) for layout in layouts(container, number)]
    assert copies.count(COPY) <= container.header.num_chunks
    check_bytes(rng, path)


def layouts(container: Container, number: int) -> list[int]:
    payload, kind, plain_size = container.payload(number)
    return [run[0] for run in _native.chunk_runs(payload, plain_size)] if kind else []


def test_tensors_that_differ_share_the_rest(rng, tmp_path, tied):
    """One byte of the second copy is other: its chunk is stored, the others are copies."""
    dtype, shape, data = tied["embed"]
    spoilt = bytearray(data)
    spoilt[3 * CHUNK] ^= 1
    other = (dtype, shape, bytes(spoilt))
    path = compressed(tmp_path, tied | {"lm_head": other})
    size = stored_sizes(path)["lm_head"]
    assert 0.6 * CHUNK < size < 0.7 * CHUNK + most(other)
    check_bytes(rng, path)


def test_tensors_of_one_value_are_no_copies(tmp_path, rng):
    zeros = ("F32", [CHUNK], bytes(4 * CHUNK))
    path = compressed(tmp_path, {"a": zeros, "b": zeros, "c": tensor(rng, "F32", [9])})
    assert not Container(path.read_bytes()).header.has_copies


def test_equal_samples_of_tensors_that_differ(rng, tmp_path, tied):
    """The candidates agree where they are looked at, and nowhere else."""
    dtype, shape, data = tied["embed"]
    other = bytearray(tensor(rng, dtype, shape)[2])
    middle = len(data) // 2
    other[middle - 4096 : middle + 4096] = data[middle - 4096 : middle + 4096]
    path = compressed(tmp_path, tied | {"lm_head": (dtype, shape, bytes(other))})
    assert not Container(path.read_bytes()).header.has_copies
    check_bytes(rng, path)


def test_threads_do_not_matter(tmp_path, tied):
    first, second = (compressed(tmp_path, tied, jobs=jobs).read_bytes() for jobs in (1, 7))
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("chunk_log2", [16, 18, 20])
def test_other_chunk_sizes(rng, tmp_path, tied, chunk_log2):
    plain = write_safetensors(tmp_path / "model.safetensors", tied | {"more": tied["embed"]})
    path = tmp_path / "model.safetensors.zipfs"
    with Pipeline(2, chunk_log2) as pipeline, Source(str(plain)) as source, Batch() as batch:
        output = Output(str(path), force=False)
        output.create()
        writer.write_container(source, output, pipeline, 1)
        batch.add(output)
    assert Container(path.read_bytes()).header.has_copies
    check_bytes(rng, path)


def test_many_threads_read_at_once(rng, tmp_path, tied):
    """Readers of copies and of what they copy, whole chunks and parts, do not wait for each other for ever."""
    path = compressed(tmp_path, tied | {"third": tied["embed"]})
    plain = path.with_suffix("").read_bytes()
    places = [(int(rng.integers(0, 4 * CHUNK)), int(rng.integers(0, len(plain)))) for _ in range(300)]
    places += [(4 * CHUNK, int(at) * CHUNK) for at in rng.integers(0, len(plain) // CHUNK, 300)]
    with zipfs.open(path) as file, ThreadPoolExecutor(16) as pool:
        for (size, offset), found in zip(places, pool.map(lambda place: file.pread(*place), places), strict=True):
            assert found == plain[offset : offset + size]


def test_the_estimate_knows(tmp_path, tied):
    path = compressed(tmp_path, tied)
    facts, _ = estimate(str(path.with_suffix("")))
    assert facts["stored_size"] == pytest.approx(path.stat().st_size, rel=0.03)


# ---- what goes wrong ---------------------------------------------------------------------------------------------


def damage(path: Path, number: int) -> None:
    with open(path, "r+b") as file:
        with _native.Reader(file.fileno()) as reader:
            offset = reader.entry(number)[0]
        file.seek(offset + 100)
        byte = file.read(1)[0]
        file.seek(offset + 100)
        file.write(bytes([byte ^ 8]))


def test_a_damaged_target(tmp_path, tied, capfd):
    """Its own bytes and those of its copies are lost, all others are not."""
    path = compressed(tmp_path, tied)
    plain = path.with_suffix("").read_bytes()
    damage(path, 2)
    lost = copying_from(path, 2)
    assert len(lost) == 2
    assert damaged_chunks(path, fast=True) == {2: "CHUNK_CHECKSUM"}
    assert damaged_chunks(path) == {2: "CHUNK_CHECKSUM"} | dict.fromkeys(lost, "BAD_TARGET")
    with zipfs.open(path) as file:
        for number in range(len(plain) // CHUNK + 1):
            offset = number * CHUNK
            if number in (2, *lost):
                with pytest.raises(CorruptError) as caught:
                    file.pread(100, offset)
                assert caught.value.chunk == number
                assert f"copies of damaged chunks in chunk {number}," in str(caught.value) or number == 2
            else:
                assert file.pread(CHUNK, offset) == plain[offset : offset + CHUNK]
    log = capfd.readouterr().err.splitlines()
    for number in lost:
        assert any(f"chunk {number}," in line and "CHUNK_CHECKSUM in chunk 2" in line for line in log), log
    with pytest.raises(CorruptError):
        zipfs.decompress(path, tmp_path / "lost")
    assert not (tmp_path / "lost").exists()


def copying_from(path: Path, target: int) -> list[int]:
    """Chunks that the reference cannot decode for want of `target`."""
    container = Container(path.read_bytes())
    result = []
    for number in range(container.header.num_chunks):
        try:
            container.chunk(number)
        except Rejected as error:
            if error.status == "BAD_TARGET":
                result.append(number)
    return result


def damaged_chunks(path: Path, fast: bool = False) -> dict[int, str]:
    """Damaged chunks and why, as verify tells."""
    [(_, failures)] = list(verify(str(path), PipelinePool(), fast=fast))
    return {chunk: error.status for error in failures for chunk in range(error.chunk, error.last_chunk + 1)}


def test_copies_of_other_bytes_get_no_name(tmp_path, tied, rng, monkeypatch):
    """Whatever is encoded as a copy is decoded from the finished file: had the comparison failed to see a difference,
    or the source changed between, nothing would be left.
    """
    dtype, shape, data = tied["embed"]
    other = bytearray(data)
    other[-CHUNK] ^= 1
    monkeypatch.setattr(duplicates.Duplicates, "_is_equal", lambda self, plain, part: True)
    with pytest.raises(_native.FormatError, check=lambda error: error.status == "PLAIN_CHECKSUM"):
        compressed(tmp_path, tied | {"lm_head": (dtype, shape, bytes(other))})
    assert os.listdir(tmp_path) == ["model.safetensors"]


# ---- the encoder -------------------------------------------------------------------------------------------------


SMALL = 1 << 16
BASE = 5 * SMALL


def encode(plain: bytes, copies: list[tuple[int, int, int]]) -> bytes:
    """Payload of chunk 5, of 64 KiB."""
    dst = bytearray(len(plain))
    [(stored_size, kind, _, _)] = _native.Codec(16).encode(plain, 5, b"", 1, dst, duplicates.packed(copies))
    assert kind == 1
    return bytes(dst[:stored_size])


@pytest.mark.parametrize(
    "copies",
    [
        [(BASE - 1, 100, 0)],
        [(BASE, SMALL + 1, 0)],
        [(BASE + SMALL - 10, 11, 0)],
        [(BASE + SMALL, 10, 0)],
        [(BASE, 0, 0)],
        [(BASE, 100, BASE - 99)],
        [(BASE, 100, BASE)],
        [(BASE, 100, (1 << 64) - 1)],
        [(BASE, (1 << 64) - 1, 0)],
        [(BASE, 100, 0), (BASE + 99, 100, 0)],
        [(BASE + 200, 100, 0), (BASE, 100, 0)],
        [(BASE + 100 * i, 100, 0) for i in range(9)],
    ],
)
def test_copies_that_make_no_sense(copies):
    with pytest.raises(ValueError):
        encode(np.random.default_rng(1).bytes(SMALL), copies)


def test_copies_at_the_limits(rng):
    plain = rng.bytes(SMALL)
    payload = encode(plain, [(BASE, SMALL, BASE - SMALL)])
    assert _native.chunk_runs(payload, SMALL) == [(COPY, 0, SMALL, 16)]
    payload = encode(plain, [(BASE + 1000 * i, 100 + i, 7 * i) for i in range(8)])
    runs = [run for run in _native.chunk_runs(payload, SMALL) if run[0] == COPY]
    assert runs == [(COPY, 0, 100 + i, 16) for i in range(8)]


def test_more_runs_than_a_chunk_may_have(rng):
    """Rather than that, the chunk is encoded without copies."""
    size = 1 << 18
    few = rng.integers(0, 5, size, np.uint8).tobytes()
    base = 7 * size
    segments = b"".join(struct.pack("<QQII", base + 4096 * i, 4096, (1, 3)[i % 2], 0) for i in range(64))
    dst = bytearray(size)
    for copies, expected in (
        ([(base + 8192, 4096, 9)], 1),
        ([(base + 10_000, 100, 9)], 0),
        ([(base + 10_000 * i, 100, 9) for i in range(8)], 0),
    ):
        [(stored_size, _, _, _)] = _native.Codec(18).encode(few, 7, segments, 1, dst, duplicates.packed(copies))
        runs = _native.chunk_runs(dst[:stored_size], size)
        assert [run[0] for run in runs].count(COPY) == expected
