"""Headers that lie: nothing is raised, nothing takes long or much memory, and segments stay within the file."""

import io
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from models import all_dtypes, safetensors_bytes
from test_layouts_formats import gguf_bytes, npy_bytes, text

from zipfs import segments
from zipfs.layouts import Segment, detect

MAX_SECONDS = 10
"""For one hostile header; they take 3 seconds and less on a machine that does nothing else."""
MAX_MIB = 400
NUM_FLIPS = 400


def check(data: bytes) -> list[Segment]:
    """Detects, and checks what every caller relies on."""

    def pread(count: int, offset: int) -> bytes:
        assert 0 <= count <= len(data) and 0 <= offset < len(data), "os.pread takes no others"
        return data[offset : offset + count]

    found = detect(pread, len(data))
    end = 0
    for segment in found:
        assert segment.offset >= end and segment.offset + segment.size <= len(data)
        end = segment.offset + segment.size
    table = segments.pack(found, [0] * len(found))
    assert not table or len(segments.parse(table, len(data))) <= len(found)
    return found


def varint(value: int) -> bytes:
    result = b""
    while value > 0x7F:
        result += bytes([value & 0x7F | 0x80])
        value >>= 7
    return result + bytes([value])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def onnx_bytes(graph: bytes) -> bytes:
    return field(1, 8) + field(2, b"tests") + field(7, graph)


def zip_bytes(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def torch_bytes(value=None) -> bytes:
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save(value or {f"layer.{i}": torch.ones(3, 5) for i in range(10)}, file)
    return file.getvalue()


def npz_bytes() -> bytes:
    return zip_bytes({f"a{i}.npy": npy_bytes(np.ones((i, 4), np.float16)) for i in range(5)})


def small_onnx() -> bytes:
    tensor = field(1, 20) + field(1, 30) + field(2, 1) + field(8, b"weight") + field(9, bytes(2400))
    external = field(1, 7) + field(2, 1) + field(8, b"e") + field(13, field(1, b"location") + field(2, b"w.bin"))
    node = field(2, b"y") + field(4, b"Constant") + field(5, field(1, b"value") + field(5, tensor))
    return onnx_bytes(field(5, tensor) + field(1, node) + field(5, external))


def small_gguf() -> bytes:
    values = text(b"general.alignment") + struct.pack("<II", 4, 64)
    values += text(b"tokens") + struct.pack("<IIQ", 9, 8, 20) + text(b"token") * 20
    return gguf_bytes([(b"a", (32, 2), 0, 0), (b"b", (256, 3), 12, 256), (b"c", (9,), 30, 1024)], values, 2)


SMALL = {
    "safetensors": lambda rng: safetensors_bytes(all_dtypes(rng, rows=2)),
    "gguf": lambda rng: small_gguf(),
    "torch": lambda rng: torch_bytes(),
    "npz": lambda rng: npz_bytes(),
    "npy": lambda rng: npy_bytes(np.ones((3, 4), np.float32)),
    "onnx": lambda rng: small_onnx(),
}


@pytest.mark.parametrize("kind", SMALL)
def test_truncations(rng, kind):
    data = SMALL[kind](rng)
    whole = check(data)
    assert whole
    for size in range(0, len(data), max(1, len(data) // 1000)):
        assert len(check(data[:size])) <= len(whole)


@pytest.mark.parametrize("kind", SMALL)
def test_flipped_bytes(rng, kind):
    data = SMALL[kind](rng)
    ends = [1000, len(data)]
    for number in range(NUM_FLIPS):
        broken = bytearray(data)
        for place in rng.integers(0, min(len(data), ends[number % 2]), rng.integers(1, 9)):
            broken[-1 - place if number % 3 == 0 else place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
        check(bytes(broken))


@pytest.mark.parametrize(
    "magic", [b"GGUF", b"PK\3\4", b"PK\5\6", b"\x93NUMPY\1\0", b"\x08\x08:", b"\x08\0\0\0\0\0\0\0{"]
)
def test_noise_behind_a_magic(rng, magic):
    for size in (0, 1, 20, 100, 10_000):
        check(magic + rng.bytes(size))
        check(magic + bytes(size))
        check(magic + b"\xff" * size)


def test_huge_counts_of_gguf():
    most = (1 << 64) - 1
    head = b"GGUF" + struct.pack("<I", 3)
    assert check(head + struct.pack("<QQ", most, 0) + bytes(1000)) == []
    assert check(head + struct.pack("<QQ", 0, most) + bytes(1000)) == []
    for kind in (0, 8, 12):
        array = text(b"k") + struct.pack("<IIQ", 9, kind, most)
        assert check(head + struct.pack("<QQ", 1, 1) + array + bytes(1000)) == []
    assert check(head + struct.pack("<QQ", 1, 0) + struct.pack("<Q", most) + bytes(1000)) == []
    for shape, offset in (((most,) * 4, 0), ((most, 0), 0), ((8,), most), ((8,), 1 << 62), ((1 << 62,), 0)):
        assert check(gguf_bytes([(b"a", shape, 0, offset)])) == []


def test_overlaps_and_ends():
    """The first of two that overlap stays, and nothing goes beyond the end."""
    infos = [(b"a", (64,), 0, 0), (b"b", (64,), 0, 128), (b"c", (64,), 0, 256), (b"d", (64,), 0, 4096 - 255)]
    assert [segment.name for segment in check(gguf_bytes(infos))] == ["a", "c"]


@pytest.mark.parametrize("shape", ["9" * 60_000, "9" * 18 + "," * 100, "1," * 30_000, "9" * 19 + ", 0"])
def test_shapes_of_numpy(shape):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + shape.encode() + b"), }"
    assert check(b"\x93NUMPY\2\0" + struct.pack("<I", len(header)) + header + bytes(100)) == []


def test_names_that_are_no_text():
    assert check(gguf_bytes([(b"\xff\xfe\xed\xa0\x80", (8,), 0, 0)]))[0].name.encode()
    pickle = (
        b"\x80\x02}X\x03\0\0\0\xed\xa0\x80ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
    )
    pickle += b"X\x01\0\0\x000X\x03\0\0\0cpuK\x02tQK\0(K\x02t(K\x01t\x89}tRs."
    (segment,) = check(zip_bytes({"archive/data.pkl": pickle, "archive/data/0": bytes(8)}))
    assert segment.name.encode() and (segment.dtype, segment.size) == ("F32", 8)


DEEP = 300_000
PICKLES = {
    "deep tuples": b"\x80\x02)" + b"\x85" * DEEP + b".",
    "deep lists": b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "deep dicts": b"\x80\x02" + b"}K\1" * DEEP + b"s" * (DEEP - 1) + b".",
    "marks": b"\x80\x02" + b"(" * (12 << 20),
    "a list within itself": b"\x80\x02]q\0" + b"h\0a" * DEEP + b".",
    "a state that is its object": b"\x80\x02]q\0" + b"h\0b" * DEEP + b".",
    "a long tuple as arguments again and again": b"\x80\x02(" + b"N" * DEEP + b"tq\0" + b"]h\0R" * 100_000 + b".",
    "a long tuple as items again and again": b"\x80\x02(" + b"N" * DEEP + b"tq\0]" + b"(h\0h\0h\0e" * 50_000 + b".",
    "a long text as a name again and again": b"\x80\x02X\0\0\x08\0" + b"x" * (1 << 19) + b"q\0" + b"h\0h\0\x93" * DEEP,
    "a long text as a key again and again": b"\x80\x02}X\0\0\x08\0" + b"x" * (1 << 19) + b"q\x000}" + b"h\0}s" * DEEP,
    "empty lists": b"\x80\x02" + b"]" * (15 << 20),
    "a long number": b"\x80\x02\x8b\xff\xff\xff\x00" + b"\x7f" * 0xFFFFFF,
    "a long decimal": b"\x80\x02L" + b"9" * (15 << 20) + b"L\n.",
    "a stack that is empty": b"\x80\x02" + b"0" * 100,
    "a length beyond the end": b"\x80\x02X\xff\xff\xff\x7fabc",
    "a length of 64 bits": b"\x80\x04\x8d" + b"\xff" * 8 + b"abc",
}


def hostile(kind: str) -> bytes:
    if kind in PICKLES:
        return zip_bytes({"archive/data.pkl": PICKLES[kind], "archive/data/0": bytes(8)})
    return {
        "gguf: strings": lambda: gguf_bytes([], text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 40) + bytes(70 << 20), 1),
        "gguf: values": lambda: gguf_bytes([], (text(b"") + struct.pack("<I", 0) + b"\0") * 0xFFFF, 0xFFFF),
        "gguf: tensors": lambda: gguf_bytes([(b"", (), 0, 0)] * 100_000),
        "onnx: fields": lambda: onnx_bytes(b"\x50\1" * (10 << 20)),
        "onnx: tensors": lambda: onnx_bytes(field(5, field(2, 1) + field(9, b"1234")) * 120_000),
        "onnx: dims": lambda: onnx_bytes(field(5, field(1, b"\1" * (20 << 20)))),
        "onnx: deep": lambda: onnx_bytes(deep_graph(1000)),
        "zip: members": lambda: zip_bytes({f"{i}.npy": b"" for i in range(60_000)}),
        "zip: bomb": lambda: zip_bytes({"a.npy": bytes(100 << 20), "b/data.pkl": b"."}, zipfile.ZIP_DEFLATED),
        "npy: header": lambda: b"\x93NUMPY\2\0" + struct.pack("<I", 1 << 31) + b"'descr':" * (10 << 20),
    }[kind]()


def deep_graph(depth: int) -> bytes:
    graph = bytes(field(8, bytes(1100)))
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return graph


HOSTILE = [
    *PICKLES,
    *("gguf: strings", "gguf: values", "gguf: tensors", "onnx: fields", "onnx: tensors", "onnx: dims", "onnx: deep"),
    *("zip: members", "zip: bomb", "npy: header"),
]
SLOW = (
    *("empty lists", "a long text as a key again and again", "gguf: strings", "gguf: tensors", "onnx: fields"),
    "zip: members",
)

PROGRAM = """
import os, re, sys, time
from zipfs.layouts import detect

def peak():
    # Not ru_maxrss, which begins with that of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

fd = os.open(sys.argv[1], os.O_RDONLY)
before, start = peak(), time.process_time()
detect(lambda count, offset: os.pread(fd, count, offset), os.fstat(fd).st_size)
print(time.process_time() - start, peak() - before >> 10)
"""


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in HOSTILE])
def test_bounded_time_and_memory(tmp_path, kind):
    path = tmp_path / "file"
    path.write_bytes(hostile(kind))
    run = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=True)
    seconds, mib = map(float, run.stdout.split())
    print(f"{kind}: {seconds:.2f} s, {mib:.0f} MiB")
    assert seconds < MAX_SECONDS and mib < MAX_MIB
