"""Hugging Face's cache: compressed and mounted, the real libraries use it offline as it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hub
import pytest

import zipfs
from zipfs.cli import main

pytestmark = pytest.mark.slow
REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
COPY = "someone/copy"
"""Has some of the same blobs."""
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}


def use(cache: Path, home: Path) -> dict:
    """What use_hub.py finds in the cache."""
    script = Path(__file__).with_name("use_hub.py")
    environment = os.environ | ENVIRONMENT | {"HF_HUB_CACHE": str(cache), "HF_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, script, REPOSITORY, COPY, hub.NO_SUCH_FILE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def caches(minilm, tmp_path_factory) -> tuple[Path, Path]:
    """(a cache with two revisions of the model and of another repository, the compressed one)"""
    for package in ("huggingface_hub", "transformers", "sentence_transformers"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("hub")
    files = hub.read_folder(minilm)
    hub.add_snapshot(folder / "plain", REPOSITORY, files)
    hub.add_snapshot(folder / "plain", REPOSITORY, files | {"README.md": b"older"}, hub.OLDER_COMMIT, "older")
    hub.add_snapshot(folder / "plain", COPY, {name: files[name] for name in ("config.json", "model.safetensors")})
    zipfs.compress(folder / "plain", folder / "stored")
    return folder / "plain", folder / "stored"


@pytest.fixture(scope="module")
def found_in_plain(caches, tmp_path_factory) -> dict:
    return use(caches[0], tmp_path_factory.mktemp("home"))


def test_libraries_offline(mounted, caches, found_in_plain, tmp_path):
    found = use(mounted(caches[1]).path, tmp_path / "home")
    assert found.pop("tensors") == found_in_plain["tensors"] and found_in_plain["tensors"]
    assert found == {name: value for name, value in found_in_plain.items() if name != "tensors"}
    assert len(found["embedding"]) == 384 and found["not in it"] == "<class 'object'>"


def test_every_entry_is_as_it_was(mounted, caches):
    shown = mounted(caches[1]).path
    for folder, folders, names in os.walk(caches[0]):
        there = shown / Path(folder).relative_to(caches[0])
        assert sorted(os.listdir(there)) == sorted(folders + names)
        for name in names:
            plain = Path(folder, name)
            if plain.is_symlink():
                assert os.readlink(there / name) == os.readlink(plain)
                assert (there / name).resolve().is_relative_to(shown)
            assert (there / name).stat().st_size == plain.stat().st_size
            if plain.stat().st_size < hub.LARGE:
                assert (there / name).read_bytes() == plain.read_bytes()


def test_stored_once(caches):
    """Snapshots stay links, so that a file of two revisions is one container; a blob of two repositories is one, too."""
    plain, stored = caches
    weights = [path for path in stored.rglob("*.zipfs") if not path.is_symlink() and path.stat().st_size > hub.LARGE]
    assert len(weights) == 2 and weights[0].samefile(weights[1])
    assert weights[0].stat().st_size < 0.45 * sum(path.lstat().st_size for path in plain.rglob("*") if path.is_file())


def test_blobs_are_what_their_names_say(mounted, caches, capsys):
    """On the stored cache and on its mount, whose files are plain."""
    num_blobs = len(list(caches[0].glob("*/blobs/*")))
    assert main(["verify", str(caches[1])]) == 0
    stored = capsys.readouterr().out
    assert main(["verify", str(mounted(caches[1]).path)]) == 0
    assert capsys.readouterr().out == f"0 containers and {num_blobs} plain blobs checked, 0 damaged\n"
    assert stored.endswith(", 0 damaged\n")
