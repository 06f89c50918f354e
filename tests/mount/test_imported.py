"""A repository that was published after ZipNN, mounted after one command, read by stock loaders."""

import json
import os
from pathlib import Path

import pytest

import zipfs

torch = pytest.importorskip("torch")
pytest.importorskip("zipnn")
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from znn_files import TORCH_DTYPES, znn, znn_safetensors  # noqa: E402

SEED = 23


@pytest.fixture
def plain(source, tmp_path) -> Path:
    """The model as its owner had it; `source` holds what zipfs makes of the repository that ZipNN made of it."""
    print(f"seed {SEED}")
    generator = torch.Generator().manual_seed(SEED)
    plain, published = tmp_path / "plain", tmp_path / "published"
    plain.mkdir()
    published.mkdir()
    weight_map, files = {}, {}
    for i, suffix in enumerate((".znn.safetensors", ".safetensors.znn")):
        name = f"model-{i}.safetensors"
        tensors = {
            f"layer.{i}.{dtype}": (torch.randn(301, 257, generator=generator) * 0.02).to(kind)
            for dtype, kind in TORCH_DTYPES.items()
        }
        tensors[f"layer.{i}.scale"] = torch.tensor(4.6052)
        save_file(tensors, plain / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        files[name] = f"model-{i}{suffix}"
        if suffix == ".znn.safetensors":
            znn_safetensors(plain / name, published / files[name])
        else:
            (published / files[name]).write_bytes(znn((plain / name).read_bytes()))
    for folder, names in ((plain, {}), (published, files)):
        weights = {tensor: names.get(name, name) for tensor, name in weight_map.items()}
        text = json.dumps({"metadata": {}, "weight_map": weights}, indent=2)
        (folder / "model.safetensors.index.json").write_text(text)
        (folder / "config.json").write_text('{"layers": 2}')
    zipfs.compress(published, source, force=True)
    return plain


def test_repository(mounted, source, plain):
    path = mounted(source).path
    assert sorted(os.listdir(path)) == sorted(os.listdir(plain))
    for name in os.listdir(plain):
        assert (path / name).read_bytes() == (plain / name).read_bytes(), name
    weight_map = json.loads((path / "model.safetensors.index.json").read_text())["weight_map"]
    for name, file in weight_map.items():
        expected = load_file(plain / file)[name]
        with safe_open(path / file, "pt") as shown:
            got = shown.get_tensor(name)
        assert got.dtype == expected.dtype
        assert torch.equal(got.flatten().view(torch.uint8), expected.flatten().view(torch.uint8)), name
