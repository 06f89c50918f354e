"""The second decoder, part one: sections 1, 4, 5 and 8 of docs/format.md, from a chunk's payload to its plain bytes.
See reference.py.
"""

import itertools
import struct
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import numpy as np
import xxhash
import zstandard

# ---- 1. conventions ----------------------------------------------------------------------------------------------


class Rejected(Exception):
    """A container breaks a rule. `status` is the name in docs/format.md; args are (status, message)."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)
        self.status = status


def reject(status: str, message: str) -> NoReturn:
    raise Rejected(status, message)


def require(condition: bool, status: str, message: str) -> None:
    if not condition:
        reject(status, message)


def require_zero(reserved: bytes, where: str) -> None:
    require(not any(reserved), "RESERVED_NOT_ZERO", f"reserved bytes of the {where} are not 0")


def xxh3(data: bytes, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(data, seed)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


# ---- 4. chunk payload of kind runs -------------------------------------------------------------------------------

STORED, RUNS = 0, 1
MAX_RUNS = 64
RAW, CONST, RANS, ZSTD = 0, 1, 2, 3


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
COPY, XOR = 240, 241


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
        require(layout == COPY or layout in LAYOUTS, "UNKNOWN_LAYOUT", f"layout {layout}")
        require_zero(zero, "run record")
        runs.append(Run(layout, phase, run_plain, run_stored))
        if layout == COPY:
            continue
        width = LAYOUTS[layout].width
        require(phase < width, "BAD_RUNS", f"phase {phase} of elements of {width} bytes")
        require(run_plain >= phase + width, "BAD_RUNS", "a run without an element")
    require(sum(run.plain_size for run in runs) == plain_size, "BAD_RUNS", "runs do not add up to the chunk")
    stored = 4 + 12 * num_runs + sum(run.stored_size for run in runs)
    require(stored == len(payload), "BAD_RUNS", "runs do not add up to the payload")
    return runs


def decode_chunk(
    payload: bytes, kind: int, plain_size: int, fetch: Callable[[int, int], bytes] | None = None
) -> bytes:
    """Returns the plain bytes of a chunk; hashes are the caller's. fetch(target, size): the bytes of a COPY run; None
    where the container has none.
    """
    if kind == STORED:
        return payload
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
    runs = [] if kind == STORED else parse_runs(payload, plain_size)
    ends = list(itertools.accumulate(run.plain_size for run in runs))
    return [(end - run.plain_size, end) for run, end in zip(runs, ends, strict=True) if run.layout == COPY]


# ---- 4.2 run payload ---------------------------------------------------------------------------------------------


def decode_run(run: Run, data: bytes) -> bytes:
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
    reject("UNKNOWN_CODING", f"coding {coding}")


def decode_raw(data: bytes, n: int, bits: int) -> np.ndarray:
    require(len(data) == ceil_div(n * bits, 8), "BAD_PLANE", f"{len(data)} bytes for {n} values of {bits} bits")
    flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    require_zero(flat[n * bits :].tobytes(), "raw plane")
    return np.packbits(flat[: n * bits].reshape(n, bits), axis=1, bitorder="little")[:, 0]


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


# ---- 5. the RANS coding ------------------------------------------------------------------------------------------


FAR = 15
"""The nibble that stands for the next far value."""


def decode_rans(data: bytes, n: int, bits: int) -> np.ndarray:
    require(len(data) >= 16, "BAD_PLANE", "an RANS plane without a header")
    k, has_escape, lanes, num_near, coded_size, num_escapes, num_far = struct.unpack_from("<BBBBIII", data)
    require(2 <= k <= 64, "BAD_RANS", f"{k} symbols")
    require(has_escape <= 1, "BAD_RANS", f"has_escape {has_escape}")
    require(lanes in (1, 2, 4), "BAD_RANS", f"{lanes} * 64 lanes")
    require(num_near <= (15 if has_escape else 0), "BAD_RANS", f"{num_near} near values")
    require(num_escapes <= (n if has_escape else 0), "BAD_RANS", f"{num_escapes} escapes")
    require(num_far <= num_escapes, "BAD_RANS", f"{num_far} far values of {num_escapes} escapes")
    v = 1 if bits <= 8 else 2
    sizes = [k, v * k, v * num_near, 2 * 64 * lanes, coded_size, ceil_div(num_escapes, 2), v * num_far]
    require(len(data) == 16 + sum(sizes), "BAD_PLANE", "sizes do not fill the plane")
    ends = [16 + sum(sizes[: i + 1]) for i in range(len(sizes))]
    parts = [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    freq = np.frombuffer(parts[0], np.uint8).astype(np.uint32)
    require(bool(np.all(freq >= 1)) and int(freq.sum()) == 256, "BAD_RANS", "frequencies do not make 256")
    value, near, far = (np.frombuffer(parts[i], f"<u{v}") for i in (1, 2, 6))
    for values in (value, near, far):
        require(not np.any(values >> bits), "BAD_RANS", f"a value wider than {bits} bits")
    require(not has_escape or value[-1] == 0, "BAD_RANS", "the escape has a value")
    states = np.frombuffer(parts[3], "<u2").astype(np.uint32)
    require(bool(np.all(states >= 256)), "BAD_RANS", "a state under 256")
    coded = np.frombuffer(parts[4], np.uint8).astype(np.uint32)
    escaped = escaped_values(parts[5], num_escapes, near, far)
    symbols = rans_symbols(freq, states, coded, ceil_div(n, 64 * lanes)).reshape(-1)[:n]
    plain = value[symbols]
    if has_escape:
        where = symbols == k - 1
        require(int(where.sum()) == num_escapes, "BAD_RANS", f"{int(where.sum())} escapes, not {num_escapes}")
        plain[where] = escaped
    return plain


def escaped_values(packed: bytes, num_escapes: int, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """What each escape stands for, in order."""
    nibbles = [nibble for byte in packed for nibble in (byte & 15, byte >> 4)]
    require_zero(bytes(nibbles[num_escapes:]), "escapes")
    values, next_far = np.zeros(num_escapes, far.dtype), 0
    for i, nibble in enumerate(nibbles[:num_escapes]):
        require(nibble < len(near) or nibble == FAR, "BAD_RANS", f"near value {nibble} of {len(near)}")
        if nibble < FAR:
            values[i] = near[nibble]
            continue
        require(next_far < len(far), "BAD_RANS", "out of far values")
        values[i] = far[next_far]
        next_far += 1
    require(next_far == len(far), "BAD_RANS", f"{len(far) - next_far} far values left")
    return values


def rans_symbols(freq: np.ndarray, x: np.ndarray, coded: np.ndarray, num_groups: int) -> np.ndarray:
    """The steps of section 5, all lanes of a group at once: a group's lanes take their bytes in ascending order.
    Shape (num_groups, num_lanes).
    """
    start = np.cumsum(freq) - freq
    of_slot = np.repeat(np.arange(len(freq)), freq)
    freq_of_slot, offset_of_slot = freq[of_slot], np.arange(256, dtype=np.uint32) - start[of_slot]
    slots = np.empty((num_groups, len(x)), np.uint8)
    used = 0
    for group in range(num_groups):
        slot = slots[group] = x & 255
        x = freq_of_slot[slot] * (x >> 8) + offset_of_slot[slot]
        needy = np.flatnonzero(x < 256)
        require(used + len(needy) <= len(coded), "BAD_RANS", "out of coded bytes")
        x[needy] = x[needy] << 8 | coded[used : used + len(needy)]
        used += len(needy)
    require(used == len(coded), "BAD_RANS", f"{len(coded) - used} coded bytes left")
    require(bool(np.all(x == 256)), "BAD_RANS", "a state that does not end at 256")
    return of_slot[slots]
