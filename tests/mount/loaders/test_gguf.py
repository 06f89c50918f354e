"""GGUF files on a mount: the reader of the package gguf, and llama.cpp with and without mmap."""

import numpy as np
import pytest
import tiny_llama

gguf = pytest.importorskip("gguf")
DTYPES = ["F32", "F16", "BF16", "Q8_0"]
PROMPT = [1, 80, 100, 105]


@pytest.fixture(scope="module")
def shelf(shelve):
    return shelve(lambda folder: [tiny_llama.write(folder / f"{dtype}.gguf", dtype) for dtype in DTYPES])


def contents(path, hashes) -> tuple[dict[str, str], dict[str, str], list]:
    reader = gguf.GGUFReader(path)
    tensors = hashes((tensor.name, tensor.data) for tensor in reader.tensors)
    fields = hashes(
        (name, np.concatenate([part.view(np.uint8) for part in field.parts])) for name, field in reader.fields.items()
    )
    return tensors, fields, [(tensor.name, tensor.tensor_type, list(tensor.shape)) for tensor in reader.tensors]


@pytest.mark.parametrize("dtype", DTYPES)
def test_reader(mounted, shelf, hashes, dtype):
    shown = contents(mounted(shelf.stored).path / f"{dtype}.gguf", hashes)
    assert shown == contents(shelf.plain / f"{dtype}.gguf", hashes)
    assert len(shown[0]) == len(tiny_llama.shapes())


def logits(path, **options) -> np.ndarray:
    import llama_cpp

    model = llama_cpp.Llama(str(path), n_ctx=32, n_threads=1, logits_all=True, verbose=False, **options)
    try:
        model.eval(PROMPT)
        return model.scores[: len(PROMPT)].copy()
    finally:
        model.close()


@pytest.mark.parametrize("use_mmap", [True, False])
def test_llama_cpp(mounted, shelf, use_mmap):
    pytest.importorskip(
        "llama_cpp", reason="llama-cpp-python is not installed; PyPI has its source only, for a compiler"
    )
    shown = mounted(shelf.stored).path
    for dtype in DTYPES:
        found = logits(shown / f"{dtype}.gguf", use_mmap=use_mmap)
        assert np.array_equal(found, logits(shelf.plain / f"{dtype}.gguf", use_mmap=use_mmap)), dtype
        assert np.isfinite(found).all() and found.std() > 0
