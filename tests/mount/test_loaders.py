"""Stock loaders read models through a mount."""

import numpy as np
import pytest

import zipfs

SEED = 17


@pytest.fixture
def models(source, tmp_path):
    """A model as safetensors and as a torch checkpoint, plain and compressed. Returns the folder of the plain ones."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    print(f"seed {SEED}")
    generator = torch.Generator().manual_seed(SEED)
    tensors = {
        f"layer.{i}.{dtype}".replace("torch.", ""): (torch.randn(301, 257, generator=generator) * 0.02).to(dtype)
        for i in range(2)
        for dtype in (torch.bfloat16, torch.float16, torch.float32)
    }
    plain = tmp_path / "plain"
    plain.mkdir()
    save_file(tensors, plain / "model.safetensors", metadata={"format": "pt"})
    torch.save(tensors, plain / "model.pt")
    (plain / "config.json").write_text('{"layers": 2}')
    zipfs.compress(plain, source, force=True)
    return plain


def test_safetensors(mounted, source, models):
    import torch
    from safetensors import safe_open

    path = mounted(source).path
    with safe_open(path / "model.safetensors", "pt") as shown, safe_open(models / "model.safetensors", "pt") as plain:
        assert list(shown.keys()) == list(plain.keys())
        for name in plain.keys():  # noqa: SIM118  (safe_open is no dict)
            assert torch.equal(shown.get_tensor(name), plain.get_tensor(name)), name


def test_torch(mounted, source, models):
    import torch

    path = mounted(source).path
    for options in ({}, {"mmap": True}):
        shown, plain = torch.load(path / "model.pt", **options), torch.load(models / "model.pt")
        assert shown.keys() == plain.keys()
        assert all(torch.equal(shown[name], plain[name]) for name in plain)


def test_memmap(mounted, source, models):
    path = mounted(source).path
    for name in ("model.safetensors", "model.pt", "config.json"):
        shown, plain = (np.memmap(folder / name, dtype=np.uint8, mode="r") for folder in (path, models))
        assert np.array_equal(shown, plain), name
