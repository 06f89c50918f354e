"""The second decoder: sections 4 and 8 of docs/format.md, from a chunk's payload to its plain bytes. See reference.py."""

import itertools
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import zstandard
from reference_common import ceil_div, reject, require, require_zero
from reference_rans import decode_rans

# ---- 4. chunk payload of kind runs -------------------------------------------------------------------------------

STORED, RUNS, CONSTANT = 0, 1, 2
MAX_RUNS = 64
RAW, CONST, RANS, ZSTD, SHORT = 0, 1, 2, 3, 4


class Layout(NamedTuple):
    name: str
    width: int
    float_bits: tuple[int, int, int] | None
    """(E, M, T) of floats: bits of the exponent, of the mantissa, and how many of the latter stay with the exponent."""
    fields: tuple[int, ...]
    """Bits of each field, the most significant first."""

    @property
    def is_joint(self) -> bool:
        return self.float_bits is not None and self.float_bits[2] > 0


LAYOUTS = {
    0: Layout("BYTES", 1, None, (8,)),
    1: Layout("BF16", 2, (8, 7, 0), (8, 8)),
    2: Layout("F16", 2, (5, 10, 0), (5, 3, 8)),
    3: Layout("F32", 4, (8, 23, 0), (8, 8, 8, 8)),
    4: Layout("F64", 8, (11, 52, 0), (3, 8, 5, 8, 8, 8, 8, 8, 8)),
    5: Layout("F8_E4M3", 1, (4, 3, 0), (4, 4)),
    6: Layout("F8_E5M2", 1, (5, 2, 0), (5, 3)),
    7: Layout("I16", 2, None, (8,) * 2),
    8: Layout("I32", 4, None, (8,) * 4),
    9: Layout("I64", 8, None, (8,) * 8),
    10: Layout("BF16_JOINT", 2, (8, 7, 2), (10, 6)),
    11: Layout("F16_JOINT", 2, (5, 10, 2), (7, 1, 8)),
    12: Layout("F32_JOINT", 4, (8, 23, 2), (10, 6, 8, 8)),
    13: Layout("F8_E4M3_JOINT", 1, (4, 3, 2), (6, 2)),
    14: Layout("F8_E5M2_JOINT", 1, (5, 2, 2), (7, 1)),
}
COPY, XOR, PALETTE, SPARSE, BLOCKS = 240, 241, 242, 243, 244


class Run(NamedTuple):
    layout: int
    phase: int
    plain_size: int
    stored_size: int


def parse_runs(payload: bytes, plain_size: int) -> list[Run]:
    require(len(payload) >= 4, "BAD_RUNS", "payload without a run count")
    num_runs = payload[0]
    require(1 <= num_runs <= MAX_RUNS, "BAD_RUNS", f"{num_runs} runs")
    require_zero(payload[1:4], "payload")
    require(len(payload) >= 4 + 12 * num_runs, "BAD_RUNS", "payload shorter than its run records")
    runs = []
    for layout, phase, zero, run_plain, run_stored in struct.iter_unpack("<BB2sII", payload[4 : 4 + 12 * num_runs]):
        require(layout != XOR, "UNKNOWN_FEATURE", "a run that refers to another file")
        require(layout in (COPY, PALETTE, SPARSE, BLOCKS) or layout in LAYOUTS, "UNKNOWN_LAYOUT", f"layout {layout}")
        require_zero(zero, "run record")
        runs.append(Run(layout, phase, run_plain, run_stored))
        if layout not in LAYOUTS:
            continue
        width = LAYOUTS[layout].width
        require(phase < width, "BAD_RUNS", f"phase {phase} of elements of {width} bytes")
        require(run_plain >= phase + width, "BAD_RUNS", "a run without an element")
    require(sum(run.plain_size for run in runs) == plain_size, "BAD_RUNS", "runs do not add up to the chunk")
    stored = 4 + 12 * num_runs + sum(run.stored_size for run in runs)
    require(stored == len(payload), "BAD_RUNS", "runs do not add up to the payload")
    return runs


def decode_chunk(payload: bytes, kind: int, plain_size: int, fetch: Callable[[int, int], bytes] | None = None) -> bytes:
    """Returns the plain bytes of a chunk; hashes are the caller's. fetch(target, size): the bytes of a COPY run; None
    where the container has none.
    """
    if kind == STORED:
        return payload
    if kind == CONSTANT:
        return payload * plain_size
    runs = parse_runs(payload, plain_size)
    num_copies = sum(run.layout == COPY for run in runs)
    require(num_copies == 0 or fetch is not None, "UNKNOWN_FEATURE", "copies that the header does not announce")
    require(num_copies <= MAX_COPIES, "BAD_COPY", f"{num_copies} copies")
    plain = []
    start = 4 + 12 * len(runs)
    for run in runs:
        data = payload[start : start + run.stored_size]
        plain.append(fetch(parse_copy(run, data), run.plain_size) if run.layout == COPY else decode_run(run, data))
        start += run.stored_size
    return b"".join(plain)


# ---- 8. references -----------------------------------------------------------------------------------------------

MAX_COPIES = 8


def parse_copy(run: Run, data: bytes) -> int:
    """Returns the target's offset."""
    require(run.phase == 0, "BAD_COPY", f"phase {run.phase}")
    require(run.plain_size >= 1, "BAD_COPY", "a copy of nothing")
    require(len(data) == 16, "BAD_COPY", f"a payload of {len(data)} bytes")
    base, _, target = struct.unpack("<IIQ", data)
    require(base == 0, "UNKNOWN_FEATURE", f"base {base}")
    require_zero(data[4:8], "copy")
    return target


def copied_ranges(payload: bytes, kind: int, plain_size: int) -> list[tuple[int, int]]:
    """(start, end) of each COPY run in a chunk that decodes."""
    runs = parse_runs(payload, plain_size) if kind == RUNS else []
    ends = list(itertools.accumulate(run.plain_size for run in runs))
    return [(end - run.plain_size, end) for run, end in zip(runs, ends, strict=True) if run.layout == COPY]


# ---- 4.2 run payload ---------------------------------------------------------------------------------------------


def decode_run(run: Run, data: bytes) -> bytes:
    if run.layout in (PALETTE, SPARSE):
        return decode_wrapping(run, data)
    if run.layout == BLOCKS:
        return decode_blocks(run, data)
    layout = LAYOUTS[run.layout]
    n = (run.plain_size - run.phase) // layout.width
    tail_size = run.plain_size - run.phase - n * layout.width
    records = run.phase + tail_size
    start = records + 8 * len(layout.fields)
    require(start <= len(data), "BAD_RUNS", "a run shorter than its plane records")
    planes = list(struct.iter_unpack("<B3sI", data[records:start]))
    require(start + sum(size for _, _, size in planes) == len(data), "BAD_RUNS", "planes do not fill the run")
    require(not layout.is_joint or planes[0][0] == RANS, "UNKNOWN_CODING", f"coding {planes[0][0]} of a joint field")
    fields = []
    for bits, (coding, zero, size) in zip(layout.fields, planes, strict=True):
        require_zero(zero, "plane record")
        fields.append(decode_plane(coding, data[start : start + size], n, bits))
        start += size
    elements = join_fields(layout, fields).astype(f"<u{layout.width}").tobytes()
    return data[: run.phase] + elements + data[run.phase : records]


def join_fields(layout: Layout, fields: list[np.ndarray]) -> np.ndarray:
    """Puts the fields together and the sign back on top; uint64."""
    y = np.zeros(len(fields[0]), np.uint64)
    for bits, values in zip(layout.fields, fields, strict=True):
        y = y << np.uint64(bits) | values.astype(np.uint64)
    if layout.float_bits is None:
        return y
    e, m, t = map(np.uint64, layout.float_bits)
    one = np.uint64(1)
    low_bits = m - t
    high, sign, low = y >> (low_bits + one), y >> low_bits & one, y & ((one << low_bits) - one)
    return sign << (e + m) | high << low_bits | low


def decode_plane(coding: int, data: bytes, n: int, bits: int) -> np.ndarray:
    """Returns the n values of a plane, uint8, or uint16 where the field has more than 8 bits."""
    if coding == RAW:
        return decode_raw(data, n, bits)
    if coding == CONST:
        require(len(data) == 1, "BAD_PLANE", f"a constant of {len(data)} bytes")
        require(data[0] >> bits == 0, "BAD_PLANE", f"{data[0]} in a field of {bits} bits")
        return np.full(n, data[0], np.uint8)
    if coding == RANS:
        return decode_rans(data, n, bits)
    if coding == ZSTD:
        require(bits == 8, "BAD_ZSTD", f"zstd in a field of {bits} bits")
        return np.frombuffer(decode_zstd(data, n), np.uint8)
    if coding == SHORT:
        return decode_short(data, n, bits)
    reject("UNKNOWN_CODING", f"coding {coding}")


def decode_raw(data: bytes, n: int, bits: int) -> np.ndarray:
    require(len(data) == ceil_div(n * bits, 8), "BAD_PLANE", f"{len(data)} bytes for {n} values of {bits} bits")
    flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    require_zero(flat[n * bits :].tobytes(), "raw plane")
    return np.packbits(flat[: n * bits].reshape(n, bits), axis=1, bitorder="little")[:, 0]


def decode_short(data: bytes, n: int, bits: int) -> np.ndarray:
    codes_end = 7 + ceil_div(3 * n, 8)
    require(len(data) >= codes_end, "BAD_PLANE", f"{len(data)} bytes for {n} short codes")
    codes = decode_raw(data[7:codes_end], n, 3)
    escapes = np.frombuffer(data[codes_end:], np.uint8)
    escaped = codes == 7
    require(np.count_nonzero(escaped) == len(escapes), "BAD_PLANE", f"{len(escapes)} escapes")
    table = np.frombuffer(data[:7] + b"\0", np.uint8)
    require(max(*table, *escapes) >> bits == 0, "BAD_PLANE", f"a value that does not fit {bits} bits")
    values = table[codes]
    values[escaped] = escapes
    return values


def decode_zstd(frame: bytes, size: int) -> bytes:
    """One frame in the form of the coding ZSTD (RFC 8878, section 3.1.1.1), of exactly `size` bytes of content."""
    require(len(frame) >= 6 and frame[:4] == b"\x28\xb5\x2f\xfd", "BAD_ZSTD", "no zstd frame")
    descriptor = frame[4]
    require(descriptor & 0x20 != 0, "BAD_ZSTD", "Single_Segment_flag is clear")
    require(descriptor & 0x1F == 0, "BAD_ZSTD", "a checksum, a dictionary id, or a bit without meaning")
    width = (1, 2, 4, 8)[descriptor >> 6]
    require(len(frame) >= 5 + width, "BAD_ZSTD", "a frame header cut short")
    content_size = int.from_bytes(frame[5 : 5 + width], "little") + (256 if width == 2 else 0)
    require(content_size == size, "BAD_ZSTD", f"{content_size} bytes of content instead of {size}")
    try:
        plain = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        reject("BAD_ZSTD", str(error))
    require(len(plain) == size, "BAD_ZSTD", f"{len(plain)} bytes instead of {size}")
    return plain


# ---- 4.3 runs that wrap others -----------------------------------------------------------------------------------


def decode_wrapping(run: Run, data: bytes) -> bytes:
    require(len(data) >= 4, "BAD_RUNS", "a wrapping run without its fixed part")
    width, last = data[:2]
    require(width in (1, 2, 4, 8), "BAD_RUNS", f"elements of {width} bytes")
    require(run.phase < width, "BAD_RUNS", f"phase {run.phase} of elements of {width} bytes")
    n, tail_size = divmod(run.plain_size - run.phase, width)
    require(n >= 1, "BAD_RUNS", "a run without an element")
    require_zero(data[2:4], "wrapping run")
    start = 4 + run.phase + tail_size
    require(start <= len(data), "BAD_RUNS", "a wrapping run shorter than its head and tail")
    if run.layout == PALETTE:
        elements = decode_palette(data[start:], width, last + 1, n)
    else:
        require_zero(data[1:2], "sparse run")
        elements = decode_sparse(data[start:], width, n)
    return data[4 : 4 + run.phase] + elements + data[4 + run.phase : start]


def decode_inner(data: bytes, width: int, size: int | None) -> tuple[bytes, bytes]:
    """Plain bytes of the inner run at the start of data, and what follows it. size: it must have; None: any."""
    require(len(data) >= 12, "BAD_RUNS", "no room for an inner run's record")
    layout, phase, zero, plain_size, stored_size = struct.unpack("<BB2sII", data[:12])
    require(layout in LAYOUTS, "UNKNOWN_LAYOUT", f"layout {layout} of an inner run")
    require_zero(zero, "inner run record")
    require(LAYOUTS[layout].width == width and phase == 0, "BAD_RUNS", f"layout {layout}, phase {phase}")
    require(plain_size >= width and plain_size % width == 0, "BAD_RUNS", f"{plain_size} bytes of inner run")
    require(size in (None, plain_size), "BAD_RUNS", f"{plain_size} bytes of inner run instead of {size}")
    require(12 + stored_size <= len(data), "BAD_RUNS", "an inner run longer than the outer one")
    plain = decode_run(Run(layout, 0, plain_size, stored_size), data[12 : 12 + stored_size])
    return plain, data[12 + stored_size :]


def decode_palette(data: bytes, width: int, num_values: int, n: int) -> bytes:
    require(len(data) >= num_values * width, "BAD_RUNS", "a palette that is cut short")
    indices, rest = decode_inner(data[num_values * width :], 1, n)
    require(not rest, "BAD_RUNS", "bytes after the indices")
    values = np.zeros((256, width), np.uint8)
    values[:num_values] = np.frombuffer(data[: num_values * width], np.uint8).reshape(-1, width)
    return values[np.frombuffer(indices, np.uint8)].tobytes()


def decode_sparse(data: bytes, width: int, n: int) -> bytes:
    if len(data) >= 12:
        num = int.from_bytes(data[4:8], "little") // width
        require(num <= n, "BAD_RUNS", f"{num} values for {n} elements")
    others, rest = decode_inner(data, width, None)
    bitmap, rest = decode_inner(rest, 1, ceil_div(n, 8))
    require(not rest, "BAD_RUNS", "bytes after the bitmap")
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little").astype(bool)
    require(bits.sum() == len(others) // width, "BAD_RUNS", f"{bits.sum()} bits for {len(others) // width} values")
    require(not bits[n:].any(), "RESERVED_NOT_ZERO", "bits beyond the last element")
    elements = np.zeros((n, width), np.uint8)
    elements[bits[:n]] = np.frombuffer(others, np.uint8).reshape(-1, width)
    return elements.tobytes()


# ---- 4.4 blocks --------------------------------------------------------------------------------------------------

MAX_PARTS = 8


def decode_blocks(run: Run, data: bytes) -> bytes:
    require(len(data) >= 4, "BAD_RUNS", "a run of blocks without its fixed part")
    width, num_parts = data[0] + 1, data[1]
    require(1 <= num_parts <= MAX_PARTS, "BAD_RUNS", f"{num_parts} parts")
    require(run.phase < width, "BAD_RUNS", f"phase {run.phase} of blocks of {width} bytes")
    require(run.plain_size >= run.phase + width, "BAD_RUNS", "a run without a block")
    require_zero(data[2:4], "run of blocks")
    n, tail_size = divmod(run.plain_size - run.phase, width)
    sizes = [size + 1 for size in data[4 : 4 + num_parts]]
    start = 4 + num_parts + run.phase
    rest = data[start + tail_size :]
    require(len(data) >= start + tail_size, "BAD_RUNS", "a run of blocks shorter than its head and tail")
    require(sum(sizes) == width, "BAD_RUNS", f"parts of {sizes} bytes in blocks of {width}")
    parts = []
    for size in sizes:
        require(len(rest) >= 12, "BAD_RUNS", "no room for an inner run's record")
        layout, phase, zero, plain_size, stored_size = struct.unpack("<BB2sII", rest[:12])
        is_known = layout in LAYOUTS or layout in (PALETTE, SPARSE)
        require(is_known, "UNKNOWN_LAYOUT", f"layout {layout} of an inner run")
        require_zero(zero, "inner run record")
        require(phase == 0 and plain_size == n * size, "BAD_RUNS", f"phase {phase}, {plain_size} bytes of inner run")
        require(12 + stored_size <= len(rest), "BAD_RUNS", "an inner run longer than the outer one")
        if layout in LAYOUTS:
            require(plain_size >= LAYOUTS[layout].width, "BAD_RUNS", "an inner run without an element")
        plain = decode_run(Run(layout, 0, plain_size, stored_size), rest[12 : 12 + stored_size])
        parts.append(np.frombuffer(plain, np.uint8).reshape(n, size))
        rest = rest[12 + stored_size :]
    require(not rest, "BAD_RUNS", "bytes after the inner runs")
    head, tail = data[start - run.phase : start], data[start : start + tail_size]
    return head + np.concatenate(parts, axis=1).tobytes() + tail
