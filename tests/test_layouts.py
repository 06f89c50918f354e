"""One model, written by the real library of each format: the same tensors are found, and stored in as few bytes."""

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("gguf")
pytest.importorskip("onnx")

import model_files
import numpy as np
import torch
from safetensors.torch import load_file

import zipfs
from zipfs.info import file_info
from zipfs.layouts import Segment
from zipfs.source import Source

SPREAD = 0.003
"""By how much the stored sizes of the formats may differ."""


def find(path: Path) -> list[Segment]:
    with Source(str(path)) as source:
        return source.segments()


def write_all(folder: Path, tensors: model_files.Tensors) -> None:
    for name, write in model_files.WRITERS.items():
        write(folder / name, tensors)


@pytest.fixture(scope="module")
def trained(minilm) -> model_files.Tensors:
    return load_file(minilm / "model.safetensors")


@pytest.fixture(params=["F32", "F16", "BF16"])
def dtype(request) -> str:
    return request.param


def test_stored_sizes_are_those_of_safetensors(trained, dtype, tmp_path):
    tensors = model_files.cast(trained, dtype)
    (tmp_path / "plain").mkdir()
    write_all(tmp_path / "plain", tensors)
    zipfs.compress(tmp_path / "plain", tmp_path / "stored")
    sizes = {name: (tmp_path / f"stored/{name}.zipfs").stat().st_size for name in model_files.WRITERS}
    print({name: f"{size / sizes['model.safetensors'] - 1:+.4%}" for name, size in sizes.items()})
    assert max(sizes.values()) <= min(sizes.values()) * (1 + SPREAD)
    for name in model_files.WRITERS:
        found = {segment["name"]: segment for segment in file_info(str(tmp_path / f"stored/{name}.zipfs"))["segments"]}
        assert found.keys() == tensors.keys()
        known = [segment["dtype"] for segment in found.values() if segment["name"] != "embeddings.position_ids"]
        assert set(known) == {"V2" if name.endswith(".npz") and dtype == "BF16" else dtype}


def test_each_tensor_is_where_its_bytes_are(trained, dtype, tmp_path):
    small = {name: tensor for name, tensor in trained.items() if tensor.numel() < 1000}
    tensors = model_files.cast(small, dtype)
    write_all(tmp_path, tensors)
    os.truncate(tmp_path / "external.onnx_data", 1 << 20)  # from this size on files count as external data
    for name in model_files.WRITERS:
        data, found = (tmp_path / name).read_bytes(), find(tmp_path / name)
        assert {segment.name for segment in found} == tensors.keys(), name
        for segment in found:
            tensor = tensors[segment.name]
            assert segment.shape == tuple(tensor.shape)
            assert data[segment.offset : segment.offset + segment.size] == model_files.plain_bytes(tensor)


def test_names_do_not_matter(trained, tmp_path):
    tensors = {name: tensor for name, tensor in trained.items() if tensor.numel() < 1000}
    write_all(tmp_path, tensors)
    for number, name in enumerate(model_files.WRITERS):
        if name != "external.onnx_data":
            os.rename(tmp_path / name, tmp_path / f"sha256-{number:064}")
            assert len(find(tmp_path / f"sha256-{number:064}")) == len(tensors)


@pytest.mark.parametrize("name", ["inline.onnx", "model.npz"])
def test_tensors_at_odd_offsets(trained, dtype, tmp_path, name):
    """Only the segments know where elements begin; a byte more or less in front of them changes nothing."""
    tensors = model_files.cast({key: trained[key] for key in list(trained)[5:40]}, dtype)
    sizes, odd = [], set()
    for prefix in ("", "x", "xx", "xxx"):
        path = tmp_path / f"{prefix}{name}"
        model_files.WRITERS[name](path, {prefix + key: tensor for key, tensor in tensors.items()})
        odd |= {segment.offset % 4 for segment in find(path)}
        zipfs.compress(path, tmp_path / "stored.zipfs", force=True)
        sizes.append((tmp_path / "stored.zipfs").stat().st_size)
    model_files.write_safetensors(tmp_path / "model.safetensors", tensors)
    zipfs.compress(tmp_path / "model.safetensors", tmp_path / "stored.zipfs", force=True)
    sizes.append((tmp_path / "stored.zipfs").stat().st_size)
    assert odd == {0, 1, 2, 3}
    assert max(sizes) <= min(sizes) * (1 + SPREAD)


@pytest.fixture(scope="module")
def unlike() -> model_files.Tensors:
    """Neighbours of scales up to 30-fold apart, some half zeros, with small ones between: 12 MiB in F32."""
    rng = np.random.default_rng(7)
    found = {}
    for i in range(15):
        shape = (int(rng.uniform(600, 3400)), (64, 96, 128, 77)[i % 4])
        values = rng.standard_normal(shape) * 10 ** rng.uniform(-2.5, -1)
        if i % 4 == 3:
            values[rng.random(shape) < 0.5] = 0
        found[f"layer.{i}.weight"] = torch.from_numpy(values.astype(np.float32))
        if i % 3 == 0:
            found[f"layer.{i}.bias"] = torch.from_numpy(rng.standard_normal(shape[1]).astype(np.float32) / 100)
    return found


def test_neighbours_that_are_unlike(unlike, dtype, tmp_path):
    """Where they meet they are told apart, however they fall on chunks and windows."""
    tensors = model_files.cast(unlike, dtype)
    (tmp_path / "plain").mkdir()
    write_all(tmp_path / "plain", tensors)
    for prefix in ("x", "xx", "xxx"):
        odd = {prefix + key: tensor for key, tensor in tensors.items()}
        model_files.write_onnx(tmp_path / f"plain/{prefix}.onnx", odd)
    zipfs.compress(tmp_path / "plain", tmp_path / "stored")
    paths = [path for path in (tmp_path / "stored").iterdir() if path.name.partition(".onnx")[0] != "external"]
    sizes = {path.name: path.stat().st_size for path in [*paths, tmp_path / "stored/external.onnx_data.zipfs"]}
    print({name: f"{size / sizes['model.safetensors.zipfs'] - 1:+.4%}" for name, size in sizes.items()})
    assert len(sizes) == 9 and max(sizes.values()) <= min(sizes.values()) * (1 + SPREAD)
