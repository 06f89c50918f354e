"""GGUF, numpy and ONNX: every type, and what each format can say beyond plain tensors."""

import io
import struct

import ml_dtypes
import numpy as np
import pytest

import zipfs
from zipfs import _native
from zipfs.errors import UsageError
from zipfs.layouts import Segment, detect, forced, gguf

ELEMENTS = np.arange(6).reshape(2, 3)


def detect_bytes(data: bytes) -> list[Segment]:
    return detect(lambda count, offset: data[offset : offset + count], len(data))


def held(data: bytes, segment: Segment) -> bytes:
    return data[segment.offset : segment.offset + segment.size]


# ---- GGUF ----


def gguf_bytes(
    infos, values: bytes = b"", num_values: int = 0, version: int = 3, data: bytes = bytes(4096), order: str = "<"
) -> bytes:
    """A file with tensors (name, shape as ggml has it, type, offset)."""
    head = bytearray(b"GGUF" + struct.pack(f"{order}IQQ", version, len(infos), num_values) + values)
    for name, shape, kind, offset in infos:
        head += struct.pack(f"{order}Q", len(name)) + name + struct.pack(f"{order}I{len(shape)}Q", len(shape), *shape)
        head += struct.pack(f"{order}IQ", kind, offset)
    return bytes(head) + bytes(-len(head) % 32) + data


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def test_byte_exact_gguf():
    data = gguf_bytes([(b"a", (3, 2), 30, 0), (b"b", (64, 2), 8, 64)])
    start = len(data) - 4096
    assert detect_bytes(data) == [
        Segment("a", "BF16", (2, 3), start, 12),
        Segment("b", "Q8_0", (2, 64), start + 64, 136),
    ]


@pytest.mark.parametrize("version", range(5))
def test_versions_of_gguf(version):
    assert bool(detect_bytes(gguf_bytes([(b"a", (3, 2), 0, 0)], version=version))) == (version in (2, 3))


def test_big_endian_gguf_is_opaque():
    assert detect_bytes(gguf_bytes([(b"a", (3, 2), 0, 0)], order=">")) == []


def test_every_type_of_gguf():
    constants = pytest.importorskip("gguf.constants")
    known = {int(kind): (kind.name, *sizes) for kind, sizes in constants.GGML_QUANT_SIZES.items()}
    assert known == gguf.TYPES
    for number, (dtype, length, size) in gguf.TYPES.items():
        (segment,) = detect_bytes(gguf_bytes([(b"a", (2 * length, 2), number, 0)]))
        assert (segment.dtype, segment.shape, segment.size) == (dtype, (2, 2 * length), 4 * size)


def test_unknown_types_of_gguf_are_left_out():
    data = gguf_bytes([(b"a", (32,), 0, 0), (b"b", (32,), 4, 128), (b"c", (32,), 0, 256)])
    assert [segment.name for segment in detect_bytes(data)] == ["a", "c"]


def test_metadata_of_gguf_is_skipped():
    numbers = [(kind, bytes(width)) for kind, width in ((0, 1), (2, 2), (4, 4), (6, 4), (7, 1), (10, 8), (12, 8))]
    values = [text(b"n%d" % kind) + struct.pack("<I", kind) + value for kind, value in numbers]
    values.append(text(b"s") + struct.pack("<I", 8) + text(b"x" * 100_000))
    values.append(text(b"ss") + struct.pack("<IIQ", 9, 8, 50_000) + text(b"token") * 50_000)
    values.append(text(b"fs") + struct.pack("<IIQ", 9, 6, 50_000) + bytes(200_000))
    values.append(text(b"general.alignment") + struct.pack("<II", 4, 256))
    data = gguf_bytes([(b"a", (8,), 0, 0)], b"".join(values), len(values), data=bytes(8192))
    (segment,) = detect_bytes(data)
    assert segment.offset % 256 == 0 and len(data) - 8192 <= segment.offset < len(data) - 8192 + 256


@pytest.mark.parametrize("value", [struct.pack("<I", 13), struct.pack("<IIQ", 9, 9, 0), struct.pack("<II", 4, 0)])
def test_metadata_of_gguf_that_makes_no_sense(value):
    data = gguf_bytes([(b"a", (8,), 0, 0)], text(b"general.alignment") + value + bytes(32), 1)
    assert detect_bytes(data) == []


def test_quantised_gguf_round_trips(rng, tmp_path):
    package = pytest.importorskip("gguf")
    weights = rng.normal(0, 0.02, (64, 4096)).astype(np.float32)
    writer = package.GGUFWriter(tmp_path / "m.gguf", "llama")
    for kind in ("Q4_0", "Q5_1", "Q8_0", "TQ1_0", "MXFP4", "BF16"):
        number = package.GGMLQuantizationType[kind]
        writer.add_tensor(kind, package.quants.quantize(weights, number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    reader = package.GGUFReader(tmp_path / "m.gguf")
    data = (tmp_path / "m.gguf").read_bytes()
    assert [(t.name, int(t.data_offset), int(t.n_bytes)) for t in reader.tensors] == [
        (segment.name, segment.offset, segment.size) for segment in detect_bytes(data)
    ]
    assert all(segment.shape == (64, 4096) for segment in detect_bytes(data))
    zipfs.compress(tmp_path / "m.gguf", tmp_path / "m.zipfs")
    zipfs.decompress(tmp_path / "m.zipfs", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


# ---- numpy ----


def npy_bytes(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("b1", "BOOL"), ("i1", "I8"), ("u1", "U8"), ("i2", "I16"), ("u2", "U16"), ("f2", "F16"), ("i4", "I32"),
        ("u4", "U32"), ("f4", "F32"), ("i8", "I64"), ("u8", "U64"), ("f8", "F64"), ("c8", "C64"), ("c16", "C128"),
        (">f4", ">f4"), (">i2", ">i2"), ("V3", "V3"), (ml_dtypes.bfloat16, "V2"),
    ],
)  # fmt: skip
def test_every_dtype_of_numpy(dtype, name, version):
    array = ELEMENTS.astype("u1").astype(dtype)
    data = npy_bytes(array, version)
    (segment,) = detect_bytes(data)
    assert (segment.name, segment.dtype, segment.shape) == ("", name, (2, 3))
    assert held(data, segment) == array.tobytes()


def test_the_dtype_without_a_name_is_bfloat16():
    (segment,) = detect_bytes(npy_bytes(ELEMENTS.astype("f4").astype(ml_dtypes.bfloat16)))
    assert (segment.dtype, segment.layout) == ("V2", _native.LAYOUTS["BF16"])


def test_arrays_in_fortran_order():
    array = np.asfortranarray(ELEMENTS.astype("f4"))
    (segment,) = detect_bytes(npy_bytes(array))
    assert segment.shape == (3, 2), "the order of the bytes"


def test_scalars_vectors_and_empty_arrays():
    for array in (np.float32(1), np.arange(5), np.zeros((0, 4))):
        (segment,) = detect_bytes(npy_bytes(np.asarray(array)))
        assert (segment.shape, segment.size) == (np.shape(array), np.asarray(array).nbytes)


def test_bytes_behind_an_array_are_no_part_of_it():
    data = npy_bytes(ELEMENTS.astype("f4"))
    assert [segment.size for segment in detect_bytes(data + data)] == [24]
    assert detect_bytes(data[:-1]) == []


@pytest.mark.parametrize("dtype", ["O", "U3", [("a", "f4"), ("b", "i4")], "M8[s]"])
def test_arrays_of_other_things_are_opaque(dtype):
    file = io.BytesIO()
    np.save(file, np.zeros((2, 3), dtype), allow_pickle=True)
    assert detect_bytes(file.getvalue()) == []


def test_headers_of_other_writers():
    for header in (
        b"{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4'}",
        b'{"descr":"<f4","fortran_order":False,"shape":(2L,3L),}\n',
    ):
        data = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(24)
        assert [(s.dtype, s.shape) for s in detect_bytes(data)] == [("F32", (2, 3))]


def test_headers_are_never_evaluated(tmp_path):
    header = (
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').mkdir('%s'),)}"
        % str(tmp_path / "made").encode()
    )
    assert detect_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(24)) == []
    assert not (tmp_path / "made").exists()


def test_archives_of_numpy():
    file = io.BytesIO()
    np.savez(file, ELEMENTS, named=np.arange(4.0), text=np.array(["a"]))
    assert [(s.name, s.dtype) for s in detect_bytes(file.getvalue())] == [("named", "F64"), ("arr_0", "I64")]
    file = io.BytesIO()
    np.savez_compressed(file, ELEMENTS)
    assert detect_bytes(file.getvalue()) == []


@pytest.mark.parametrize("kind", ["plain", "zip64", "comment", "zip64 comment"])
def test_zip64_and_comments(kind):
    """Offsets and sizes in the field of zip64 alone, as beyond 4 GiB; made by hand, since zipfile does so only there."""
    content = npy_bytes(ELEMENTS.astype("f4"))
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 45, 0, 0, 0, 0, 0, len(content), len(content), 5, 0) + b"a.npy"
    start = len(b"PK\3\4 and more in front") + len(local)
    front = b"PK\3\4 and more in front"
    is_wide, none = "zip64" in kind, 0xFFFFFFFF
    extra = struct.pack("<HHQQQ", 1, 24, len(content), len(content), len(front)) if is_wide else b""
    sizes = (none, none) if is_wide else (len(content), len(content))
    entry = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 45, 45, 0, 0, 0, 0, 0, *sizes, 5, len(extra), 0, 0, 0, 0,
                        none if is_wide else len(front)) + b"a.npy" + extra  # fmt: skip
    at = start + len(content)
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), at)
    end64 += struct.pack("<4sIQI", b"PK\6\7", 0, at + len(entry), 1)
    counts = (0xFFFF, 0xFFFF, none, none) if is_wide else (1, 1, len(entry), at)
    comment = b"a comment" if "comment" in kind else b""
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, *counts, len(comment)) + comment
    data = front + local + content + entry + (end64 if is_wide else b"") + end
    (segment,) = detect_bytes(data)
    assert (segment.name, segment.dtype) == ("a", "F32") and held(data, segment) == ELEMENTS.astype("f4").tobytes()


# ---- raw files ----


def test_forced_dtypes():
    assert forced("BF16", 11) == [Segment("", "BF16", (5,), 0, 10)]
    assert forced("F4", 11) == [Segment("", "F4", (22,), 0, 11)]
    assert forced("F64", 7) == []
    with pytest.raises(UsageError, match="'bf16' is no dtype; use one of BOOL, "):
        forced("bf16", 10)
