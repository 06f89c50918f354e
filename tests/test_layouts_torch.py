"""Tensors of torch's zip archives: every dtype, views, names, and pickles that nobody runs."""

import io
import os
import pickle
import zipfile

import pytest

torch = pytest.importorskip("torch")

from model_files import plain_bytes

from zipfs.layouts import Segment, detect

pytestmark = pytest.mark.filterwarnings("ignore:.*(ComplexHalf|torch.jit)")

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
    "C32": torch.complex32,
    "C64": torch.complex64,
    "C128": torch.complex128,
}


def saved(value, **options) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def detect_bytes(data: bytes) -> list[Segment]:
    return detect(lambda count, offset: data[offset : offset + count], len(data))


def shapes(data: bytes) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {segment.name: (segment.dtype, segment.shape) for segment in detect_bytes(data)}


def rewritten(data: bytes, change, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with change(name, content) for the content of each member; None leaves it out."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return file.getvalue()


def keep(_: str, content: bytes) -> bytes:
    return content


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_dtype(dtype, protocol):
    tensor = torch.arange(24).reshape(2, 3, 4).to(DTYPES[dtype])
    data = saved({"a": tensor}, pickle_protocol=protocol)
    (segment,) = detect_bytes(data)
    assert (segment.name, segment.dtype, segment.shape) == ("a", dtype, (2, 3, 4))
    assert data[segment.offset :][: segment.size] == bytes(tensor.view(torch.uint8).flatten().tolist())


def test_dtypes_of_pairs_of_four_bits_are_bytes():
    tensor = torch.zeros(3, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    assert shapes(saved({"a": tensor})) == {"a": ("U8", (3, 4))}


def test_names_are_the_keys_that_lead_there():
    one, two = torch.ones(2), torch.ones(3)
    state = {"state_dict": {"a.weight": one}, "optimizer": {"state": {7: {"m": two}}, "groups": [{"lr": 0.1}]}}
    assert shapes(saved(state)) == {"state_dict.a.weight": ("F32", (2,)), "optimizer.state.7.m": ("F32", (3,))}


def test_modules_and_parameters():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    wanted = {name: ("I64" if "num" in name else "F32", tuple(t.shape)) for name, t in module.state_dict().items()}
    assert shapes(saved(module)) == shapes(saved(module.state_dict())) == wanted
    assert shapes(saved({"p": torch.nn.Parameter(torch.ones(2))})) == {"p": ("F32", (2,))}


def test_torchscript():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 4)), file)
    assert shapes(file.getvalue()) == {"weight": ("F32", (4, 3)), "bias": ("F32", (4,))}


def test_equal_tensors_are_one_segment():
    tensor = torch.ones(4, 5)
    segments = detect_bytes(saved({"embed": tensor, "head": tensor, "view": tensor.view(20)}))
    assert [(segment.dtype, segment.size) for segment in segments] == [("F32", 80)]


def test_views():
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    data = saved({"permuted": base.permute(2, 0, 1)})
    assert shapes(data) == {"permuted": ("F32", (3, 4, 5))}, "the order of the bytes, not that of the view"
    (segment,) = detect_bytes(data)
    assert data[segment.offset :][: segment.size] == plain_bytes(base)
    rows = saved({"first": base[0], "last": base[2]})
    assert [(s.name, s.shape) for s in detect_bytes(rows)] == [
        ("first", (4, 5)),
        ("archive/data/0", (20,)),
        ("last", (4, 5)),
    ]
    assert shapes(saved({"strided": base[:, :, ::2]})) == {"archive/data/0": ("F32", (60,))}
    assert shapes(saved({"expanded": base[:1, :1, :1].expand(9, 9, 9)})) == {"archive/data/0": ("F32", (60,))}


def test_empty_tensors_and_scalars():
    assert shapes(saved({"e": torch.ones(0, 3), "s": torch.tensor(1.5)})) == {"e": ("F32", (0, 3)), "s": ("F32", ())}


def test_compressed_members_are_opaque():
    data = saved({"a": torch.ones(1000)})
    assert detect_bytes(rewritten(data, keep))
    assert detect_bytes(rewritten(data, keep, zipfile.ZIP_DEFLATED)) == []
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():  # the storage alone, of bytes that deflate makes no shorter
            compression = zipfile.ZIP_DEFLATED if name.endswith("data/0") else zipfile.ZIP_STORED
            new.writestr(name, os.urandom(4000) if name.endswith("data/0") else old.read(name), compression)
    assert detect_bytes(file.getvalue()) == []


def test_big_endian_archives_are_opaque():
    data = saved({"a": torch.ones(1000)})
    assert detect_bytes(rewritten(data, lambda name, content: b"big" if "byteorder" in name else content)) == []
    assert detect_bytes(rewritten(data, lambda name, content: None if "byteorder" in name else content))


def test_storages_that_are_too_short_are_left_to_the_guess():
    data = saved({"a": torch.ones(1000), "b": torch.ones(10)})
    cut = rewritten(data, lambda name, content: content[:99] if name.endswith("data/0") else content)
    assert shapes(cut) == {"archive/data/0": ("U8", (99,)), "b": ("F32", (10,))}


def test_the_old_format_of_torch_is_opaque():
    assert detect_bytes(saved({"a": torch.ones(1000)}, _use_new_zipfile_serialization=False)) == []


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_are_never_run(tmp_path, protocol):
    paths = [tmp_path / name for name in ("system", "eval", "made")]
    evils = [
        Evil(os.system, (f"touch {paths[0]}",)),
        Evil(eval, (f"open({str(paths[1])!r}, 'w')",)),
        Evil(os.mkdir, (str(paths[2]),)),
    ]
    data = saved({"before": torch.ones(2), "evil": evils, "after": torch.ones(3)}, pickle_protocol=protocol)
    assert shapes(data) == {"before": ("F32", (2,)), "after": ("F32", (3,))}
    assert not any(path.exists() for path in paths)
    pickle.loads(pickle.dumps(evils))
    assert all(path.exists() for path in paths), "they would have done it"


def test_what_stands_before_a_broken_opcode_counts():
    data = saved({"a": torch.ones(2), "b": torch.ones(3)})
    cut = rewritten(data, lambda name, content: content[:-60] + b"\xff" if name.endswith("data.pkl") else content)
    assert ("F32", (2,)) in shapes(cut).values()
