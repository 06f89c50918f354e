"""zipfs.safetensors against the package it is the twin of, from containers and from plain files."""

import itertools
import json
import os
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from models import all_dtypes, safetensors_bytes, tensor, weights

import zipfs
from zipfs import safetensors as ours
from zipfs.pipeline import CHUNK_LOG2

UNKNOWN = {"layer.f6_e2m3", "layer.f6_e3m2"}
"""Neither torch nor numpy has these; safetensors refuses them as well."""
FRAMEWORKS = ("np", "pt")


@pytest.fixture(params=["container", "plain"])
def path(request, rng, tmp_path):
    """A file with a tensor of each dtype, an empty one and a scalar, of several chunks."""
    data = safetensors_bytes(all_dtypes(rng, rows=1500), metadata={"format": "pt", "é": "ü"})
    (tmp_path / "m.safetensors").write_bytes(data)
    if request.param == "plain":
        return tmp_path / "m.safetensors"
    zipfs.compress(tmp_path / "m.safetensors", tmp_path / "m.safetensors.zipfs")
    return tmp_path / "m.safetensors.zipfs"


@pytest.fixture
def plain(path):
    return path.with_name("m.safetensors")


def raw(found) -> bytes:
    if isinstance(found, torch.Tensor):
        packed = torch.empty(found.shape, dtype=found.dtype).copy_(found)
        return packed.reshape(-1).view(torch.uint8).numpy().tobytes() if found.numel() else b""
    return found.tobytes()


def same(mine, theirs) -> bool:
    return (
        type(mine) is type(theirs)
        and (mine.dtype, tuple(mine.shape)) == (theirs.dtype, tuple(theirs.shape))
        and (raw(mine) == raw(theirs))
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_dtype(path, plain, framework):
    with ours.safe_open(path, framework) as mine, safetensors.safe_open(plain, framework) as theirs:
        assert (mine.keys(), mine.offset_keys()) == (theirs.keys(), theirs.offset_keys())
        assert mine.metadata() == theirs.metadata() == {"format": "pt", "é": "ü"}
        compared = set()
        for name in set(mine.keys()) - UNKNOWN:
            part = mine.get_slice(name)
            assert (part.get_dtype(), part.get_shape()) == (
                theirs.get_slice(name).get_dtype(),
                theirs.get_slice(name).get_shape(),
            )
            try:
                expected = theirs.get_tensor(name)
            except AttributeError:  # numpy has no such dtype
                continue
            assert same(mine.get_tensor(name), expected), name
            compared.add(name)
        for name in UNKNOWN:
            with pytest.raises(safetensors.SafetensorError, match="Dtype not understood"):
                mine.get_tensor(name)
    assert len(compared) == (22 if framework == "pt" else 16)


def test_dtypes_that_numpy_has_from_ml_dtypes(path, plain):
    header = json.loads(plain.read_bytes()[8:].split(b"]}}")[0] + b"]}}")
    data = plain.read_bytes()[8 + int.from_bytes(plain.read_bytes()[:8], "little") :]
    with ours.safe_open(path, "np") as file:
        for name, dtype in (("f8_e4m3", ml_dtypes.float8_e4m3fn), ("f8_e8m0", ml_dtypes.float8_e8m0fnu)):
            found = file.get_tensor(f"layer.{name}")
            start, end = header[f"layer.{name}"]["data_offsets"]
            assert (found.dtype, found.tobytes()) == (dtype, data[start:end])


def test_without_ml_dtypes_the_error_says_what_to_do(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with ours.safe_open(path, "np") as file:
        assert file.get_tensor("layer.f32").dtype == np.float32
        with pytest.raises(safetensors.SafetensorError, match="numpy has no BF16; install ml_dtypes"):
            file.get_tensor("layer.bf16")


@pytest.fixture
def usual(rng, tmp_path):
    """A container with the dtypes of models, its plain file beside it."""
    tensors = {f"{dtype}.{i}": tensor(rng, dtype, [37 * i, 300]) for dtype in ("BF16", "F32", "I64") for i in (1, 9)}
    tensors |= {"odd": ("U8", [7], b"\1" * 7), "F16": tensor(rng, "F16", [300]), "F64": tensor(rng, "F64", [3, 5])}
    tensors |= {"empty": ("BF16", [0], b""), "scalar": tensor(rng, "F32", []), "cube": tensor(rng, "F32", [4, 5, 6])}
    (tmp_path / "u.safetensors").write_bytes(safetensors_bytes(tensors))
    zipfs.compress(tmp_path / "u.safetensors", tmp_path / "u.safetensors.zipfs")
    return tmp_path / "u.safetensors.zipfs", tensors


@pytest.mark.parametrize("group", [ours.GROUP, 100_000, 0])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_load_file(usual, framework, group, monkeypatch):
    """Also where tensors lie at odd offsets, whatever is read at once."""
    path, tensors = usual
    monkeypatch.setattr(ours, "GROUP", group)
    found = ours.load_file(path, framework=framework)
    assert list(found) == list(tensors)
    stock = safetensors.torch.load_file if framework == "pt" else safetensors.numpy.load_file
    expected = stock(path.with_suffix(""))
    assert all(same(found[name], expected[name]) for name in tensors)
    for name, array in found.items():
        if framework == "pt":
            assert array.data_ptr() % array.element_size() == 0, name
        else:
            assert array.flags.aligned and array.flags.writeable and array.flags.c_contiguous, name


INDEXES = [
    5, -1, slice(None), (slice(2, 4), slice(None, 3)), (1, 2), ..., (..., 1), slice(None, None, 2), (), slice(5, 5),
    (slice(1, 2), -1), (slice(3, 30, 7), slice(4, 200, 3)), np.int64(3), (3, slice(10, 20)), (..., slice(5, 9)),
    slice(4, 2), slice(60, 1000), slice(-3, None), (slice(None), slice(-5, None)), [1, 3], (slice(None), [0, 2]), None,
    (2, ..., 3), (0, 0, 0), 1000, (slice(None), 1000), slice(None, None, -1), (slice(0, 0), 1),
]  # fmt: skip


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", ["BF16.9", "F32.1", "cube", "scalar", "empty", "F16"])
def test_slices(usual, framework, name):
    """What the package gives for an index is what we give; where it fails, we fail or do as the framework does."""
    path, _ = usual
    compared = 0
    with ours.safe_open(path, framework) as mine, safetensors.safe_open(path.with_suffix(""), framework) as theirs:
        whole = mine.get_tensor(name)
        for index in INDEXES:
            try:
                expected = theirs.get_slice(name)[index]
            except Exception:
                expected = None
            try:
                found = mine.get_slice(name)[index]
            except (IndexError, ValueError):
                assert expected is None, index
                continue
            if expected is not None:
                assert same(found, expected), index
                compared += 1
            assert raw(found) == raw(whole[index] if framework == "pt" else np.asarray(whole[index])), index
    assert compared >= 1


def test_random_slices(usual, rng):
    path, _ = usual
    with ours.safe_open(path, "np") as file:
        whole, part = file.get_tensor("cube"), file.get_slice("cube")
        for _ in range(200):
            starts, stops = rng.integers(-7, 8, 3), rng.integers(-7, 8, 3)
            index = tuple(
                int(rng.integers(0, 4)) if rng.integers(3) == 0 else slice(int(a), int(b), int(rng.integers(1, 3)))
                for a, b in itertools.islice(zip(starts, stops, strict=True), int(rng.integers(1, 4)))
            )
            assert np.array_equal(part[index], whole[index]), index


def test_slice_decodes_only_its_rows(rng, tmp_path):
    data = safetensors_bytes({"w": ("BF16", [4096, 1024], weights(rng, "BF16", 4 << 20))})
    (tmp_path / "w").write_bytes(data)
    zipfs.compress(tmp_path / "w", tmp_path / "w.zipfs")
    with ours.safe_open(tmp_path / "w.zipfs", "pt") as file:
        before = file._file._file.stats()["bytes_decoded"]
        assert file.get_slice("w")[100:200].shape == (100, 1024)
        assert file._file._file.stats()["bytes_decoded"] - before <= 2 << CHUNK_LOG2


def test_trained_model(minilm, tmp_path):
    zipfs.compress(minilm / "model.safetensors", tmp_path / "model.safetensors.zipfs")
    found = ours.load_file(tmp_path / "model.safetensors")
    expected = safetensors.torch.load_file(minilm / "model.safetensors")
    assert found.keys() == expected.keys() and all(same(found[name], expected[name]) for name in expected)


def test_plain_file_comes_before_the_container(usual):
    path, _ = usual
    path.with_suffix("").write_bytes(safetensors_bytes({"other": ("U8", [1], b"x")}))
    with ours.safe_open(path.with_suffix(""), "np") as file:
        assert file.keys() == ["other"]


def test_tensors_outlive_the_file(usual):
    path, tensors = usual
    with ours.safe_open(path, "np") as file:
        found, part = file.get_tensor("F32.9"), file.get_slice("F32.9")
    assert found.tobytes() == tensors["F32.9"][2]
    for call in (lambda: file.get_tensor("F32.9"), lambda: part[0], file.get_tensors):
        with pytest.raises(safetensors.SafetensorError, match="File is closed"):
            call()


def test_errors_are_those_of_the_package(usual, tmp_path):
    path, _ = usual
    with ours.safe_open(path, "pt") as file:
        for method in (file.get_tensor, file.get_slice):
            with pytest.raises(safetensors.SafetensorError, match="File does not contain tensor missing"):
                method("missing")
    with pytest.raises(safetensors.SafetensorError, match="framework tf is invalid"):
        ours.safe_open(path, "tf")
    with pytest.raises(FileNotFoundError):
        ours.load_file(tmp_path / "missing")
    good = path.with_suffix("").read_bytes()
    for bad in (b"", b"text", good[:100], good[:-1], good + b"x", b"\xff" * 100):
        (tmp_path / "bad").write_bytes(bad)
        for load in (ours.load_file, safetensors.torch.load_file):
            with pytest.raises(safetensors.SafetensorError):
                load(tmp_path / "bad")


def test_damage_is_named(usual):
    path, _ = usual
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(zipfs.CorruptError, match="damaged chunk 0"):
        ours.load_file(path)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_large_tensors_are_memory_of_this_process(rng, tmp_path, framework):
    """They have pages of their own kind, which a forked child must not share."""
    plain = weights(rng, "F32", 3 << 20)
    (tmp_path / "w").write_bytes(safetensors_bytes({"w": ("F32", [3 << 20], plain), "x": ("U8", [1], b"x")}))
    zipfs.compress(tmp_path / "w", tmp_path / "w.zipfs")
    with ours.safe_open(tmp_path / "w.zipfs", framework) as file:
        for found in (file.get_tensor("w"), file.get_tensors()["w"]):
            assert raw(found) == plain
            array = np.asarray(found)  # torch's threads are not in a child
            child = os.fork()
            if child == 0:
                array[:] = 0
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert raw(found) == plain
