"""Every rule of docs/format.md section 4 that rejects a payload, with right hashes: the C decoder and the
reference decoder by name.
"""

import numpy as np
import pytest
from both import native_verdict, reference_verdict
from forge import Chunk, CodedRun, Forged, coded, run, run_record
from forge_plane import Plane, const_plane, raw_plane, zstd_frame, zstd_plane
from reference_chunk import CONST, RANS, RAW, ZSTD, decode_zstd

from zipfs import _native

BYTES, BF16, F16, F8_E4M3, I32 = 0, 1, 2, 5, 8
BF16_JOINT, F16_JOINT, F32_JOINT, F8_E4M3_JOINT, F8_E5M2_JOINT = 10, 11, 12, 13, 14
ZEROS = run(BYTES, bytes(20_000), [CONST])
"""Goes with every run, so that the payload is smaller than its chunk."""
TEXT = bytes(i % 7 for i in range(1000))
NIBBLES = bytes(i % 3 * 17 for i in range(301))
SYMBOLS = np.frombuffer(TEXT, np.uint8)


def record(base: int = BYTES, base_phase: int = 0, **fields: int) -> Chunk:
    """A run of right planes whose record says something else."""
    r = run(base, TEXT, [RAW] * {BYTES: 1, BF16: 2, I32: 4}[base], base_phase)
    sizes = {"layout": base, "phase": base_phase, "plain_size": len(r.plain), "stored_size": len(r.payload)} | fields
    return coded(CodedRun(run_record(**sizes), r.payload, r.plain), ZEROS)


def plane(data: Plane | list[Plane], layout: int = BYTES, plain: bytes = TEXT) -> Chunk:
    return coded(run(layout, plain, data if isinstance(data, list) else [data]), ZEROS)


def cut(chunk: Chunk, size: int) -> Chunk:
    return chunk._replace(payload=chunk.payload[:size])


def plain_off_by(by: int) -> Chunk:
    """Runs whose plain sizes add up to another size than the chunk's."""
    chunk = coded(run(BYTES, TEXT, [RAW]), ZEROS)
    return chunk._replace(plain=chunk.plain + b"\0" * by if by > 0 else chunk.plain[:by])


RUN_CASES = {
    "no runs": (lambda: coded(ZEROS, num_runs=0), "BAD_RUNS"),
    "65 runs": (lambda: coded(*[run(BYTES, bytes(500), [CONST])] * 65), "BAD_RUNS"),
    "255 runs": (lambda: coded(ZEROS, num_runs=255), "BAD_RUNS"),
    "payload of a byte": (lambda: cut(coded(ZEROS), 1), "BAD_RUNS"),
    "payload of three bytes": (lambda: cut(coded(ZEROS), 3), "BAD_RUNS"),
    "payload without records": (lambda: cut(coded(ZEROS), 4), "BAD_RUNS"),
    "payload ends in the records": (lambda: cut(coded(ZEROS), 15), "BAD_RUNS"),
    "payload ends in a run": (lambda: cut(coded(ZEROS), 16), "BAD_RUNS"),
    "payload ends a byte early": (lambda: cut(coded(ZEROS), len(coded(ZEROS).payload) - 1), "BAD_RUNS"),
    "bytes after the runs": (lambda: coded(ZEROS, extra=b"\0"), "BAD_RUNS"),
    "reserved byte 0 of the payload": (lambda: coded(ZEROS, reserved=b"\1\0\0"), "RESERVED_NOT_ZERO"),
    "reserved byte 1 of the payload": (lambda: coded(ZEROS, reserved=b"\0\1\0"), "RESERVED_NOT_ZERO"),
    "reserved byte 2 of the payload": (lambda: coded(ZEROS, reserved=b"\0\0\1"), "RESERVED_NOT_ZERO"),
    "reserved byte 0 of a record": (lambda: record(reserved=1), "RESERVED_NOT_ZERO"),
    "reserved byte 1 of a record": (lambda: record(reserved=1 << 15), "RESERVED_NOT_ZERO"),
    "layout 15": (lambda: record(layout=15), "UNKNOWN_LAYOUT"),
    "layout 239": (lambda: record(layout=239), "UNKNOWN_LAYOUT"),
    "layout 255": (lambda: record(layout=255), "UNKNOWN_LAYOUT"),
    "COPY": (lambda: record(layout=240), "UNKNOWN_FEATURE"),
    "XOR": (lambda: record(layout=241), "UNKNOWN_FEATURE"),
    "plain sizes below the chunk": (lambda: plain_off_by(1), "BAD_RUNS"),
    "plain sizes above the chunk": (lambda: plain_off_by(-1), "BAD_RUNS"),
    "plain sizes wrap": (lambda: record(plain_size=(1 << 32) - 20_000 + len(TEXT)), "BAD_RUNS"),
    "stored size short": (lambda: record(stored_size=len(run(BYTES, TEXT, [RAW]).payload) - 1), "BAD_RUNS"),
    "stored size near 2^32": (lambda: record(stored_size=(1 << 32) - 1), "BAD_RUNS"),
    "phase of BYTES": (lambda: coded(run(BYTES, TEXT, [RAW], phase=1), ZEROS), "BAD_RUNS"),
    "phase of BF16": (lambda: coded(run(BF16, TEXT, [RAW] * 2, phase=2), ZEROS), "BAD_RUNS"),
    "phase of F32_JOINT": (lambda: coded(run(F32_JOINT, TEXT, [RANS, RAW, RAW, RAW], phase=4), ZEROS), "BAD_RUNS"),
    "phase of I32": (lambda: coded(run(I32, TEXT, [RAW] * 4, phase=4), ZEROS), "BAD_RUNS"),
    "phase 255": (lambda: record(I32, phase=255), "BAD_RUNS"),
    "run of no bytes": (
        lambda: coded(ZEROS, CodedRun(run_record(BYTES, 0, 0, 8), const_plane(0).record(), b"")),
        "BAD_RUNS",
    ),
    "run shorter than an element": (lambda: coded(ZEROS, bare_run(I32, 3)), "BAD_RUNS"),
    "run without an element after its phase": (lambda: coded(ZEROS, bare_run(I32, 6, phase=3)), "BAD_RUNS"),
    "run shorter than its plane records": (
        lambda: coded(ZEROS, CodedRun(run_record(BYTES, 0, 9, 7), bytes(7), bytes(9))),
        "BAD_RUNS",
    ),
    "run shorter than its head": (
        lambda: coded(ZEROS, CodedRun(run_record(I32, 3, 9, 2), bytes(2), bytes(9))),
        "BAD_RUNS",
    ),
    "planes above the run": (lambda: plane(Plane(RAW, TEXT, stored_size=1001)), "BAD_RUNS"),
    "planes below the run": (lambda: plane(Plane(RAW, TEXT, stored_size=999)), "BAD_RUNS"),
    "plane near 2^32": (lambda: plane(Plane(RAW, TEXT, stored_size=(1 << 32) - 1)), "BAD_RUNS"),
    "plane sizes wrap": (
        lambda: plane([Plane(RAW, TEXT, (1 << 32) - 2), Plane(RAW, b"", 1002)], BF16, TEXT),
        "BAD_RUNS",
    ),
    "reserved of a plane, byte 0": (lambda: plane(Plane(RAW, TEXT, reserved=b"\1\0\0")), "RESERVED_NOT_ZERO"),
    "reserved of a plane, byte 1": (lambda: plane(Plane(RAW, TEXT, reserved=b"\0\1\0")), "RESERVED_NOT_ZERO"),
    "reserved of a plane, byte 2": (lambda: plane(Plane(RAW, TEXT, reserved=b"\0\0\1")), "RESERVED_NOT_ZERO"),
}


def bare_run(layout: int, plain_size: int, phase: int = 0) -> CodedRun:
    """A run that has head and tail but no element; its planes are empty."""
    width = {I32: 4}[layout]
    payload = bytes(plain_size) + const_plane(0).record() * width + bytes(width)
    return CodedRun(run_record(layout, phase, plain_size, len(payload)), payload, bytes(plain_size))


PLANE_CASES = {
    "coding 5": (lambda: plane(Plane(5, TEXT)), "UNKNOWN_CODING"),
    "coding 255": (lambda: plane(Plane(255, TEXT)), "UNKNOWN_CODING"),
    "joint field raw": (lambda: plane([Plane(RAW, bytes(625)), RAW], BF16_JOINT, bytes(1000)), "UNKNOWN_CODING"),
    "joint field of 6 bits raw": (lambda: plane([RAW, RAW], F8_E4M3_JOINT, NIBBLES), "UNKNOWN_CODING"),
    "joint field constant": (lambda: plane([CONST, CONST], BF16_JOINT, bytes(1000)), "UNKNOWN_CODING"),
    "joint field of 7 bits constant": (lambda: plane([CONST, CONST], F8_E5M2_JOINT, bytes(1000)), "UNKNOWN_CODING"),
    "joint field zstd": (lambda: plane([Plane(ZSTD, zstd_frame(TEXT)), RAW], BF16_JOINT, TEXT * 2), "UNKNOWN_CODING"),
    "joint field of coding 5": (lambda: plane([Plane(5, TEXT), RAW], BF16_JOINT, TEXT), "UNKNOWN_CODING"),
    "second field of a joint layout of coding 5": (
        lambda: plane([RANS, Plane(5, TEXT)], BF16_JOINT, TEXT),
        "UNKNOWN_CODING",
    ),
    "raw of 1 bit too long": (lambda: plane([RANS, Plane(RAW, bytes(126))], F8_E5M2_JOINT, TEXT), "BAD_PLANE"),
    "raw of 6 bits with reserved bits": (
        lambda: plane([RANS, Plane(RAW, bytes(375) + b"\x40")], BF16_JOINT, TEXT + b"12"),
        "RESERVED_NOT_ZERO",
    ),
    "constant of 2 bits in 1": (lambda: plane([RANS, Plane(CONST, b"\x02"), RAW], F16_JOINT, TEXT), "BAD_PLANE"),
    "zstd of 6 bits": (lambda: plane([RANS, Plane(ZSTD, zstd_frame(bytes(500)))], BF16_JOINT, TEXT), "BAD_ZSTD"),
    "raw too long": (lambda: plane(Plane(RAW, TEXT + b"\0")), "BAD_PLANE"),
    "raw too short": (lambda: plane(Plane(RAW, TEXT[:-1])), "BAD_PLANE"),
    "raw of no bytes": (lambda: plane(Plane(RAW, b"")), "BAD_PLANE"),
    "raw of 4 bits too long": (lambda: plane([RAW, Plane(RAW, bytes(152))], F8_E4M3, NIBBLES), "BAD_PLANE"),
    "raw of 4 bits too short": (lambda: plane([RAW, Plane(RAW, bytes(150))], F8_E4M3, NIBBLES), "BAD_PLANE"),
    "raw with reserved bits": (
        lambda: plane([RAW, Plane(RAW, bytes(150) + b"\x10")], F8_E4M3, NIBBLES),
        "RESERVED_NOT_ZERO",
    ),
    "raw of 3 bits with reserved bits": (
        lambda: plane([RAW, Plane(RAW, bytes(56) + b"\x80"), RAW], F16, NIBBLES),
        "RESERVED_NOT_ZERO",
    ),
    "constant of no bytes": (lambda: plane(Plane(CONST, b"")), "BAD_PLANE"),
    "constant of two bytes": (lambda: plane(Plane(CONST, b"\0\0")), "BAD_PLANE"),
    "constant of 5 bits": (lambda: plane([Plane(CONST, b"\x10"), RAW], F8_E4M3, NIBBLES), "BAD_PLANE"),
    "constant of 8 bits in 3": (lambda: plane([RAW, Plane(CONST, b"\x80"), RAW], F16, TEXT), "BAD_PLANE"),
    "zstd of 4 bits": (lambda: plane([Plane(ZSTD, zstd_frame(bytes(301))), RAW], F8_E4M3, NIBBLES), "BAD_ZSTD"),
    "zstd of no bytes": (lambda: plane(Plane(ZSTD, b"")), "BAD_ZSTD"),
    "zstd magic": (lambda: plane(Plane(ZSTD, b"\x29" + zstd_frame(TEXT)[1:])), "BAD_ZSTD"),
    "zstd cut short": (lambda: plane(Plane(ZSTD, zstd_frame(TEXT)[:-1])), "BAD_ZSTD"),
    "zstd header cut short": (lambda: plane(Plane(ZSTD, zstd_frame(TEXT)[:5])), "BAD_ZSTD"),
    "zstd with a byte after it": (lambda: plane(Plane(ZSTD, zstd_frame(TEXT) + b"\0")), "BAD_ZSTD"),
    "zstd with a frame after it": (lambda: plane(Plane(ZSTD, zstd_frame(TEXT) + zstd_frame(b""))), "BAD_ZSTD"),
    "zstd after a skippable frame": (
        lambda: plane(Plane(ZSTD, b"\x50\x2a\x4d\x18" + bytes(4) + zstd_frame(TEXT))),
        "BAD_ZSTD",
    ),
    "zstd of too few bytes": (lambda: plane(Plane(ZSTD, zstd_frame(TEXT[:-1]))), "BAD_ZSTD"),
    "zstd of too many bytes": (lambda: plane(Plane(ZSTD, zstd_frame(TEXT + b"\0"))), "BAD_ZSTD"),
    "zstd content size above the content": (
        lambda: plane(Plane(ZSTD, zstd_frame(TEXT[:-1], content_size=1000))),
        "BAD_ZSTD",
    ),
    "zstd content size below the content": (
        lambda: plane(Plane(ZSTD, zstd_frame(TEXT, content_size=999)), plain=TEXT[:-1]),
        "BAD_ZSTD",
    ),
    "zstd content size near 2^64": (lambda: plane(Plane(ZSTD, zstd_frame(TEXT, 0xE0, (1 << 64) - 1, 8))), "BAD_ZSTD"),
    "zstd with a window": (lambda: plane(Plane(ZSTD, windowed(TEXT))), "BAD_ZSTD"),
    "zstd without a content size": (lambda: plane(Plane(ZSTD, windowed(TEXT[:88], 0x00)), plain=TEXT[:88]), "BAD_ZSTD"),
    "zstd with a checksum flag": (lambda: plane(Plane(ZSTD, zstd_frame(TEXT, 0xA4))), "BAD_ZSTD"),
    "zstd with a right checksum": (lambda: plane(Plane(ZSTD, with_checksum(TEXT))), "BAD_ZSTD"),
    "zstd with a dictionary id": (
        lambda: plane(Plane(ZSTD, b"\x28\xb5\x2f\xfd\xa1\0" + zstd_frame(TEXT, 0xA0)[5:])),
        "BAD_ZSTD",
    ),
    "zstd reserved bit": (lambda: plane(Plane(ZSTD, zstd_frame(TEXT, 0xA8))), "BAD_ZSTD"),
    "zstd unused bit": (lambda: plane(Plane(ZSTD, zstd_frame(TEXT, 0xB0))), "BAD_ZSTD"),
    "zstd damaged": (
        lambda: plane(Plane(ZSTD, zstd_frame(TEXT)[:9] + b"\xff" * (len(zstd_frame(TEXT)) - 9))),
        "BAD_ZSTD",
    ),
}


def windowed(data: bytes, descriptor: int = 0x80) -> bytes:
    """A frame with a window descriptor (2 MiB) in place of Single_Segment_flag; descriptor 0: and without a content
    size.
    """
    frame = zstd_frame(data, descriptor, width=4 if descriptor else 0)
    return frame[:5] + b"\x58" + frame[5:]


def with_checksum(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


CASES = {"runs": RUN_CASES, "plane": PLANE_CASES}


@pytest.mark.parametrize(
    ("make", "status"),
    [pytest.param(*case, id=f"{group}: {name}") for group, cases in CASES.items() for name, case in cases.items()],
)
def test_rejects(make, status):
    container = Forged([make()]).seal()
    assert (reference_verdict(container), native_verdict(container)) == (status, status)


ACCEPTED = {
    "64 runs": lambda: coded(*[run(BYTES, bytes([i]) * 500, [CONST]) for i in range(64)]),
    "a run of one byte": lambda: coded(ZEROS, run(BYTES, b"x", [CONST]), run(BYTES, b"y", [RAW])),
    "phase with one element": lambda: coded(ZEROS, run(I32, b"headELEMtai"[1:], [RAW] * 4, phase=3)),
    "zstd with a wide content size": lambda: plane(Plane(ZSTD, zstd_frame(TEXT, 0xE0, 1000, 8))),
    "zstd with a narrow content size": lambda: plane(Plane(ZSTD, zstd_frame(TEXT, 0x60, 1000 - 256, 2))),
    "raw, constant and zstd in one": lambda: plane(
        [const_plane(0), raw_plane(SYMBOLS, 8)], BF16, small_elements(SYMBOLS)
    ),
    "raw and constant beside a joint field": lambda: plane([RANS, CONST, RAW], F16_JOINT, TEXT),
    "zstd beside a joint field": lambda: plane([RANS, RAW, ZSTD, ZSTD], F32_JOINT, TEXT),
    "zstd in both": lambda: plane(
        [zstd_plane(np.zeros(1000, np.uint8)), zstd_plane(SYMBOLS)], BF16, small_elements(SYMBOLS)
    ),
}


def small_elements(low: np.ndarray) -> bytes:
    """Elements BF16 whose bits above the low byte, which is under 128, are 0."""
    return low.astype("<u2").tobytes()


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepts(make):
    """What the cases above are spoilt from, and what the text allows though no writer does it."""
    chunk = make()
    container = Forged([chunk]).seal()
    assert reference_verdict(container) == chunk.plain
    assert native_verdict(container) == chunk.plain


@pytest.mark.parametrize(("kind", "size"), [(0, 999), (0, 1001), (1, 1000), (1, 1001), (2, 2), (2, 1000)])
def test_decode_with_a_bad_entry(kind, size):
    """The codec does not trust that a page was checked."""
    payload = bytes(size)
    with pytest.raises(_native.FormatError, check=lambda error: error.status == "BAD_PAGE"):
        _native.Codec(16).decode(payload, 0, (size, kind, _native.hash(payload), 0), bytearray(1000))


def test_decode_into_another_size():
    """The caller says the plain size; a payload of another one is rejected, not fitted in."""
    chunk = coded(run(BYTES, TEXT, [RANS]), ZEROS)
    entry = (len(chunk.payload), chunk.kind, _native.hash(chunk.payload, 3), 0)
    for size in (len(chunk.plain) - 1, len(chunk.plain) + 1):
        with pytest.raises(_native.FormatError, check=lambda error: error.status == "BAD_RUNS"):
            _native.Codec(16).decode(chunk.payload, 3, entry, bytearray(size))


@pytest.mark.parametrize("name", RUN_CASES)
def test_chunk_runs(name):
    """The list of runs, for `info`, checks counts, layouts and sums; the inside of a run is left to the decoder."""
    make, status = RUN_CASES[name]
    chunk = make()
    try:
        found = _native.chunk_runs(chunk.payload, len(chunk.plain))
    except _native.FormatError as error:
        assert error.status == status
    else:
        assert name.startswith(("phase", "run", "plane", "reserved of a plane", "COPY"))
        assert sum(plain_size for _, _, plain_size, _ in found) == len(chunk.plain)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_791, 65_792, 3 << 20, 9 << 20])
def test_zstd_form(size):
    """Frames of C are in the form of the text at any size (libzstd leaves Single_Segment_flag out of large ones by
    itself).
    """
    data = bytes(i % 251 for i in range(1009)) * (size // 1009 + 1)
    frame = _native.zstd_compress(data[:size])
    assert _native.zstd_decompress(frame, size) == data[:size]
    assert decode_zstd(frame, size) == data[:size]
