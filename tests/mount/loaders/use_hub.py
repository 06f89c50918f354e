"""Loads the model REPOSITORY from the cache that HF_HUB_CACHE names, as an engine does, and prints what came as JSON.

A process of its own, as huggingface_hub reads its variables when it is imported. Usage: use_hub.py REPOSITORY COPY MISSING
"""

import hashlib
import json
import os
import sys

import torch
from huggingface_hub import scan_cache_dir, snapshot_download, try_to_load_from_cache
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

SENTENCE = "A third less disk, the same bytes."


def tensor_hashes(model: torch.nn.Module) -> dict[str, str]:
    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in model.state_dict().items()}


def embedding(repository: str) -> tuple[dict[str, str], list[float]]:
    tokenizer, model = AutoTokenizer.from_pretrained(repository), AutoModel.from_pretrained(repository)
    with torch.no_grad():
        states = model(**tokenizer(SENTENCE, return_tensors="pt")).last_hidden_state
    return tensor_hashes(model), states.mean(1)[0].tolist()


def cache_listing() -> list:
    info = scan_cache_dir()
    return sorted(
        [
            repo.repo_id,
            repo.size_on_disk,
            revision.commit_hash,
            sorted(revision.refs),
            file.file_name,
            file.size_on_disk,
        ]
        for repo in info.repos
        for revision in repo.revisions
        for file in revision.files
    ) + [str(warning) for warning in info.warnings]


def main(repository: str, copy: str, missing: str) -> None:
    torch.set_num_threads(1)
    cache = os.environ["HF_HUB_CACHE"]
    snapshot = snapshot_download(repository, local_files_only=True)
    copied = snapshot_download(copy, local_files_only=True)
    tensors, states = embedding(repository)
    model = SentenceTransformer(repository)
    found = {
        "snapshot": os.path.relpath(snapshot, cache),
        "older": os.path.relpath(snapshot_download(repository, revision="older", local_files_only=True), cache),
        "not in it": str(type(try_to_load_from_cache(repository, missing))),
        "copy": os.path.relpath(copied, cache),
        "copied tensors": tensor_hashes(AutoModel.from_pretrained(copy)),
        "tensors": tensors,
        "embedding": states,
        "sentence": model.encode(SENTENCE).tolist(),
        "listing": cache_listing(),
    }
    print(json.dumps(found))


main(*sys.argv[1:])
