"""`zipfs info --tensors`, and what info says of plain files."""

import json

import pytest
from models import safetensors_bytes, tensor

import zipfs
from zipfs.cli import main
from zipfs.info import info
from zipfs.tensors import tensors

SUM_KEYS = ["num_tensors", "plain_size", "stored_size", "saved", "ratio"]


@pytest.fixture
def stored(rng, tmp_path):
    """A folder of a container and a plain file that saves nothing."""
    (tmp_path / "plain").mkdir()
    parts = {
        "small": tensor(rng, "BF16", [100, 64]),
        "noise": ("F32", [50_000], rng.bytes(200_000)),
        "large": tensor(rng, "BF16", [1000, 640]),
        "zeros": ("I64", [2, 1000], bytes(16_000)),
        "empty": ("F16", [0], b""),
    }
    (tmp_path / "plain/m.safetensors").write_bytes(safetensors_bytes(parts, padding=1000))
    (tmp_path / "plain/noise").write_bytes(safetensors_bytes({"n": ("F32", [1000], rng.bytes(4000))}))
    zipfs.compress(tmp_path / "plain", tmp_path / "stored")
    return tmp_path / "stored"


def test_of_a_container(stored):
    facts, _ = info(str(stored / "m.safetensors.zipfs"))
    found = tensors(facts)
    assert [each["name"] for each in found["tensors"]] == ["large", "zeros", "small", "empty", "noise"]
    assert list(found["tensors"][0]) == [
        *("path", "name", "dtype", "shape", "offset", "plain_size", "stored_size", "saved", "ratio"),
    ]
    for each in found["tensors"]:
        assert each["saved"] == each["plain_size"] - each["stored_size"]
    large = found["tensors"][0]
    assert large["ratio"] == round(large["stored_size"] / large["plain_size"], 4) < 0.7
    rows = {row["dtype"]: row for row in found["dtypes"]}
    assert next(iter(rows)) == "BF16" and set(rows) == {"BF16", "F32", "I64", "F16", "other"}
    assert rows["BF16"]["num_tensors"] == 2 and rows["BF16"]["plain_size"] == 2 * (64_000 * 10 + 6400)
    assert [row["saved"] for row in found["dtypes"]] == sorted((row["saved"] for row in rows.values()), reverse=True)
    assert found["total"]["num_tensors"] == 5 and found["total"]["num_files"] is None
    for key in SUM_KEYS[1:4]:
        assert sum(row[key] for row in found["dtypes"]) == found["total"][key]
    assert found["total"]["stored_size"] == (stored / "m.safetensors.zipfs").stat().st_size


def test_of_a_folder(stored, capsys):
    assert main(["info", "--tensors", "--json", str(stored)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["dtypes", "tensors", "total"]
    assert [list(row) for row in found["dtypes"]] == [["dtype", *SUM_KEYS]] * 5
    assert (found["total"]["num_files"], found["total"]["num_tensors"]) == (2, 6)
    assert {each["path"] for each in found["tensors"]} == {str(path) for path in stored.iterdir()}
    assert found["total"]["stored_size"] == sum(path.stat().st_size for path in stored.iterdir())


def test_as_text(stored, capsys):
    assert main(["info", "--tensors", str(stored / "m.safetensors.zipfs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["saved", "plain", "stored", "ratio", "dtype", "tensors"]
    assert lines[1].split()[-2:] == ["BF16", "2"] and lines[6].split()[-2:] == ["total", "5"]
    assert lines[7] == "" and lines[8].split()[-3:] == ["dtype", "shape", "tensor"]
    assert lines[9].split()[-3:] == ["BF16", "1000x640", "large"] and len(lines) == 14
    assert main(["info", "--tensors", str(stored)]) == 0
    assert f"large  in {stored}/m.safetensors.zipfs" in capsys.readouterr().out


def test_a_plain_file_has_its_tensors_as_they_are(stored, capsys):
    facts, _ = info(str(stored / "noise"))
    (segment,) = facts["segments"]
    assert (facts["num_chunks"], segment["name"], segment["plain_size"], segment["stored_size"]) == (0, "n", 4000, 4000)
    assert tensors(facts)["dtypes"][0]["saved"] == 0
    assert main(["info", str(stored / "noise")]) == 0
    out = capsys.readouterr().out
    assert "no container: stored as it is" in out and "3.9 KiB -> 3.9 KiB, 100.0%" in out


def test_of_kernels_there_are_none(capsys):
    assert main(["info", "--tensors", "--kernels"]) == 2
    assert main(["info", "--tensors"]) == 2
    assert "either a PATH or --kernels" in capsys.readouterr().err
