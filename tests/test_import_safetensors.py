"""Safetensors files that ZipNN compressed tensor by tensor are rebuilt, and whole repositories of them."""

import json
import math
import os

import numpy as np
import pytest
from models import DTYPES, all_dtypes, safetensors_bytes, tensor, write_safetensors

import zipfs
from zipfs.errors import FailuresError
from zipfs.importers.znn_safetensors import Rebuilt
from zipfs.info import file_info
from zipfs.source import Source

torch = pytest.importorskip("torch")
pytest.importorskip("zipnn")
from safetensors.torch import load_file, save_file  # noqa: E402
from znn_files import TORCH_DTYPES, znn, znn_safetensors  # noqa: E402

ZNN_KNOWS = [dtype for dtype in DTYPES if dtype not in ("F64", "C64") and DTYPES[dtype][0] >= 8]
"""ZipNN's script gives up where a file holds another float dtype."""
TORCH_KNOWS = {**TORCH_DTYPES, "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}


def torch_tensors(rng, rows: int = 64) -> dict:
    """Tensors of all dtypes that torch can store, of sizes around those that ZipNN cannot shrink, and scalars."""
    tensors = {}
    for dtype, kind in TORCH_KNOWS.items():
        for shape in ([rows, 48], [rows * 5000], [1], [2], [3], [31], [150], [0, 4], []):
            data = bytearray(tensor(rng, dtype, shape)[2])
            flat = torch.frombuffer(data, dtype=kind) if data else torch.empty(0, dtype=kind)
            tensors[f"{dtype}.{'x'.join(map(str, shape))}"] = flat.reshape(shape)
    return tensors


def rebuild(source, tmp_path, **options) -> bytes:
    """The plain bytes of what a `.znn.safetensors` file becomes."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    zipfs.compress(source, out, force=True, **options)
    container = out / source.name.replace(".znn.safetensors", ".safetensors.zipfs")
    assert file_info(str(container))["sha256"] is None
    zipfs.decompress(container, tmp_path / "rebuilt", force=True)
    return (tmp_path / "rebuilt").read_bytes()


def bits(path) -> dict:
    return {
        name: (value.dtype, value.shape, value.flatten().view(torch.uint8).numpy().tobytes())
        for name, value in load_file(path).items()
    }


def test_rebuilt_as_safetensors_writes_it(tmp_path, rng):
    plain, source = tmp_path / "plain.safetensors", tmp_path / "model.znn.safetensors"
    save_file(torch_tensors(rng), plain, metadata={"format": "pt"})
    znn_safetensors(plain, source)
    assert b"F32.320000" in source.read_bytes()[:20_000]
    assert rebuild(source, tmp_path) == plain.read_bytes()


@pytest.mark.parametrize("metadata", [None, {"format": "pt", "b": 'ü"\\\n', "a": ""}], ids=["none", "several"])
def test_metadata(tmp_path, rng, metadata):
    plain, source = tmp_path / "plain.safetensors", tmp_path / "model.znn.safetensors"
    save_file(torch_tensors(rng), plain, metadata)
    znn_safetensors(plain, source)
    rebuilt = rebuild(source, tmp_path)
    (tmp_path / "rebuilt.safetensors").write_bytes(rebuilt)
    assert bits(tmp_path / "rebuilt.safetensors") == bits(plain)
    header = json.loads(rebuilt[8 : 8 + int.from_bytes(rebuilt[:8], "little")])
    assert header.get("__metadata__") == metadata
    assert list(metadata or {}) != sorted(metadata or {}) or not metadata
    assert list(header.get("__metadata__", {})) == sorted(metadata or {})
    assert rebuild(source, tmp_path, jobs=1) == rebuilt


def test_other_writers_order(tmp_path, rng):
    """The order of tensors and the padding of the plain header are lost in ZipNN, so only the tensors are the same."""
    tensors = {
        name: value for name, value in all_dtypes(rng).items() if value[0] in ZNN_KNOWS and "FNUZ" not in value[0]
    }
    del tensors["layer.f8_e8m0"]
    plain = write_safetensors(tmp_path / "plain.safetensors", tensors, metadata={"format": "pt"}, padding=3)
    znn_safetensors(plain, tmp_path / "model.znn.safetensors")
    (tmp_path / "rebuilt.safetensors").write_bytes(rebuild(tmp_path / "model.znn.safetensors", tmp_path))
    assert bits(tmp_path / "rebuilt.safetensors") == bits(plain)


def test_any_range(tmp_path, rng):
    plain, path = tmp_path / "plain.safetensors", tmp_path / "model.znn.safetensors"
    save_file(torch_tensors(rng), plain, metadata={"format": "pt"})
    znn_safetensors(plain, path)
    data = plain.read_bytes()
    with Source(str(path)) as source:
        rebuilt = Rebuilt(source, "model.safetensors")
        for _ in range(300):
            start = int(rng.integers(0, min(len(data), int(rng.choice([3000, 60_000, len(data)])))))
            size = int(rng.integers(1, rng.choice([5, 3000, 400_000])))
            assert rebuilt.pread(size, start) == data[start : start + size], (start, size)


@pytest.mark.parametrize("keep", [True, False], ids=["as ZipNN leaves them", "as they were"])
def test_turned_tensors(tmp_path, rng, keep):
    """ZipNN stores tensors that do not shrink with their bits turned; a careful writer does not."""
    plain, path = tmp_path / "plain.safetensors", tmp_path / "model.znn.safetensors"
    values = {"scale": torch.tensor(4.6052), "bias": torch.arange(-3.0, 4.0), "zeros": torch.zeros(9)}
    values |= {f"{name}.bf16": value.to(torch.bfloat16) for name, value in values.items()}
    save_file(values, plain, metadata={"format": "pt"})
    znn_safetensors(plain, path, keep=keep)
    assert (load_file(path)["scale"] == values["scale"]) is not keep
    out = tmp_path / "out"
    out.mkdir()
    summary = zipfs.compress(path, out)
    zipfs.decompress(out / "model.safetensors.zipfs", tmp_path / "rebuilt")
    assert (tmp_path / "rebuilt").read_bytes() == plain.read_bytes()
    notes = [note for note in summary.notes if "turned back" in note]
    assert len(notes) == keep
    assert not keep or all(name in notes[0] for name in ("scale", "bias"))


def repository(folder, rng) -> dict[str, bytes]:
    """A sharded model as its owner had it, in the folder as it is published after ZipNN. Returns the plain files."""
    folder.mkdir()
    plain = {"config.json": b'{"layers": 2}', "tokenizer.json": json.dumps([str(i) for i in range(5000)]).encode()}
    weight_map = {}
    for i in (1, 2):
        name = f"model-0000{i}-of-00002.safetensors"
        tensors = {f"layer.{i}.{dtype}": torch.from_numpy(rng.normal(0, 0.02, (300, 201))).to(kind)
                   for dtype, kind in TORCH_DTYPES.items()}  # fmt: skip
        tensors[f"layer.{i}.scale"] = torch.tensor(4.6052)
        weight_map |= dict.fromkeys(tensors, name)
        shard = folder / name
        save_file(tensors, shard, metadata={"format": "pt"})
        plain[name] = shard.read_bytes()
        if i == 1:
            znn_safetensors(shard, folder / name.replace(".safetensors", ".znn.safetensors"))
        else:
            (folder / (name + ".znn")).write_bytes(znn(plain[name], is_streaming=True))
        shard.unlink()
    index = {"metadata": {"total_size": 1, "note": "model.safetensors"}, "weight_map": weight_map}
    plain["model.safetensors.index.json"] = json.dumps(index, indent=2).encode() + b"\n"
    published = (
        plain["model.safetensors.index.json"].decode().replace("-of-00002.safetensors", "-of-00002.znn.safetensors")
    )
    published = published.replace("00002-of-00002.znn.safetensors", "00002-of-00002.safetensors.znn")
    (folder / "model.safetensors.index.json").write_text(published)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes(plain[name])
    return plain


def test_repository(tmp_path, rng):
    plain = repository(tmp_path / "source", rng)
    before = {file.name: file.read_bytes() for file in (tmp_path / "source").iterdir()}
    summary = zipfs.compress(tmp_path / "source", tmp_path / "stored")
    assert summary.num_files == len(plain)
    zipfs.decompress(tmp_path / "stored", tmp_path / "back")
    assert {file.name: file.read_bytes() for file in (tmp_path / "back").iterdir()} == plain
    assert {file.name: file.read_bytes() for file in (tmp_path / "source").iterdir()} == before


def test_maps_keep_what_is_not_imported(tmp_path, rng):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.bin.znn").write_bytes(znn(rng.bytes(1000)))
    (source / "b.bin.znn").write_bytes(b"no file of ZipNN")
    text = '{"weight_map": {"a.bin.znn": "\\u0061.bin.znn", "w": "b.bin.znn", "v": "c.bin.znn", "u": "x/a.bin.znn"},\n "n": 1}'
    (source / "w.index.json").write_text(text)
    others = {
        "list": "[1]",
        "bad": '{"weight_map": {"w": ["a.bin.znn"]}',
        "map": '{"weight_map": 3}',
        "deep": "[" * 100_000,
        "brackets": '{"weight_map": {"w": "a.bin.znn"}, "b": [' + "[]," * 500_000 + "[]]}",
    }
    for name, other in others.items():
        (source / f"{name}.index.json").write_text(other)
    zipfs.compress(source, tmp_path / "stored")
    zipfs.decompress(tmp_path / "stored", tmp_path / "back")
    expected = text.replace("\\u0061.bin.znn", "a.bin").replace('"a.bin.znn":', '"a.bin":')
    assert (tmp_path / "back" / "w.index.json").read_text() == expected
    for name in others:
        assert (tmp_path / "back" / f"{name}.index.json").read_bytes() == (source / f"{name}.index.json").read_bytes()


def test_files_that_only_look_like_it(tmp_path, rng):
    """Pointers of git LFS, and plain files with a name of ZipNN's, stay as they are, with a note."""
    source = tmp_path / "source"
    source.mkdir()
    files = {
        "pointer.safetensors.znn": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "empty.znn": b"",
        "plain.znn.safetensors": safetensors_bytes({"a": tensor(rng, "U8", [9000]), "b": tensor(rng, "BF16", [99])}),
        "cut.znn.safetensors": b"\xff\xff\0\0\0\0\0\0{",
        ".znn": b"ZN",
        "deep.znn.safetensors": len(deep := b"[" * 200_000).to_bytes(8, "little") + deep,
    }
    for name, data in files.items():
        (source / name).write_bytes(data)
    summary = zipfs.compress(source, tmp_path / "stored")
    assert sum("is no file of ZipNN in spite of its name" in note for note in summary.notes) == len(files) - 1
    zipfs.decompress(tmp_path / "stored", tmp_path / "back")
    assert {file.name: file.read_bytes() for file in (tmp_path / "back").iterdir()} == files


def test_names_that_are_taken(tmp_path, rng):
    """Nothing is lost where several files have the same plain name: one gets it, the others stay as they are."""
    source = tmp_path / "source"
    source.mkdir()
    plain = {
        "a": rng.bytes(3000),
        "b.safetensors": safetensors_bytes({"w": tensor(rng, "BF16", [90, 90])}, {"format": "pt"}),
    }
    (source / "a.znn").write_bytes(znn(rng.bytes(500)))
    (source / "a").write_bytes(plain["a"])
    (source / "b.safetensors.znn").write_bytes(znn(plain["b.safetensors"]))
    (tmp_path / "b.safetensors").write_bytes(plain["b.safetensors"])
    znn_safetensors(tmp_path / "b.safetensors", source / "b.znn.safetensors")
    os.symlink("nowhere", source / "c.zipfs")
    (source / "c.znn").write_bytes(znn(plain["a"]))
    summary = zipfs.compress(source, tmp_path / "stored")
    assert len(summary.notes) == 3
    assert all("compressed as the file that it is" in note for note in summary.notes)
    zipfs.decompress(tmp_path / "stored", tmp_path / "back")
    back = {file.name: file.read_bytes() for file in (tmp_path / "back").iterdir() if not file.is_symlink()}
    left = ["a.znn", "b.znn.safetensors", "c.znn"]
    assert back == plain | {name: (source / name).read_bytes() for name in left}


def test_one_failure_stops_nothing(tmp_path, rng):
    source = tmp_path / "source"
    plain = repository(source, rng)
    shard = source / "model-00001-of-00002.znn.safetensors"
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(FailuresError, match=r"1 failed.*model-00001-of-00002\.znn\.safetensors: has a damaged header"):
        zipfs.compress(source, tmp_path / "stored")
    zipfs.decompress(tmp_path / "stored", tmp_path / "back")
    names = {file.name for file in (tmp_path / "back").iterdir()}
    assert names == plain.keys() - {"model-00001-of-00002.safetensors"}


def test_sizes_add_up(tmp_path, rng):
    plain, path = tmp_path / "plain.safetensors", tmp_path / "model.znn.safetensors"
    save_file(
        {"w": torch.from_numpy(rng.normal(0, 0.02, (700, 801)).astype(np.float32))}, plain, metadata={"format": "pt"}
    )
    znn_safetensors(plain, path)
    out = tmp_path / "out"
    out.mkdir()
    done = []
    summary = zipfs.compress(path, out, progress=lambda size, _: done.append(size))
    assert summary.plain_size == plain.stat().st_size > math.fsum(done) == path.stat().st_size
    assert [segment["dtype"] for segment in file_info(str(out / "model.safetensors.zipfs"))["segments"]] == ["F32"]
