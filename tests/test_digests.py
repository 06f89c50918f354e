"""Blobs named by a digest: `zipfs verify` compares their bytes with it, in containers and as they are."""

import hashlib

import hub
import pytest

import zipfs
from zipfs.cli import main
from zipfs.digests import promised

LARGE = 100_000


@pytest.fixture
def cache(rng, tmp_path):
    """A hub cache with a blob of each kind: SHA-256 and git's SHA-1, one that shrinks and one that does not."""
    files = {
        "model.safetensors": b"weights " * 50_000,
        "noise.bin": rng.bytes(LARGE),
        "config.json": b'{"key": 1}' * 100,
        "sub/noise.txt": rng.bytes(500),
        "empty": b"",
    }
    hub.add_snapshot(tmp_path / "hub", "someone/model", files, large=LARGE)
    return tmp_path / "hub"


@pytest.fixture
def blobs(cache, tmp_path):
    """The stored blobs of the compressed cache."""
    assert main(["compress", str(cache), str(tmp_path / "dst")]) == 0
    return tmp_path / "dst/models--someone--model/blobs"


def test_whole_cache(blobs, capsys):
    for options in ([], ["--fast"]):
        assert main(["verify", *options, str(blobs.parents[1])]) == 0
        assert capsys.readouterr().out == "2 containers and 3 plain blobs checked, 0 damaged\n"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_containers_of_other_bytes(cache, tmp_path, capsys, name):
    """What was compressed had been damaged before; all our own checksums are right."""
    blob = (cache / f"models--someone--model/snapshots/{hub.COMMIT}" / name).resolve()
    data = bytearray(blob.read_bytes())
    data[77] ^= 1
    blob.write_bytes(data)
    zipfs.compress(cache, tmp_path / "dst")
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "dst")]) == 4
    out, err = capsys.readouterr()
    assert out == "2 containers and 3 plain blobs checked, 1 damaged\n"
    digest = hashlib.sha256(data).hexdigest() if name == "model.safetensors" else hub.git_sha1(data)
    assert f"{blob.name}.zipfs: " in err and digest in err
    fast = main(["verify", "--fast", str(tmp_path / "dst")])
    assert fast == (4 if name == "model.safetensors" else 0), "the header has the SHA-256, not git's SHA-1"


@pytest.mark.parametrize("large", [True, False])
def test_plain_blobs_of_other_bytes(blobs, capsys, large):
    path = max(
        (path for path in blobs.iterdir() if path.suffix != ".zipfs" and (len(path.name) == 64) == large),
        key=lambda path: path.stat().st_size,
    )
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for options in ([], ["--fast"]):
        capsys.readouterr()
        assert main(["verify", *options, str(path)]) == 4
        assert path.name in capsys.readouterr().err


def test_damage_is_told_once(blobs, capsys):
    path = next(path for path in blobs.iterdir() if path.name.endswith(".zipfs") and len(path.stem) == 64)
    data = bytearray(path.read_bytes())
    data[260] ^= 1
    path.write_bytes(data)
    assert main(["verify", str(path)]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_ollama(tmp_path, capsys):
    folder = tmp_path / "models/blobs"
    folder.mkdir(parents=True)
    data = b"GGUF" + b"weights " * 1000
    (folder / f"sha256-{hashlib.sha256(data).hexdigest()}").write_bytes(data)
    (folder / f"sha256-{'0' * 64}").write_bytes(data)
    zipfs.compress(tmp_path / "models", tmp_path / "dst")
    assert main(["verify", str(tmp_path / "dst")]) == 4
    out, err = capsys.readouterr()
    assert out == "2 containers checked, 1 damaged\n" and f"sha256-{'0' * 64}.zipfs: " in err


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("blobs/" + "a" * 64, "SHA-256"),
        ("blobs/sha256-" + "a" * 64 + ".zipfs", "SHA-256"),
        ("blobs/" + "a" * 40 + ".zipfs", "git's SHA-1"),
        ("blobs/" + "A" * 64, None),
        ("blobs/" + "a" * 64 + ".incomplete", None),
        ("blobs/" + "a" * 63, None),
        ("blobs/sha256-" + "a" * 40, None),
        ("other/" + "a" * 64, None),
    ],
)
def test_promises(path, kind):
    promise = promised(path)
    assert (promise and promise.algorithm) == kind


def test_a_blob_by_its_bare_name(tmp_path, monkeypatch):
    (tmp_path / "blobs").mkdir()
    monkeypatch.chdir(tmp_path / "blobs")
    assert promised("a" * 64) is not None
    monkeypatch.chdir(tmp_path)
    assert promised("a" * 64) is None
