"""Layout detection: every dtype, byte-exact headers, and every way in which a header can be broken."""

import json
import subprocess
import sys

import pytest
from models import all_dtypes, safetensors_bytes, write_safetensors

from zipfs import _native
from zipfs.layouts import Segment, detect
from zipfs.layouts.safetensors import MAX_HEADER, parse_safetensors

ONE = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}


def detect_bytes(data: bytes) -> list[Segment]:
    return detect(lambda count, offset: data[offset : offset + count], len(data))


def with_header(header: bytes, data_size: int) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(data_size)


def test_byte_exact_header():
    header = b'{"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}      '
    assert detect_bytes(b"\x40\0\0\0\0\0\0\0" + header + bytes(12)) == [Segment("a", "BF16", (2, 3), 72, 12)]


def test_every_dtype_as_safetensors_reads_it(rng, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    tensors = all_dtypes(rng)
    path = write_safetensors(tmp_path / "m.safetensors", tensors, metadata={"format": "pt"}, padding=5)
    data = path.read_bytes()
    found = {segment.name: segment for segment in detect_bytes(data)}
    assert found.keys() == tensors.keys()
    with safetensors.safe_open(path, "numpy") as file:
        assert set(file.keys()) == tensors.keys()
        for name, (dtype, shape, plain) in tensors.items():
            segment = found[name]
            assert (segment.dtype, list(segment.shape), segment.size) == (dtype, shape, len(plain))
            assert data[segment.offset : segment.offset + segment.size] == plain
            assert file.get_slice(name).get_dtype() == dtype


def test_tensors_are_sorted_by_offset():
    header = {
        "late": {"dtype": "U8", "shape": [4], "data_offsets": [8, 12]},
        "early": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "none": {"dtype": "F32", "shape": [0], "data_offsets": [8, 8]},
    }
    segments = parse_safetensors(json.dumps(header).encode(), 12)
    assert [segment.name for segment in segments] == ["early", "none", "late"]


def test_layouts_cut_complex_numbers_as_pairs_and_guess_bytes():
    assert Segment("c", "C64", (1,), 0, 8).layout == _native.LAYOUTS["F32"]
    assert Segment("u", "U8", (1,), 0, 1).layout == _native.LAYOUTS["GUESS"]
    assert Segment("u", "U16", (1,), 0, 2).layout == _native.LAYOUTS["I16"]


def changed(**fields) -> bytes:
    return json.dumps({"a": {**ONE, **fields}}).encode()


BROKEN = {
    "no object": b"[1,2]      ",
    "not JSON": b'{"a":',
    "not UTF-8": b'{"\xff":{"dtype":"U8","shape":[12],"data_offsets":[0,12]}}',
    "lone surrogate": b'{"\\ud800":{"dtype":"U8","shape":[12],"data_offsets":[0,12]}}',
    "trailing text": changed() + b"x",
    "trailing NUL": changed() + b"\0",
    "key twice": b'{"a":%s,"a":%s}' % ((json.dumps(ONE).encode(),) * 2),
    "field twice": b'{"a":{"dtype":"U8","dtype":"U8","shape":[12],"data_offsets":[0,12]}}',
    "tensor is a list": b'{"a":[]}',
    "tensor is null": b'{"a":null}',
    "no dtype": b'{"a":{"shape":[12],"data_offsets":[0,12]}}',
    "unknown dtype": changed(dtype="F7"),
    "dtype is a list": changed(dtype=["BF16"]),
    "shape is a string": changed(shape="6"),
    "shape holds a float": changed(shape=[2.0, 3]),
    "shape holds a bool": changed(shape=[6, True]),
    "negative shape": changed(shape=[-2, -3]),
    "huge shape": changed(shape=[2**64 - 1] * 64),
    "shape beyond 64 bits": changed(shape=[2**64, 0]),
    "shape of another size": changed(shape=[2, 4]),
    "three offsets": changed(data_offsets=[0, 12, 12]),
    "one offset": changed(data_offsets=[0]),
    "offsets reversed": changed(data_offsets=[12, 0]),
    "negative offset": changed(data_offsets=[-12, 0]),
    "offset beyond the file": changed(shape=[2, 6], data_offsets=[0, 24]),
    "hole before the first": changed(shape=[2, 2], data_offsets=[4, 12]),
    "bytes behind the last": changed(shape=[2, 2], data_offsets=[0, 8]),
    "half a byte": changed(dtype="F4", shape=[23], data_offsets=[0, 12]),
    "NaN": b'{"a":{"dtype":"U8","shape":[12],"data_offsets":[0,NaN]}}',
    "number of 5000 digits": b'{"a":{"dtype":"U8","shape":[%s],"data_offsets":[0,12]}}' % (b"1" * 5000),
    "deep nesting": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "many brackets": b'{"a":[' + b"[]," * 500_001 + b"[]]}",
    "metadata is a list": b'{"__metadata__":[],"a":%s}' % json.dumps(ONE).encode(),
    "metadata of numbers": b'{"__metadata__":{"n":1},"a":%s}' % json.dumps(ONE).encode(),
    "overlap": json.dumps({"a": ONE, "b": {**ONE, "shape": [2], "data_offsets": [8, 12]}}).encode(),
    "hole": json.dumps(
        {"a": {**ONE, "shape": [2], "data_offsets": [0, 4]}, "b": {**ONE, "shape": [2], "data_offsets": [8, 12]}}
    ).encode(),
    "same range twice": json.dumps({"a": ONE, "b": ONE}).encode(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_header_makes_the_file_opaque(name):
    assert detect_bytes(with_header(changed(), 12)), "the base of these cases is valid"
    assert detect_bytes(with_header(BROKEN[name], 12)) == []
    if name != "not UTF-8":
        with pytest.raises(ValueError):
            parse_safetensors(BROKEN[name], 12)


@pytest.mark.parametrize("data", [b"", b"{", b"\x02\0\0\0\0\0\0\0{", bytes(8), bytes(100)])
def test_short_files_are_opaque(data):
    assert detect_bytes(data) == []


@pytest.mark.parametrize("size", [13, 100, MAX_HEADER + 1, 1 << 40, (1 << 64) - 1])
def test_header_size_beyond_the_file_or_the_limit(size):
    data = bytearray(with_header(changed(), 12))
    data[:8] = size.to_bytes(8, "little")
    assert detect_bytes(bytes(data)) == []


def test_truncation_at_every_byte():
    data = safetensors_bytes({"a": ("BF16", [2, 3], bytes(12)), "b": ("U8", [3], b"abc")})
    assert len(detect_bytes(data)) == 2
    for size in range(len(data)):
        assert detect_bytes(data[:size]) == []


def test_hostile_headers_take_bounded_memory(tmp_path):
    program = """
import os, re, sys
from zipfs.layouts import detect

def peak():
    # Not ru_maxrss, which begins with that of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

before = peak()
fd = os.open(sys.argv[1], os.O_RDONLY)
assert detect(lambda count, offset: os.pread(fd, count, offset), os.fstat(fd).st_size) == []
print(peak() - before >> 10)
"""
    size = MAX_HEADER - 64
    for filler in (b"[],", b"{},", b"12345,", b'"ab",'):
        body = b'{"a":[' + filler * (size // len(filler)) + b"0]}"
        path = tmp_path / "hostile"
        path.write_bytes(with_header(body, 12))
        run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
        print(f"{filler!r} took {run.stdout} MiB")
        assert int(run.stdout) < 200
