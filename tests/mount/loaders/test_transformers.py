"""transformers and sentence-transformers load a trained model from its folder on a mount."""

import gc
import shutil

import pytest

pytestmark = pytest.mark.slow
SENTENCES = ["A third less disk.", "The same bytes."]


@pytest.fixture(scope="module")
def shelf(shelve, minilm):
    return shelve(lambda folder: shutil.copytree(minilm, folder, dirs_exist_ok=True))


def by_transformers(path, hashes) -> tuple:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    with torch.no_grad():
        states = model(**tokenizer(SENTENCES, return_tensors="pt", padding=True)).last_hidden_state
    return hashes(model.state_dict().items()), hashes([("states", states)])


def by_sentence_transformers(path, hashes) -> tuple:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(path))
    return hashes(model.state_dict().items()), hashes([("embeddings", model.encode(SENTENCES))])


@pytest.mark.parametrize("load", [by_transformers, by_sentence_transformers])
def test_model(mounted, shelf, hashes, monkeypatch, load):
    pytest.importorskip("transformers" if load is by_transformers else "sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shown, plain = load(mounted(shelf.stored).path, hashes), load(shelf.plain, hashes)
    gc.collect()  # what is mapped would keep the mount busy
    assert shown == plain and len(shown[0]) > 100
