"""torch.load on a mount: read, mapped and from an open file."""

import pytest

SEED = 17
torch = pytest.importorskip("torch")


def tensors() -> dict:
    print(f"seed {SEED}")
    generator = torch.Generator().manual_seed(SEED)
    found = {
        f"layer.{i}.{dtype}": (torch.randn(301, 257, generator=generator) * 0.02).to(dtype)
        for i in range(2)
        for dtype in (torch.bfloat16, torch.float16, torch.float32)
    }
    return found | {"transposed": found["layer.0.torch.float32"].T, "scalar": torch.tensor(3)}


@pytest.fixture(scope="module")
def shelf(shelve):
    def write(folder):
        torch.save(tensors(), folder / "model.pt")
        torch.save(tensors(), folder / "pytorch_model.bin")
        torch.save(tensors(), folder / "legacy.ckpt", _use_new_zipfile_serialization=False)

    return shelve(write)


@pytest.mark.parametrize("options", [{}, {"mmap": True}, {"mmap": True, "weights_only": True}, {"weights_only": False}])
@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin"])
def test_zip(mounted, shelf, hashes, name, options):
    loaded = torch.load(mounted(shelf.stored).path / name, **options)
    assert hashes(loaded.items()) == hashes(tensors().items())


def test_legacy(mounted, shelf, hashes):
    assert hashes(torch.load(mounted(shelf.stored).path / "legacy.ckpt").items()) == hashes(tensors().items())


def test_open_file(mounted, shelf, hashes):
    with open(mounted(shelf.stored).path / "model.pt", "rb") as file:
        assert hashes(torch.load(file).items()) == hashes(tensors().items())


def test_storage_from_file(mounted, shelf):
    """As safetensors and engines map checkpoints: privately. A shared map of torch is one for writing."""
    shown, plain = mounted(shelf.stored).path / "model.pt", (shelf.plain / "model.pt").read_bytes()
    storage = torch.UntypedStorage.from_file(str(shown), shared=False, nbytes=len(plain))
    assert torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes() == plain
    with pytest.raises(RuntimeError, match="Read-only file system"):
        torch.UntypedStorage.from_file(str(shown), shared=True, nbytes=len(plain))
