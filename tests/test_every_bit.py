"""Every bit of a small container of each dtype flipped, and every length it can be cut to, through zipfs.open and
verify: the error of the section that is damaged, and unchanged bytes where it is the segment table, which informs only.
Then every bit of its payload under right checksums, where the C decoder must be of one mind with the reference.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from forge import Forged, SegmentRecord, coded, run, segment_section
from forge_plane import rans, rans_model, split_fields
from models import FLOATS, INTEGERS, safetensors_bytes, tensor
from reference import PAGES, PAYLOADS, ROOT, SEGMENTS, Container
from reference_chunk import CONST, LAYOUTS, RAW, RUNS, SHORT, decode_chunk
from reference_common import Rejected

import zipfs
from zipfs import _native
from zipfs.pipeline import PipelinePool
from zipfs.verify import verify

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
NAME = "model.safetensors.zipfs"
DTYPES = {
    dtype: np.dtype((FLOATS | INTEGERS)[dtype]) for dtype in ("BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2", "I8")
}
JOINT = [id for id, layout in LAYOUTS.items() if layout.is_joint]
SECTION_STATUS = {PAYLOADS: "CHUNK_CHECKSUM", PAGES: "PAGE_CHECKSUM", ROOT: "ROOT_CHECKSUM", SEGMENTS: None}


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """What is told of damage goes nowhere: there would be a line for each flip."""
    with open(os.devnull, "wb") as null:
        _native.log_to_fd(null.fileno())
        yield
        _native.log_to_fd(2)


# ---- containers --------------------------------------------------------------------------------------------------


def written(folder: Path, plain: bytes) -> bytes:
    source, target = folder / "plain", folder / "plain.zipfs"
    source.write_bytes(plain)
    zipfs.compress(source, target)
    return target.read_bytes()


def of_dtype(folder: Path, dtype: str, rng) -> bytes:
    """A safetensors file with one tensor of about 2 KiB, its values rounded to BF16 or to a few integers."""
    n = 2048 // (DTYPES[dtype].itemsize)
    floats = rng.normal(0, 0.02, n).astype(ml_dtypes.bfloat16).astype(np.float64)
    values = (floats if dtype.startswith(("F", "B")) else floats * 300).astype(DTYPES[dtype])
    return written(folder, safetensors_bytes({"w": (dtype, [n], values.tobytes())}))


def of_bytes(folder: Path, rng) -> bytes:
    words = rng.choice([b"weight", b"bias", b"scale", b"layer"], 300)
    return written(folder, b"\n".join(words.tolist()) + rng.bytes(50))


def of_joint(layout: int, rng) -> bytes:
    """A run with near and far values beside one of zeros, head and tail of the one unlike the other."""
    name, width, _, fields = LAYOUTS[layout]
    elements = tensor(rng, name.removesuffix("_JOINT"), [300])[2]
    first = split_fields(layout, elements)[0]
    plane = rans(first, rans_model(first, 8), num_lanes=64, num_near=3)
    assert plane.near and plane.far
    plain = bytes(range(1, width)) + elements
    joint = run(layout, plain, [plane.plane()] + [0] * (len(fields) - 1), phase=width - 1)
    table = segment_section([SegmentRecord(width - 1, len(elements), b"w", name.encode())])
    return Forged([coded(joint, run(0, bytes(2000), [CONST]))], tables=[(4, table)]).seal()


def of_short(layout: int, rng) -> bytes:
    """Exponents of short codes, some of them escaped, beside a run of zeros."""
    name, width, _, fields = LAYOUTS[layout]
    elements = tensor(rng, name, [2000 // width])[2]
    short = run(layout, b"h" + elements, [SHORT] + [RAW] * (len(fields) - 1), phase=1)
    table = segment_section([SegmentRecord(1, len(elements), b"w", name.encode())])
    return Forged([coded(short, run(0, bytes(2000), [CONST]))], tables=[(4, table)]).seal()


# ---- damage ------------------------------------------------------------------------------------------------------


def status_of(container: Container, at: int) -> str | None:
    """What a flip of byte `at` is told as; None: not at all."""
    if at < 256:
        return "BAD_MAGIC" if at < 8 else "BAD_VERSION" if at < 10 else "HEADER_CHECKSUM"
    return next(
        SECTION_STATUS[kind]
        for kind, (offset, size) in container.header.sections.items()
        if offset <= at < offset + size
    )


def read(path: Path) -> bytes:
    with zipfs.open(path) as file:
        return file.read()


def verified(path: Path, pipelines: PipelinePool, fast: bool = False) -> str | None:
    [(name, failures)] = verify(str(path), pipelines, fast=fast)
    assert name == str(path) and len(failures) <= 1
    return failures[0].status if failures else None


def check_damaged(path: Path, status: str | None, plain: bytes, where: str) -> None:
    try:
        found = read(path)
    except zipfs.FormatError as error:
        assert (error.status, error.path) == (status, str(path)), where
    else:
        assert status is None and found == plain, where


def check_everything(folder: Path, data: bytes) -> None:
    """Reads the container after each flip of a bit and at each size that it can be cut to. Verify, which is slower,
    looks at one flip of each byte.
    """
    container = Container(data)
    assert container.entry(0).kind == RUNS
    plain, path = container.plain(), folder / NAME
    path.write_bytes(data)
    assert read(path) == plain
    fd = os.open(path, os.O_RDWR)
    with PipelinePool(jobs=1) as pipelines:
        for at in range(len(data)):
            status = status_of(container, at)
            for bit in range(8):
                os.pwrite(fd, bytes([data[at] ^ 1 << bit]), at)
                check_damaged(path, status, plain, f"byte {at}, bit {bit}")
                if bit == at % 8:
                    assert verified(path, pipelines, fast=at % 2 == 0) == status, f"byte {at}, bit {bit}, verified"
            os.pwrite(fd, data[at : at + 1], at)
        assert verified(path, pipelines) is None
        for size in range(len(data) - 1, -1, -1):
            os.ftruncate(fd, size)
            status = "BAD_MAGIC" if size < 8 else "TRUNCATED"
            check_damaged(path, status, plain, f"cut to {size} bytes")
            assert verified(path, pipelines, fast=size % 2 == 0) == status, f"cut to {size} bytes, verified"
    os.close(fd)


def check_payload(data: bytes) -> None:
    """Flips each bit of the first payload, under right checksums: C and the reference both refuse it, or make the same
    bytes of it. What a damaged zstd frame decodes to is left to libzstd (docs/format.md section 4.2).
    """
    container = Container(data)
    payload, kind, plain_size = container.payload(0)
    codec, out = _native.Codec(container.header.chunk_log2), bytearray(plain_size)
    for at in range(8 * len(payload)):
        broken = bytearray(payload)
        broken[at // 8] ^= 1 << at % 8
        try:
            codec.decode(broken, 0, (len(broken), kind, _native.hash(broken, 0), 0), out)
            found = bytes(out)
        except _native.FormatError:
            found = None
        try:
            expected = decode_chunk(bytes(broken), kind, plain_size)
        except Rejected:
            expected = None
        assert found == expected or ZSTD_MAGIC in payload[: at // 8 + 4], f"bit {at} of {payload.hex()}"


MAKERS = (
    {dtype: lambda folder, rng, dtype=dtype: of_dtype(folder, dtype, rng) for dtype in DTYPES}
    | {"bytes": of_bytes}
    | {LAYOUTS[id].name: lambda _, rng, id=id: of_joint(id, rng) for id in JOINT}
    | {f"short codes of {LAYOUTS[id].name}": lambda _, rng, id=id: of_short(id, rng) for id in (1, 3)}
)


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_container(tmp_path, rng, make):
    check_everything(tmp_path, make(tmp_path, rng))


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_payload(tmp_path, rng, make):
    check_payload(make(tmp_path, rng))
