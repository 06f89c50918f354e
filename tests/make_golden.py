"""Makes the golden containers of tests/golden: `python tests/make_golden.py`, from the repository's root.

They are never made again: every later version must decode these very bytes. So it refuses to overwrite; a new kind of
container gets a new name. Each is at most 20 KiB. SHA256SUMS there holds the SHA-256 of each plain file.
"""

import hashlib
import pathlib
import struct
import sys
import tempfile
from collections.abc import Callable

import ml_dtypes
import numpy as np
from forge import Forged, SegmentRecord, coded, copy_run, run, segment_section, stored
from forge_plane import rans, rans_model, split_fields
from models import safetensors_bytes
from reference import Container, decode
from reference_chunk import BLOCKS, CONST, CONSTANT, LAYOUTS, PALETTE, RANS, RAW, SHORT, SPARSE, ZSTD, parse_runs

GOLDEN = pathlib.Path(__file__).parent / "golden"
MAX_SIZE = 20 << 10
CHUNK = 1 << 16
ZEROS = coded(run(0, bytes(CHUNK), [CONST]))


def elements(layout: int, n: int, rng: np.random.Generator) -> bytes:
    """Random bits with a narrow top byte, as exponents have it."""
    width = LAYOUTS[layout].width
    data = rng.integers(0, 256, (n, width)).astype(np.uint8)
    data[:, -1] = 0x3C + np.minimum(rng.geometric(0.5, n), 7)
    return data.tobytes()


def every_layout() -> bytes:
    """One run of each layout with RANS on its first field, up to 56 near values, odd phases, and a table with a name
    that is not ASCII.
    """
    rng = np.random.default_rng(1)
    runs, records, offset = [], [], 0
    for layout, (name, width, _, fields) in LAYOUTS.items():
        plain = bytes(range(width - 1)) + elements(layout, 150, rng)
        first = split_fields(layout, plain[width - 1 :])[0]
        plane = rans(first, rans_model(first, 12), num_lanes=64, num_near=4 * layout).plane()
        runs.append(run(layout, plain, [plane] + [RAW] * (len(fields) - 1), phase=width - 1))
        records.append(
            SegmentRecord(
                offset + width - 1, 150 * width, f"\N{GREEK SMALL LETTER LAMDA}.{name}".encode(), name.encode(), (150,)
            )
        )
        offset += len(plain)
    return Forged([coded(*runs, run(0, bytes(30_000), [CONST]))], tables=[(4, segment_section(records))]).seal()


def every_coding() -> bytes:
    """RAW, CONST, RANS with and without an escape, near and far, of every number of lanes, ZSTD; fields of 1 to 10
    bits; tails; 64 runs in the second chunk; a stored chunk.
    """
    rng = np.random.default_rng(2)
    skewed = np.minimum(rng.geometric(0.3, 1500), 255).astype(np.uint8)
    few = ([150, 60, 30, 16], [1, 2, 3, 0], 1)
    small = np.minimum(skewed, 7)
    words = elements(10, 300, rng)
    wide = split_fields(10, words)[0]
    runs = (
        *(run(0, skewed.tobytes(), [rans(skewed, few, 64, near).plane()]) for near in (0, 3, 60)),
        *(run(0, skewed.tobytes(), [rans(skewed, few, lanes).plane()]) for lanes in (128, 256)),
        *(run(10, words, [rans(wide, None, lanes, 17).plane(), RAW]) for lanes in (64, 128, 256)),
        run(14, skewed.tobytes(), [RANS, CONST]),
        run(0, skewed.tobytes(), [ZSTD]),
        run(5, small.tobytes(), [CONST, RANS]),
        run(6, skewed.tobytes(), [RANS, RAW]),
        run(2, elements(2, 400, rng) + b"t", [RANS, RAW, ZSTD]),
    )
    first = coded(*runs, run(0, bytes(CHUNK - sum(len(r.plain) for r in runs)), [CONST]))
    second = coded(*[run(0, bytes([i]) * 1024, [CONST]) for i in range(64)])
    return Forged([first, second, stored(rng.bytes(2001))]).seal()


def two_pages() -> bytes:
    return Forged([ZEROS] * 128 + [stored(b"the end")]).seal()


def empty() -> bytes:
    return Forged([]).seal()


def chunks_of_4_mib() -> bytes:
    values = np.minimum(np.random.default_rng(3).geometric(0.9999, 1 << 21), 3)
    large = coded(run(7, values.astype("<u2").tobytes(), [CONST, RANS]))
    return Forged([large, stored(b"x")], chunk_log2=22).seal()


def unknown_parts() -> bytes:
    """What version 1 must step over: optional features, optional sections, an unknown SHA-256."""
    forged = Forged([stored(b"plain")], tables=[(77, b"?" * 9), (4, segment_section([])), (99, b"")])
    return forged.header(
        optional_features=(1 << 64) - 1, zstd_version=(1 << 32) - 1, flags=0, sha256=bytes(32), level=2
    ).seal()


def copies() -> bytes:
    """COPY runs: of a byte, across a border, of a whole chunk, beside other copies, 8 in a chunk, in a short chunk."""
    rng = np.random.default_rng(6)
    numbers = np.arange(CHUNK // 4, dtype="<u4").tobytes()
    text = b"".join(b"line %d of a text file\n" % i for i in range(2700))
    first = coded(run(0, rng.bytes(4000), [RAW]), run(0, text[: CHUNK - 4000], [ZSTD]))
    second = coded(run(8, b"odd" + numbers[:-4] + b"e", [CONST, CONST, ZSTD, ZSTD], phase=3))
    plain = first.plain + second.plain

    def copy(start: int, size: int):
        return copy_run(plain[start : start + size], start)

    across = coded(copy(777, CHUNK - 9), run(0, b"9 bytes..", [RAW]))
    eight = coded(run(0, b"head", [RAW]), *[copy(8191 * i, 8000 + i) for i in range(8)], run(0, bytes(1504), [CONST]))
    beside = coded(copy_run(b"9 bytes..", 3 * CHUNK - 9), run(0, bytes(CHUNK - 9), [CONST]))
    short = coded(copy(0, 1), copy(2 * CHUNK - 5000, 5000))
    forged = Forged([first, second, across, eight, coded(copy(CHUNK, CHUNK)), beside, short])
    return forged.header(required_features=1).seal()


def written(plain: bytes, name: str, level: str) -> bytes:
    """What the writer of the day makes of a file."""
    import zipfs

    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, name)
        source.write_bytes(plain)
        zipfs.compress(source, f"{source}.zipfs", level=level)
        return pathlib.Path(f"{source}.zipfs").read_bytes()


def written_safetensors() -> bytes:
    rng = np.random.default_rng(4)
    weights = (rng.normal(0, 0.02, 6000).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    head = b'{"w":{"dtype":"BF16","shape":[60,100],"data_offsets":[0,12000]},'
    head += b'"z":{"dtype":"F32","shape":[500],"data_offsets":[12000,14000]}}'
    return written(struct.pack("<Q", len(head)) + head + weights + bytes(2000), "model.safetensors", "default")


def written_guess() -> bytes:
    rng = np.random.default_rng(5)
    text = b"".join(b"line %d of a text file\n" % i for i in range(600))
    return written(text + rng.normal(0, 0.02, 4001).astype("<f4").tobytes()[1:] + bytes(100_000), "data.bin", "max")


def written_joint() -> bytes:
    """A tensor of each dtype that has a joint layout, long enough for the encoder to use it, after one that keeps the
    JSON away.
    """
    rng = np.random.default_rng(8)
    tensors = {
        "I64": np.zeros(2000, "<i8"),
        "F32": rng.normal(0, 0.02, 2050).astype("<f4"),
        "BF16": rng.normal(0, 0.02, 2100).astype(ml_dtypes.bfloat16),
        "F16": rng.normal(0, 0.02, 2100).astype("<f2"),
        "F8_E4M3": rng.normal(0, 0.5, 3500).astype(ml_dtypes.float8_e4m3fn),
        "F8_E5M2": rng.normal(0, 0.5, 3000).astype(ml_dtypes.float8_e5m2),
    }
    plain = safetensors_bytes({dtype: (dtype, [len(data)], data.tobytes()) for dtype, data in tensors.items()})
    container = written(plain, "model.safetensors", "default")
    payload = Container(container).payload(0)[0]
    assert {layout.name for layout in LAYOUTS.values() if layout.is_joint} <= {
        LAYOUTS[r.layout].name for r in parse_runs(payload, len(plain))
    }
    return container


def written_copies() -> bytes:
    """Tied embeddings of few values, an odd number of bytes apart: copies across a border of chunks."""
    rng = np.random.default_rng(7)
    tied = rng.choice(np.array([0x3C23, 0xBC23, 0x3D00], "<u2"), 150_000, p=[0.97, 0.02, 0.01]).tobytes()
    head = b'{"embed":{"dtype":"BF16","shape":[150000],"data_offsets":[0,300000]},'
    head += b'"odd":{"dtype":"U8","shape":[333],"data_offsets":[300000,300333]},'
    head += b'"lm_head":{"dtype":"BF16","shape":[150000],"data_offsets":[300333,600333]}}'
    plain = struct.pack("<Q", len(head)) + head + tied + rng.bytes(333) + tied
    return written(plain, "model.safetensors", "default")


def written_few() -> bytes:
    """Tensors of few values, pruned ones and a long stretch of zeros: palettes, sparse runs, chunks of one byte."""
    rng = np.random.default_rng(9)
    half_zero = rng.normal(0, 0.02, 12_000).astype(ml_dtypes.bfloat16)
    half_zero[rng.random(12_000) < 0.5] = 0
    tensors = {
        "I64": np.zeros(2000, "<i8"),
        "F32": rng.choice(rng.normal(0, 0.02, 12).astype("<f4"), 9000),
        "BF16": half_zero,
        "U8": np.zeros(3 << 19, np.uint8),
    }
    plain = safetensors_bytes({dtype: (dtype, [len(data)], data.tobytes()) for dtype, data in tensors.items()})
    container = Container(written(plain, "model.safetensors", "default"))
    payload, _, plain_size = container.payload(0)
    assert {PALETTE, SPARSE} <= {r.layout for r in parse_runs(payload, plain_size)}
    assert container.payload(1)[1] == CONSTANT
    return container.data


def written_blocks() -> bytes:
    """Quantised weights in blocks of GGUF: scales, codes as a palette, bits that are noise."""
    rng = np.random.default_rng(10)
    formats = [("Q8_0", 8, 34, 300), ("Q4_K", 12, 144, 60), ("Q6_K", 14, 210, 30)]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(formats), 0)
    data = b""
    for dtype, kind, width, num in formats:
        blocks = rng.integers(0, 256, (num, width)).astype(np.uint8)
        scales = slice(width - 2, width) if dtype == "Q6_K" else slice(0, 2)
        blocks[:, scales] = rng.normal(0.01, 0.001, (num, 1)).astype("<f2").view(np.uint8)
        codes = {"Q8_0": blocks[:, 2:], "Q4_K": blocks[:, 16:], "Q6_K": blocks[:, 128:192]}[dtype]
        codes[:] = np.round(rng.normal(0, 12, codes.shape)).astype(np.int8).view(np.uint8)
        if dtype == "Q4_K":
            codes[:] = codes % 4 * 0x55
        head += struct.pack("<Q", len(dtype)) + dtype.encode()
        head += struct.pack("<IQIQ", 1, num * (32 if kind == 8 else 256), kind, len(data))
        data += blocks.tobytes() + bytes(-blocks.size % 32)
    plain = head + bytes(-len(head) % 32) + data
    container = Container(written(plain, "model.gguf", "default"))
    payload, _, plain_size = container.payload(0)
    assert [r.layout for r in parse_runs(payload, plain_size)].count(BLOCKS) == 3
    return container.data


def short_codes() -> bytes:
    """The coding SHORT in every layout, with escapes and without, at the end of a payload too."""
    rng = np.random.default_rng(11)
    runs = []
    for layout, (_, width, _, fields) in LAYOUTS.items():
        joint = [RANS] * LAYOUTS[layout].is_joint
        plain = bytes(range(width - 1)) + elements(layout, 101, rng)
        runs.append(run(layout, plain, joint + [SHORT] * (len(fields) - len(joint)), phase=width - 1))
    few = run(0, np.minimum(rng.geometric(0.4, 3000), 9).astype(np.uint8).tobytes(), [SHORT])
    return Forged([coded(run(0, bytes(20_000), [CONST]), *runs, few)]).seal()


def written_fast() -> bytes:
    """Weights on the level fast: exponents of short codes, in joint layouts where those are better."""
    rng = np.random.default_rng(12)
    tensors = {
        "F32": rng.normal(0, 0.02, 700).astype("<f4"),
        "BF16": rng.normal(0, 0.02, 3000).astype(ml_dtypes.bfloat16),
        "F16": rng.normal(0, 0.02, 2100).astype("<f2"),
    }
    plain = safetensors_bytes({dtype: (dtype, [len(data)], data.tobytes()) for dtype, data in tensors.items()})
    container = written(plain, "model.safetensors", "fast")
    payload, _, plain_size = Container(container).payload(0)
    runs = parse_runs(payload, plain_size)
    starts = np.cumsum([4 + 12 * len(runs)] + [r.stored_size for r in runs])
    codings = {LAYOUTS[r.layout].name: payload[start + r.phase] for r, start in zip(runs, starts, strict=False)}
    assert codings["BF16"] == codings["F32"] == SHORT and codings["F16_JOINT"] == RANS
    return container


CONTAINERS: dict[str, Callable[[], bytes]] = {
    make.__name__: make
    for make in (
        every_layout,
        every_coding,
        two_pages,
        empty,
        chunks_of_4_mib,
        unknown_parts,
        copies,
        written_safetensors,
        written_guess,
        written_joint,
        written_copies,
        written_few,
        written_blocks,
        short_codes,
        written_fast,
    )
}


def main() -> int:
    GOLDEN.mkdir(exist_ok=True)
    sums = GOLDEN / "SHA256SUMS"
    for name, make in CONTAINERS.items():
        path = GOLDEN / f"{name}.zipfs"
        if path.exists():
            print(f"{path}: is there already and stays as it is", file=sys.stderr)
            continue
        container = make()
        assert len(container) <= MAX_SIZE, f"{name}: {len(container)} bytes"
        digest = hashlib.sha256(decode(container)).hexdigest()
        path.write_bytes(container)
        with sums.open("a") as file:
            file.write(f"{digest}  {name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
