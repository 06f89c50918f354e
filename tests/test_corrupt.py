"""Damaged containers through the C reader: the plain bytes or a named error, never a crash, never other bytes; with
every kernel of this CPU.

Each test runs in a process of its own, since a kernel is chosen once per process and a crash must not take the test
run along.
"""

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import zstandard
from both import native_decode_fd
from forge import Chunk, Forged, SegmentRecord, coded, copy_run, run, segment_section, stored
from forge_plane import rans, split_fields
from reference import Container
from reference_chunk import CONST, RANS, RAW, SHORT, ZSTD, decode_chunk, parse_runs
from reference_common import Rejected

from zipfs import _native, segments

SEED = 20261122
CHUNK = 1 << 16
DAMAGE = {
    "TRUNCATED", "BAD_MAGIC", "BAD_VERSION", "BAD_HEADER", "HEADER_CHECKSUM", "RESERVED_NOT_ZERO", "UNKNOWN_FEATURE",
    "TOO_LARGE", "BAD_SECTIONS", "ROOT_CHECKSUM", "BAD_ROOT", "PAGE_CHECKSUM", "BAD_PAGE", "CHUNK_CHECKSUM",
    "PLAIN_CHECKSUM", "BAD_RUNS", "UNKNOWN_LAYOUT", "UNKNOWN_CODING", "BAD_PLANE", "BAD_RANS", "BAD_ZSTD",
    "BAD_COPY", "BAD_TARGET",
}  # fmt: skip


# ---- containers to damage ----------------------------------------------------------------------------------------


def bf16(n: int, rng: np.random.Generator) -> bytes:
    return (rng.normal(0, 0.02, n).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


def every_coding(rng: np.random.Generator) -> Chunk:
    """A payload of about 5 KiB: all codings, a phase, a tail, near and far escapes, fields of 10, 8, 6, 4 and 3 bits,
    all numbers of lanes.
    """
    skewed = np.minimum(rng.geometric(0.3, 1000), 255).astype(np.uint8)
    words = bf16(400, rng)
    wide = ([100, 60, 56, 40], [484, 482, 485, 0], 1)
    return coded(
        run(0, bytes(30_000), [CONST]),
        run(1, b"h" + bf16(700, rng), [RANS, RAW], phase=1),
        run(2, rng.normal(0, 1, 300).astype("<f2").tobytes() + b"t", [RANS, RANS, ZSTD]),
        run(0, skewed.tobytes(), [rans(skewed, ([150, 60, 30, 16], [1, 2, 3, 0], 1)).plane()]),
        run(5, skewed[:301].tobytes(), [RAW, RANS]),
        run(10, words, [rans(split_fields(10, words)[0], wide, 256, 2).plane(), RAW]),
        run(0, skewed[:500].tobytes(), [rans(skewed[:500], num_lanes=64).plane()]),
        run(1, bf16(200, rng), [SHORT, RAW]),
        run(5, skewed[:99].tobytes(), [RAW, SHORT]),
    )


def tiny() -> Forged:
    return Forged([stored(b"abc")])


def codings() -> Forged:
    table = segment_section([SegmentRecord(30_000, 1400, b"weight", b"BF16", (700,))])
    return Forged([every_coding(np.random.default_rng(SEED))], tables=[(4, table)])


def chunks() -> Forged:
    """About 100 KiB: weights, zeros and a last chunk of noise."""
    rng = np.random.default_rng(SEED)
    zeros = coded(run(0, bytes(CHUNK), [CONST]))
    return Forged(
        [coded(run(1, bf16(CHUNK // 2, rng), [RANS, RAW])), zeros, stored(rng.bytes(CHUNK)), stored(rng.bytes(3001))]
    )


def pages() -> Forged:
    """Two pages of entries for chunks of zeros."""
    zeros = coded(run(0, bytes(CHUNK), [CONST]))
    return Forged([zeros] * 128 + [stored(b"end")])


TEXT = b"".join(b"target %d," % i for i in range(200))


def copying(payload: bytes | None = None) -> Forged:
    """Chunk 2 copies from the chunks 0 and 1, across their border, and from chunk 1 alone; or holds `payload`."""
    text, zeros = run(0, TEXT, [ZSTD]), run(0, bytes(CHUNK - len(TEXT)), [CONST])
    copies = coded(
        copy_run(TEXT[-99:] + TEXT[:500], CHUNK - 99), run(0, b"between", [RAW]), copy_run(TEXT[7:], CHUNK + 7)
    )
    last = copies if payload is None else copies._replace(payload=payload)
    return Forged([coded(zeros, text), coded(text, zeros), last]).header(required_features=1)


CONTAINERS = {make.__name__: make for make in (tiny, codings, chunks, pages, copying)}


# ---- what the processes do ---------------------------------------------------------------------------------------


def outcome(fd: int) -> str | bytes:
    """The plain bytes, without a look at plain_hash, or the name of the rule."""
    try:
        return native_decode_fd(fd, check_plain=False)
    except _native.FormatError as error:
        assert error.status in DAMAGE, error
        return error.status


def memfd(data: bytes) -> int:
    fd = os.memfd_create("damaged")
    os.write(fd, data)
    return fd


def flip_bytes(name: str, step: int, masks: int) -> None:
    """Changes every step-th byte, `masks` seeded ways each (255: all)."""
    forged = CONTAINERS[name]()
    data, plain = forged.seal(), b"".join(chunk.plain for chunk in forged.chunks)
    table = next((range(s.offset, s.offset + s.size) for s in forged.sections if s.kind == 4), range(0))
    rng = np.random.default_rng(SEED)
    fd = memfd(data)
    for at in range(int(rng.integers(step)), len(data), step):
        for mask in rng.permutation(np.arange(1, 256))[:masks]:
            os.pwrite(fd, bytes([data[at] ^ int(mask)]), at)
            found = outcome(fd)
            if at in table:
                assert found == plain, f"byte {at} ^ {mask}: the segment table must not matter"
                assert table_is_rejected(os.pread(fd, len(table), table.start), len(plain))
            else:
                assert isinstance(found, str), f"byte {at} ^ {mask} went unseen"
        os.pwrite(fd, data[at : at + 1], at)
    assert outcome(fd) == plain


def table_is_rejected(section: bytes, plain_size: int) -> bool:
    try:
        segments.parse(section, plain_size)
    except _native.FormatError as error:
        return error.status == "BAD_SEGMENTS"
    return False


def resize(name: str, step: int) -> None:
    """Cuts the container to every step-th length, and makes it longer by 1 byte to two containers."""
    data = CONTAINERS[name]().seal()
    fd = memfd(data)
    for size in range(len(data) - 1, -1, -step):
        os.ftruncate(fd, size)
        assert outcome(fd) == ("BAD_MAGIC" if size < 8 else "TRUNCATED"), size
    for extra in (b"\0", b"\xff", bytes(8), bytes(4096), data):
        os.pwrite(fd, data + extra, 0)
        assert outcome(fd) == "BAD_HEADER", len(extra)
        os.ftruncate(fd, 0)


def spoilt_payloads(payload: bytes, step: int, count: int, rng: np.random.Generator) -> Iterator[bytes]:
    """A byte changed (every step-th once), then 2 to 4 changed, cut out, put in or moved."""
    for at in range(int(rng.integers(step)), len(payload), step):
        yield payload[:at] + bytes([payload[at] ^ int(rng.integers(1, 256))]) + payload[at + 1 :]
    for _ in range(count):
        a, b = sorted(int(i) for i in rng.integers(len(payload), size=2))
        yield (
            payload[:a] + rng.bytes(min(b - a, 4)) + payload[a + min(b - a, 4) :],
            payload[:a] + payload[b:],
            payload[:a] + rng.bytes(3) + payload[a:],
            payload[b:] + payload[:b],
            payload[:a] + bytes([int(rng.choice([0, 1, 2, 127, 128, 255]))]) + payload[a + 1 :],
        )[int(rng.integers(5))]


def zstd_part(payload: bytes) -> bytes:
    """The first zstd frame in a payload."""
    rest = payload[payload.index(b"\x28\xb5\x2f\xfd") :]
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    decompressor.decompress(rest)
    return rest[: len(rest) - len(decompressor.unused_data)]


def spoil_payload(step: int, count: int) -> None:
    """Damage under right checksums: C and the reference take and refuse the same payloads, and make the same bytes of
    what they take. Of a damaged zstd frame nothing but a named error or a clean end is asked, since versions of libzstd
    differ in what they let pass (1.5.4 and 1.5.7 do).
    """
    rng = np.random.default_rng(SEED)
    chunk = every_coding(rng)
    frame = zstd_part(chunk.payload)
    codec, taken = _native.Codec(16), 0
    for payload in spoilt_payloads(chunk.payload, step, count, rng):
        out = bytearray(b"\xee") * len(chunk.plain)
        try:
            codec.decode(payload, 5, (len(payload), 1, _native.hash(payload, 5), 0), out)
            found = bytes(out)
            taken += 1
        except _native.FormatError as error:
            assert error.status in DAMAGE, error
            found = None
        try:
            expected = decode_chunk(payload, 1, len(chunk.plain))
        except Rejected:
            expected = None
        assert found == expected or frame not in payload, payload.hex()
    assert taken > 100


def spoil_copies(count: int) -> None:
    """The same for a chunk with copies: whatever C makes of them, the reference does too, but for the names."""
    payload = copying().chunks[2].payload
    taken = 0
    for spoilt in spoilt_payloads(payload, 1, count, np.random.default_rng(SEED)):
        if not spoilt:
            continue
        data = copying(spoilt).seal()
        fd = memfd(data)
        found = outcome(fd)
        os.close(fd)
        try:
            container = Container(data)
            expected = b"".join(container.chunk(number, check_plain=False) for number in range(3))
        except Rejected:
            expected = None
        assert (found if isinstance(found, bytes) else None) == expected, spoilt.hex()
        taken += expected is not None
    assert taken > 10


def spoil_states(count: int) -> None:
    """The same for RANS planes alone, with all of frequencies, states and coded bytes random but in their ranges."""
    rng = np.random.default_rng(SEED)
    zeros = run(0, bytes(20_000), [CONST])
    codec = _native.Codec(16)
    for _ in range(count):
        values = np.minimum(rng.geometric(0.5, int(rng.integers(1, 700))), 255).astype(np.uint8)
        few = ([100, 80, 76], [1, 2, 0], 1)
        parts = rans(values, few, int(rng.choice([64, 128, 256])), int(rng.integers(8)))
        match int(rng.integers(6)):
            case 0:
                parts.freq = [int(f) for f in rng.permutation(parts.freq)]
            case 1:
                parts.states = rng.integers(256, 65536, len(parts.states))
            case 2:
                parts.coded = rng.bytes(len(parts.coded))
            case 3:
                parts.states[int(rng.integers(len(parts.states)))] ^= 1 << int(rng.integers(8))
            case 4:
                parts.numbers = [int(q) for q in rng.permutation(parts.numbers)]
            case 5:
                parts.far = parts.far[: int(rng.integers(len(parts.far) + 1))]
        chunk = coded(run(0, values.tobytes(), [parts.plane()]), zeros)
        assert len(parse_runs(chunk.payload, len(chunk.plain))) == 2
        out = bytearray(len(chunk.plain))
        try:
            codec.decode(chunk.payload, 0, (len(chunk.payload), 1, _native.hash(chunk.payload, 0), 0), out)
            found = bytes(out)
        except _native.FormatError as error:
            found = error.status
        try:
            expected = decode_chunk(chunk.payload, 1, len(chunk.plain))
        except Rejected as error:
            expected = error.status
        assert found == expected, chunk.payload.hex()


# ---- tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["scalar", "avx2", "avx512"])
def kernel(request) -> str:
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    if request.param == "avx2" and not ("avx2" in flags and "popcnt" in flags):
        pytest.skip("this CPU has no AVX2")
    if request.param == "avx512" and not ("avx512_vbmi2" in flags and "avx512bw" in flags):
        pytest.skip("this CPU has no AVX-512 VBMI2")
    return request.param


def in_process(kernel: str, call: str) -> None:
    """Runs one of the functions above with a kernel; a crash leaves a trace of faulthandler in the failure."""
    env = os.environ | {"ZIPFS_KERNEL": kernel, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = f"import test_corrupt as t; assert t._native.kernel() == {kernel!r}; t.{call}"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code], env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"seed {SEED}, {kernel}, {call}: {done.returncode}\n{done.stderr}"


@pytest.mark.parametrize(
    "call",
    [
        "flip_bytes('tiny', 1, 8)",
        "flip_bytes('codings', 1, 1)",
        "flip_bytes('chunks', 101, 1)",
        "flip_bytes('pages', 37, 1)",
        "flip_bytes('copying', 1, 1)",
        "resize('tiny', 1)",
        "resize('codings', 1)",
        "resize('chunks', 7)",
        "resize('pages', 7)",
        "spoil_payload(5, 200)",
        "spoil_copies(100)",
        "spoil_states(1000)",
    ],
)
def test_damage(kernel, call):
    in_process(kernel, call)


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        "flip_bytes('tiny', 1, 255)",
        "flip_bytes('codings', 1, 8)",
        "flip_bytes('chunks', 3, 1)",
        "flip_bytes('pages', 1, 1)",
        "flip_bytes('copying', 1, 20)",
        "resize('chunks', 1)",
        "resize('pages', 1)",
        "spoil_payload(1, 20_000)",
        "spoil_copies(10_000)",
        "spoil_states(10_000)",
    ],
)
def test_damage_everywhere(kernel, call):
    in_process(kernel, call)
