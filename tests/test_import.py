"""Files of ZipNN are imported: their plain bytes, every one of them, become a container under the plain name."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from models import DTYPES, FLOATS, safetensors_bytes, tensor, weights

import zipfs
from zipfs.cli import main
from zipfs.estimate import estimate
from zipfs.importers.znn import Chain
from zipfs.info import file_info
from zipfs.pipeline import PipelinePool
from zipfs.source import Source
from zipfs.verify import verify

pytest.importorskip("zipnn")
from znn_files import DTYPES as ZNN_DTYPES  # noqa: E402
from znn_files import znn, znn_in_child  # noqa: E402

CHUNK = 256 << 10
SMALL_SIZES = [0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 1021, 4096]
SIZES = [*SMALL_SIZES, CHUNK - 1, CHUNK, CHUNK + 2, CHUNK + 5, 3 * CHUNK + 1001]
LOST_SIZES = {"F32": [size for size in SIZES if 0 < size % CHUNK < 4]}
"""ZipNN 0.5.4 dies of these."""


def imported(tmp_path, stored: bytes, name: str = "w.bin.znn", **options):
    """Compresses a file of these bytes into a folder; returns the container's path."""
    source, out = tmp_path / name, tmp_path / "out"
    source.write_bytes(stored)
    out.mkdir(exist_ok=True)
    zipfs.compress(source, out, force=True, **options)
    (container,) = out.iterdir()
    assert source.read_bytes() == stored
    return container


def plain_of(container) -> bytes:
    plain = container.with_name("plain")
    zipfs.decompress(container, plain)
    try:
        return plain.read_bytes()
    finally:
        plain.unlink()


def mixed(rng, dtype: str, size: int) -> bytes:
    """Weights with a stretch of zeros and one of noise, so that pieces of all kinds occur."""
    plain = bytearray(weights(rng, dtype, -(-size * 8 // DTYPES[dtype][0]))[:size])
    third = size // 3
    plain[:third] = bytes(third)
    plain[third : third + size // 4] = rng.bytes(size // 4)
    return bytes(plain)


@pytest.mark.parametrize("dtype", ZNN_DTYPES)
def test_dtypes(tmp_path, rng, dtype):
    for plain in (weights(rng, dtype, 2_600_000), mixed(rng, dtype, 5_000_000), bytes(1_000_000), rng.bytes(700_000)):
        container = imported(tmp_path, znn(plain, dtype))
        assert container.name == "w.bin.zipfs"
        assert plain_of(container) == plain


@pytest.mark.parametrize("dtype", ZNN_DTYPES)
def test_odd_sizes(tmp_path, rng, dtype):
    path = tmp_path / "w.znn"
    lost = []
    for size in SIZES:
        plain = weights(rng, dtype, -(-size * 8 // DTYPES[dtype][0]))[:size]
        if size in LOST_SIZES.get(dtype, []) or not znn_in_child(path, plain, dtype):
            lost.append(size)
        else:
            with Source(str(path)) as source:
                assert Chain(source, "w").pread(size + 1, 0) == plain, size
    assert set(lost) <= {size for size in SIZES if dtype == "F32" and size % 4}, "ZipNN wrote nothing to test"


@pytest.mark.parametrize("options", [{"compression_chunk": 1 << log2} for log2 in (12, 16, 20, 22)])
@pytest.mark.parametrize("dtype", ["BF16", "F32", "F8_E4M3"])
def test_chunk_sizes(tmp_path, rng, dtype, options):
    plain = mixed(rng, dtype, 1_500_000)
    assert plain_of(imported(tmp_path, znn(plain, dtype, **options))) == plain


@pytest.mark.parametrize("log2", [10, 16, 20, 22])
@pytest.mark.parametrize("dtype", ["BF16", "F32", "F8_E5M2"])
def test_chains(tmp_path, rng, dtype, log2):
    plain = mixed(rng, dtype, 300_000 if log2 == 10 else 5_000_004)
    stored = znn(plain, dtype, is_streaming=True, streaming_chunk=1 << log2)
    assert stored.count(b"ZN\x00\x05") >= len(plain) >> log2
    assert plain_of(imported(tmp_path, stored)) == plain


@pytest.mark.parametrize(
    "options",
    [{}, {"is_streaming": True, "streaming_chunk": 4096}, {"compression_chunk": 1 << 21}],
    ids=["frame", "chain", "long chunks"],
)
@pytest.mark.parametrize("dtype", ["BF16", "F32", "F8_E4M3"])
def test_any_range(tmp_path, rng, dtype, options):
    plain = mixed(rng, dtype, 1_200_000)
    path = tmp_path / "w.znn"
    path.write_bytes(znn(plain, dtype, **options))
    with Source(str(path)) as source:
        chain = Chain(source, "w")
        for _ in range(200):
            start = int(rng.integers(0, len(plain)))
            size = int(rng.integers(1, rng.choice([5, 3000, 600_000])))
            assert chain.pread(size, start) == plain[start : start + size], (start, size)


def test_hash_is_unknown(tmp_path, rng, capsys):
    plain = safetensors_bytes({"a": tensor(rng, "BF16", [300, 200]), "b": tensor(rng, "F32", [70, 60])})
    container = imported(tmp_path, znn(plain), "model.safetensors.znn")
    facts = file_info(str(container))
    assert facts["sha256"] is None
    assert [segment["name"] for segment in facts["segments"]] == ["a", "b"]
    assert main(["info", str(container)]) == 0
    assert "sha256       unknown: imported, the hash of the original file is not known" in capsys.readouterr().out
    with PipelinePool() as pipelines:
        assert list(verify(str(container), pipelines)) == [(str(container), [])]
    assert plain_of(container) == plain


def test_same_container_whatever_the_threads(tmp_path, rng):
    stored = znn(mixed(rng, "BF16", 5_000_000), is_streaming=True)
    containers = [imported(tmp_path, stored, jobs=jobs).read_bytes() for jobs in (1, 2, 5)]
    assert containers[0] == containers[1] == containers[2]


@pytest.mark.parametrize("options", [{}, {"is_streaming": True, "streaming_chunk": 1 << 16}], ids=["frame", "chain"])
def test_deltas(tmp_path, rng, options):
    base = mixed(rng, "F32", 3_000_000)
    plain = bytearray(base)
    plain[1_000_000:1_300_000] = weights(rng, "F32", 75_000)
    base_path = tmp_path / "old.bin"
    base_path.write_bytes(base)
    stored = znn(bytes(plain), "F32", base=base, **options)
    container = imported(tmp_path, stored, "new_delta_old.bin.znn", base=base_path)
    assert container.name == "new.bin.zipfs"
    assert plain_of(container) == plain
    assert base_path.read_bytes() == base


@pytest.mark.parametrize(
    ("name", "base", "expected"),
    [
        ("pytorch_model_delta_base.bin.znn", "base.bin", "pytorch_model.bin"),
        ("model.safeten_delta_base.safetensors.znn", "base.safetensors", "model.safetensors"),
        ("model.safetensors_delta_base.safetensors.znn", "base.safetensors", "model.safetensors"),
        ("model_delta_base.znn", "base.safetensors", "model.safetensors"),
        ("model_delta_base.znn", "base", "model.bin"),
        ("model.bin.znn", "base.bin", "model.bin"),
    ],
)
def test_names_of_deltas(tmp_path, rng, name, base, expected):
    plain, other = rng.bytes(4000), rng.bytes(4000)
    (tmp_path / base).write_bytes(other)
    container = imported(tmp_path, znn(plain, base=other), name, base=tmp_path / base)
    assert container.name == expected + ".zipfs"
    assert plain_of(container) == plain


def test_deltas_need_their_base(tmp_path, rng, capsys):
    plain, base = rng.bytes(4000), rng.bytes(4000)
    source = tmp_path / "x_delta_y.bin.znn"
    source.write_bytes(znn(plain, base=base))
    for name, data in (("y.bin", base[:-4]), ("z.bin", base)):
        (tmp_path / name).write_bytes(data)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(zipfs.UsageError, match=r"delta of ZipNN against y\.bin; say with --base"):
        zipfs.compress(source, out)
    with pytest.raises(zipfs.UsageError, match=r"against y\.bin, but the base given is called z\.bin"):
        zipfs.compress(source, out, base=tmp_path / "z.bin")
    with pytest.raises(zipfs.UsageError, match=r"delta of 4000 bytes, but its base .*y\.bin has 3996"):
        zipfs.compress(source, out, base=tmp_path / "y.bin")
    assert list(out.iterdir()) == []
    (tmp_path / "plain").write_bytes(plain)
    assert (
        main(["compress", str(tmp_path / "plain"), str(tmp_path / "p.zipfs"), "--base", str(tmp_path / "y.bin")]) == 0
    )
    assert "y.bin: is the base of no delta that was found" in capsys.readouterr().err


def test_estimate(tmp_path, rng):
    plain = weights(rng, "BF16", 500_000)
    container = imported(tmp_path, znn(plain))
    facts, failures = estimate(str(tmp_path / "w.bin.znn"))
    assert (facts["plain_size"], failures) == (len(plain), [])
    assert facts["stored_size"] == pytest.approx(container.stat().st_size, rel=0.01)


def test_explicit_name(tmp_path, rng):
    plain = rng.bytes(3000)
    (tmp_path / "w.znn").write_bytes(znn(plain))
    zipfs.compress(tmp_path / "w.znn", tmp_path / "other.zipfs")
    assert plain_of(tmp_path / "other.zipfs") == plain


def test_beside_its_plain_file(tmp_path, rng):
    (tmp_path / "w.znn").write_bytes(znn(rng.bytes(3000)))
    (tmp_path / "w").write_bytes(b"mine")
    with pytest.raises(zipfs.OutputExistsError, match=r"w: is there already; move it away"):
        zipfs.compress(tmp_path / "w.znn", tmp_path, force=True)
    assert (tmp_path / "w").read_bytes() == b"mine"


def test_source_that_changes(tmp_path, rng, monkeypatch):
    path = tmp_path / "w.znn"
    path.write_bytes(znn(weights(rng, "BF16", 500_000)))
    read_into = Chain.read_into

    def changing(self, buffer, offset):
        read_into(self, buffer, offset)
        os.utime(path, ns=(1, 1))

    monkeypatch.setattr(Chain, "read_into", changing)
    with pytest.raises(zipfs.SourceChangedError):
        zipfs.compress(path, tmp_path / "w.zipfs")
    assert [file.name for file in tmp_path.iterdir()] == ["w.znn"]


def test_memory_does_not_grow_with_the_frame(tmp_path, rng):
    plain = np.tile(np.frombuffer(weights(rng, "BF16", 1 << 20), np.uint8), 24).tobytes()
    path = tmp_path / "w.znn"
    path.write_bytes(znn(plain))
    buffer = memoryview(bytearray(2 << 20))
    with Source(str(path)) as source:
        tracemalloc.start()
        try:
            chain = Chain(source, "w")
            for start in range(0, len(plain), len(buffer)):
                chain.read_into(buffer, start)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 10 << 20


def test_imports_need_no_torch_and_others_no_numpy(tmp_path, rng):
    (tmp_path / "w.znn").write_bytes(znn(weights(rng, "BF16", 300_000)))
    (tmp_path / "plain").write_bytes(weights(rng, "BF16", 300_000))
    code = "import sys, zipfs; zipfs.compress(sys.argv[1], sys.argv[2]); print(*{'torch', 'numpy'} & set(sys.modules))"
    for name, loaded in (("plain", ""), ("w.znn", "numpy")):
        command = [sys.executable, "-c", code, tmp_path / name, tmp_path / (name + ".zipfs")]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == loaded


def test_every_dtype_of_zipnn_is_covered():
    from zipfs.importers.znn_frame import GROUPINGS

    assert {grouping.dtype for grouping in GROUPINGS.values()} == set(ZNN_DTYPES) <= set(FLOATS)
