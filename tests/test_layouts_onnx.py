"""Tensors of ONNX models, and of the files beside them that hold their data."""

import os

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from hub import COMMIT, add_snapshot
from onnx import TensorProto, helper, numpy_helper
from safetensors import numpy as safetensors_numpy

import zipfs
from zipfs.importers import Importer
from zipfs.in_place import Containers
from zipfs.in_place_run import compress_in_place, decompress_in_place
from zipfs.info import file_info
from zipfs.keepers import InPlaceKeeper
from zipfs.layouts import Aliases, Segment, detect, onnx_external
from zipfs.pipeline import PipelinePool
from zipfs.selection import Selection
from zipfs.source import Source

TYPES = {
    "FLOAT": "F32", "UINT8": "U8", "INT8": "I8", "UINT16": "U16", "INT16": "I16", "INT32": "I32", "INT64": "I64",
    "BOOL": "BOOL", "FLOAT16": "F16", "DOUBLE": "F64", "UINT32": "U32", "UINT64": "U64", "COMPLEX64": "C64",
    "COMPLEX128": "C128", "BFLOAT16": "BF16", "FLOAT8E4M3FN": "F8_E4M3", "FLOAT8E4M3FNUZ": "F8_E4M3FNUZ",
    "FLOAT8E5M2": "F8_E5M2", "FLOAT8E5M2FNUZ": "F8_E5M2FNUZ", "UINT4": "U4", "INT4": "I4", "FLOAT4E2M1": "F4",
    "FLOAT8E8M0": "F8_E8M0", "UINT2": "U2", "INT2": "I2", "FLOAT6E2M3": "F6_E2M3", "FLOAT6E3M2": "F6_E3M2",
}  # fmt: skip
BITS = {"F6_E2M3": 6, "F6_E3M2": 6, "U4": 4, "I4": 4, "F4": 4, "U2": 2, "I2": 2, "BOOL": 8, "C64": 64, "C128": 128}
SIZE = onnx_external.MIN_SIZE


def detect_bytes(data: bytes) -> list[Segment]:
    return detect(lambda count, offset: data[offset : offset + count], len(data))


def tensor(name: str, dims: list[int], kind: int = TensorProto.FLOAT, raw: bytes | None = None) -> TensorProto:
    result = TensorProto(name=name, data_type=kind, dims=dims)
    if raw is not None:
        result.raw_data = raw
    return result


def external(name: str, location: str, offset: int | None = 0, count: int = SIZE // 4, **entries) -> TensorProto:
    result = tensor(name, [count])
    result.data_location = TensorProto.EXTERNAL
    if offset is not None:
        entries["offset"] = offset
    for key, value in ({"location": location} | entries).items():
        result.external_data.add(key=key, value=str(value))
    return result


def model(*initializers: TensorProto, nodes=()) -> bytes:
    return helper.make_model(helper.make_graph(nodes, "graph", [], [], initializers)).SerializeToString()


def find(path) -> list[Segment]:
    with Source(str(path)) as source:
        return source.segments()


@pytest.mark.parametrize("kind", TYPES)
def test_every_type(kind):
    if kind not in dict(TensorProto.DataType.items()):
        pytest.skip(f"this version of onnx has no {kind}")
    dtype = TYPES[kind]
    bits = BITS.get(dtype) or int("".join(c for c in dtype.split("_")[0] if c.isdigit()))
    raw = bytes(range(1, 1 + -(-15 * bits // 8)))
    data = model(tensor("a", [3, 5], TensorProto.DataType.Value(kind), raw))
    (segment,) = detect_bytes(data)
    assert (segment.name, segment.dtype, segment.shape) == ("a", dtype, (3, 5))
    assert data[segment.offset : segment.offset + segment.size] == raw


def test_all_types_are_known():
    numbers = set(TensorProto.DataType.keys()) - {"UNDEFINED", "STRING"}
    assert numbers <= TYPES.keys()


def test_numbers_in_fields_of_their_own():
    floats, doubles = TensorProto(name="f", data_type=1, dims=[2]), TensorProto(name="d", data_type=11, dims=[2])
    floats.float_data.extend([1.0, 2.0])
    doubles.double_data.extend([3.0, 4.0])
    data = model(floats, doubles)
    found = {segment.name: data[segment.offset : segment.offset + segment.size] for segment in detect_bytes(data)}
    assert found == {"f": np.float32([1, 2]).tobytes(), "d": np.float64([3, 4]).tobytes()}


def test_large_constants_in_nodes_and_their_graphs():
    value = numpy_helper.from_array(np.ones((20, 30), np.float32))
    constant = helper.make_node("Constant", [], ["outer"], value=value)
    named = numpy_helper.from_array(np.ones((20, 30), np.float16), "inner")
    branch = helper.make_graph([helper.make_node("Constant", [], ["x"], value=named)], "branch", [], [])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    small = helper.make_node("Constant", [], ["small"], value=numpy_helper.from_array(np.ones(3, np.float32)))
    found = [(s.name, s.dtype, s.shape) for s in detect_bytes(model(nodes=[constant, choice, small]))]
    assert found == [("outer", "F32", (20, 30)), ("inner", "F16", (20, 30)), ("inner", "F16", (20, 30))]


def test_sparse_initializers():
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(7, np.float32), "values"),
        numpy_helper.from_array(np.arange(7), "indices"),
        [100],
    )
    graph = helper.make_graph([], "graph", [], [], sparse_initializer=[sparse])
    found = detect_bytes(helper.make_model(graph).SerializeToString())
    assert [(s.name, s.dtype) for s in found] == [("values", "F32"), ("indices", "I64")]


def test_tensors_that_contradict_themselves_are_left_out():
    found = detect_bytes(model(tensor("long", [3], raw=bytes(13)), tensor("ok", [3], raw=bytes(12)), tensor("no", [3])))
    assert [segment.name for segment in found] == ["ok"]


def test_what_is_no_model_is_opaque():
    data = model(tensor("a", [3], raw=bytes(12)))
    assert detect_bytes(data)
    assert detect_bytes(data + b"\x08") == []
    assert detect_bytes(data + b"\x7b\x00") == [], "a field that models do not have"
    assert detect_bytes(b"\x08\x08") == [], "no graph"
    assert detect_bytes(data + data) == [], "two graphs"


# ---- external data ----


@pytest.fixture
def data_file(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(2 * SIZE))
    return path


def test_external_data(data_file):
    (data_file.parent / "a.onnx").write_bytes(
        model(
            external("two", "weights.bin", SIZE + 3, count=10, length=40),
            external("one", "./weights.bin", None, length=SIZE),
            external("elsewhere", "other.bin"),
        )
    )
    assert find(data_file) == [
        Segment("one", "F32", (SIZE // 4,), 0, SIZE),
        Segment("two", "F32", (10,), SIZE + 3, 40),
    ]


@pytest.mark.parametrize(
    "initializer",
    [
        external("a", "../weights.bin"),
        external("a", "/weights.bin"),
        external("a", "sub/weights.bin"),
        external("a", "./../x/weights.bin"),
        external("a", "weights.bin", -1),
        external("a", "weights.bin", "0x10"),
        external("a", "weights.bin", 2 * SIZE - 1),
        external("a", "weights.bin", 10**18),
        external("a", "weights.bin", 10**30),
        external("a", "weights.bin", length=7),
        tensor("a", [SIZE // 4]),
    ],
)
def test_external_data_that_lies_elsewhere_or_nowhere(data_file, initializer):
    (data_file.parent / "a.onnx").write_bytes(model(initializer))
    assert find(data_file) == []


def test_absolute_locations_do_not_count(data_file):
    (data_file.parent / "a.onnx").write_bytes(model(external("a", str(data_file))))
    assert find(data_file) == []


def test_of_overlapping_tensors_the_first_stays(data_file):
    tensors = [external("a", "weights.bin", 0), external("tied", "weights.bin", 0), external("b", "weights.bin", 4)]
    (data_file.parent / "a.onnx").write_bytes(model(*tensors, external("c", "weights.bin", SIZE)))
    assert [segment.name for segment in find(data_file)] == ["a", "c"]


def test_small_files_are_no_external_data(tmp_path):
    (tmp_path / "a.onnx").write_bytes(model(external("a", "small.bin", count=1)))
    (tmp_path / "small.bin").write_bytes(bytes(SIZE - 1))
    assert find(tmp_path / "small.bin") == []


def test_the_model_with_the_name_of_the_data_is_asked_first(tmp_path):
    path = tmp_path / "model.onnx_data"
    path.write_bytes(bytes(2 * SIZE))
    for name in ("a", "model", "z"):
        (tmp_path / f"{name}.onnx").write_bytes(model(external(f"of {name}", path.name)))
    assert [segment.name for segment in find(path)] == ["of model"]
    os.unlink(tmp_path / "model.onnx")
    assert [segment.name for segment in find(path)] == ["of a"]
    for number in range(onnx_external.MAX_MODELS):
        (tmp_path / f"0{number}.onnx").write_bytes(b"")
    assert find(path) == []


def test_models_that_cannot_be_read(data_file):
    folder = data_file.parent
    (folder / "0.onnx").mkdir()
    os.mkfifo(folder / "1.onnx")
    os.symlink("nowhere", folder / "2.onnx")
    (folder / "outside").mkdir()
    (folder / "outside/3.onnx").write_bytes(model(external("linked", data_file.name)))
    os.symlink("outside/3.onnx", folder / "3.onnx")
    (folder / "4.onnx").write_bytes(b"no model")
    (folder / "5.onnx.zipfs").write_bytes(b"\x89ZIPFS\r\n")
    assert find(data_file) == []
    (folder / "6.onnx").write_bytes(model(external("a", data_file.name)))
    assert [segment.name for segment in find(data_file)] == ["a"]


def test_a_model_that_is_a_container_already(data_file):
    path = data_file.parent / "a.onnx"
    path.write_bytes(model(external("a", data_file.name), tensor("filler", [50_000], raw=bytes(200_000))))
    zipfs.compress(path, data_file.parent / "a.onnx.zipfs")
    path.unlink()
    assert [segment.name for segment in find(data_file)] == ["a"]
    damaged = bytearray((data_file.parent / "a.onnx.zipfs").read_bytes())
    damaged[300] ^= 1
    (data_file.parent / "a.onnx.zipfs").write_bytes(damaged)
    assert find(data_file) == []


def test_info_lists_the_tensors_of_external_data(rng, tmp_path):
    (tmp_path / "plain").mkdir()
    weights = rng.normal(0, 0.02, SIZE // 4).astype(np.float32)
    (tmp_path / "plain/m.onnx_data").write_bytes(weights.tobytes())
    (tmp_path / "plain/m.onnx").write_bytes(model(external("w", "m.onnx_data")))
    zipfs.compress(tmp_path / "plain", tmp_path / "stored")
    (segment,) = file_info(str(tmp_path / "stored/m.onnx_data.zipfs"))["segments"]
    assert (segment["name"], segment["dtype"], segment["plain_size"]) == ("w", "F32", SIZE)


# ---- names that only symlinks have ----

TENSORS = 4


@pytest.fixture
def hub(rng, tmp_path):
    """A Hugging Face cache with a model of F32 weights as ONNX external data and as safetensors."""
    arrays = {f"layer.{i}": rng.normal(0, 0.02, (512, 700 + i)).astype(np.float32) for i in range(TENSORS)}
    graph = helper.make_graph([], "graph", [], [], [numpy_helper.from_array(a, n) for n, a in arrays.items()])
    folder = tmp_path / "made"
    folder.mkdir()
    onnx.save(helper.make_model(graph), folder / "model.onnx", save_as_external_data=True, location="model.onnx_data")
    safetensors_numpy.save_file(arrays, folder / "model.safetensors")
    files = {f"onnx/{name}": (folder / name).read_bytes() for name in ("model.onnx", "model.onnx_data")}
    files["model.safetensors"] = (folder / "model.safetensors").read_bytes()
    add_snapshot(tmp_path / "hub", "some/model", files, large=1)
    return tmp_path / "hub"


def stored(snapshot, name: str):
    """The container that the symlink `name` of a compressed cache stands for."""
    return str((snapshot / name).resolve()) + ".zipfs"


def check_external_data(hub) -> None:
    snapshot = hub / "models--some--model" / "snapshots" / COMMIT
    facts = file_info(stored(snapshot, "onnx/model.onnx_data"))
    assert [segment["name"] for segment in facts["segments"]] == [f"layer.{i}" for i in range(TENSORS)]
    assert {segment["dtype"] for segment in facts["segments"]} == {"F32"}
    as_safetensors = file_info(stored(snapshot, "model.safetensors"))["stored_size"]
    assert abs(facts["stored_size"] - as_safetensors) < 0.003 * as_safetensors


def test_external_data_among_the_blobs_of_a_cache(hub, tmp_path):
    zipfs.compress(hub, tmp_path / "dst")
    check_external_data(tmp_path / "dst")


def test_external_data_among_blobs_compressed_in_place(hub, tmp_path):
    """The model may be a container already when the data has its turn."""
    compress_in_place(hub)
    check_external_data(hub)
    decompress_in_place(hub)
    data = (hub / "models--some--model/snapshots" / COMMIT / "onnx/model.onnx_data").resolve()
    model_blob = (hub / "models--some--model/snapshots" / COMMIT / "onnx/model.onnx").resolve()
    zipfs.compress(model_blob, f"{model_blob}.zipfs")
    model_blob.unlink()
    compress_in_place(hub)
    check_external_data(hub)
    assert not data.exists()


def test_symlinks_that_lead_out_of_the_folder_name_nothing(data_file, tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "a.onnx").write_bytes(model(external("a", "weights.bin")))
    data_file.rename(inside / "blob")
    (inside / "weights.bin").symlink_to("blob")
    (inside / "a.onnx").symlink_to("../outside/a.onnx")
    with Source(str(inside / "blob"), aliases=Aliases(str(inside))) as source:
        assert source.segments() == []
    with Source(str(inside / "blob"), aliases=Aliases(str(tmp_path))) as source:
        assert [segment.name for segment in source.segments()] == ["a"]


def test_aliases(tmp_path):
    for path in ("x/blob", "y/z/file"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"")
    links = {"x/one": "blob", "y/two": "../x/one", "y/z/dead": "../gone", "y/loop": "loop", "y/d": "z"}
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    aliases = Aliases(str(tmp_path))
    assert aliases.of(str(tmp_path / "x/blob")) == [str(tmp_path / "x/one"), str(tmp_path / "y/two")]
    assert aliases.of(str(tmp_path / "y/gone")) == [str(tmp_path / "y/z/dead")]
    assert aliases.of(str(tmp_path / "y/z/file")) == []
    (tmp_path / "late").symlink_to("y/z/file")
    assert aliases.of(str(tmp_path / "y/z/file")) == []
    aliases.forget()
    assert aliases.of(str(tmp_path / "y/z/file")) == [str(tmp_path / "late")]
    assert Aliases().of(str(tmp_path / "x/blob")) == []


def test_symlinks_that_came_after_others_while_a_cache_is_watched(hub, tmp_path):
    blobs, snapshots = (hub / "models--some--model" / name for name in ("blobs", "snapshots"))
    snapshots.rename(tmp_path / "later")
    with PipelinePool() as pipelines:
        form = Containers(pipelines, Importer(), Selection(), str(hub), False, lambda size, stored_size: None)
        assert form.aliases.of(str(blobs)) == []
        (tmp_path / "later").rename(snapshots)
        InPlaceKeeper(form, lambda line: None).keep(sorted(map(str, blobs.iterdir())))
    check_external_data(hub)
