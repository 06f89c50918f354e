"""Planes by hand, from docs/format.md sections 4.2 and 5: RAW, CONST, RANS and ZSTD, right or with parts overridden.
Part of forge.py.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import zstandard
from reference_chunk import CONST, LAYOUTS, RANS, RAW, ZSTD, ceil_div


class Plane(NamedTuple):
    coding: int
    data: bytes
    stored_size: int | None = None
    """Overrides len(data)."""
    reserved: bytes = bytes(3)

    def record(self) -> bytes:
        size = len(self.data) if self.stored_size is None else self.stored_size
        return struct.pack("<B3sI", self.coding, self.reserved, size)


def split_fields(layout: int, elements: bytes) -> list[np.ndarray]:
    """The fields of the elements, uint8 each, the most significant first."""
    _, width, float_bits, fields = LAYOUTS[layout]
    y = np.frombuffer(elements, f"<u{width}").astype(np.uint64)
    if float_bits:
        e, m = map(np.uint64, float_bits)
        one = np.uint64(1)
        sign, exponent, mantissa = y >> (e + m), y >> m & ((one << e) - one), y & ((one << m) - one)
        y = exponent << (m + one) | sign << m | mantissa
    planes = []
    for bits in reversed(fields):
        planes.append((y & np.uint64((1 << bits) - 1)).astype(np.uint8))
        y = y >> np.uint64(bits)
    return planes[::-1]


def raw_plane(values: np.ndarray, bits: int) -> Plane:
    columns = np.unpackbits(values[:, None], axis=1, bitorder="little")[:, :bits]
    return Plane(RAW, np.packbits(columns.reshape(-1), bitorder="little").tobytes())


def const_plane(value: int) -> Plane:
    return Plane(CONST, bytes([value]))


def zstd_plane(values: np.ndarray) -> Plane:
    return Plane(ZSTD, zstd_frame(values.tobytes()))


def zstd_frame(data: bytes, descriptor: int | None = None, content_size: int | None = None, width: int = 4) -> bytes:
    """A compressed frame; with descriptor or content_size a frame of one raw block (at most 128 KiB) whose header
    says what the caller wants.
    """
    if descriptor is None and content_size is None:
        params = zstandard.ZstdCompressionParameters.from_level(3, source_size=len(data), window_log=27)
        return zstandard.ZstdCompressor(compression_params=params).compress(data)
    descriptor = 0xA0 if descriptor is None else descriptor
    size = len(data) if content_size is None else content_size
    block = (1 | len(data) << 3).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + (size.to_bytes(width, "little") if width else b"") + block + data


@dataclass
class Rans:
    """The parts of an RANS plane; those that are None follow from the others."""

    freq: list[int]
    value: list[int]
    states: np.ndarray
    coded: bytes = b""
    escapes: bytes = b""
    has_escape: int = 0
    num_symbols: int | None = None
    coded_size: int | None = None
    num_escapes: int | None = None
    num_lanes: int | None = None
    reserved: int = 0

    def pack(self) -> bytes:
        k = len(self.freq) if self.num_symbols is None else self.num_symbols
        coded_size = len(self.coded) if self.coded_size is None else self.coded_size
        num_escapes = len(self.escapes) if self.num_escapes is None else self.num_escapes
        num_lanes = len(self.states) if self.num_lanes is None else self.num_lanes
        head = struct.pack("<BBBBII", k, self.has_escape, num_lanes, self.reserved, coded_size, num_escapes)
        states = np.asarray(self.states, "<u2").tobytes()
        return head + bytes(self.freq) + bytes(self.value) + states + self.coded + self.escapes

    def plane(self) -> Plane:
        return Plane(RANS, self.pack())


def rans_encode(symbols: np.ndarray, freq: list[int], num_lanes: int = 128) -> tuple[np.ndarray, bytes]:
    """Section 5, backwards; all lanes of a group at once. Returns states and coded bytes. The last group is filled up
    with symbol 0.
    """
    lanes = np.zeros(ceil_div(len(symbols), num_lanes) * num_lanes, np.int64)
    lanes[: len(symbols)] = symbols
    freq = np.asarray(freq, np.int64)
    start = np.cumsum(freq) - freq
    x = np.full(num_lanes, 256, np.int64)
    coded = []
    for s in lanes.reshape(-1, num_lanes)[::-1]:
        full = x >= 256 * freq[s]
        coded.append((x[full] & 255).astype(np.uint8).tobytes())
        x[full] >>= 8
        x = 256 * (x // freq[s]) + x % freq[s] + start[s]
    return x, b"".join(reversed(coded))


def rans_model(values: np.ndarray, max_symbols: int = 64) -> tuple[list[int], list[int], int]:
    """Returns (freq, value, has_escape): the commonest values, the rest as one escape, frequencies in proportion."""
    counts = np.bincount(values, minlength=256)
    order = [int(v) for v in np.argsort(-counts, kind="stable") if counts[v]]
    has_escape = int(len(order) > max_symbols)
    kept = order[: max_symbols - has_escape]
    weights = [int(counts[v]) for v in kept]
    if has_escape:
        kept, weights = [*kept, 0], [*weights, len(values) - sum(weights)]
    if len(kept) == 1:
        kept, weights = [*kept, 0], [*weights, 0]
    room = 256 - len(kept)
    freq = [1 + room * weight // max(sum(weights), 1) for weight in weights]
    freq[0] += 256 - sum(freq)
    return freq, kept, has_escape


def rans(values: np.ndarray, model: tuple[list[int], list[int], int] | None = None, num_lanes: int = 128) -> Rans:
    freq, value, has_escape = model or rans_model(values)
    k = len(freq)
    symbol_of = np.full(256, k - 1)
    for symbol in reversed(range(k - has_escape)):
        symbol_of[value[symbol]] = symbol
    symbols = symbol_of[values]
    escapes = values[symbols == k - 1].tobytes() if has_escape else b""
    states, coded = rans_encode(symbols, freq, num_lanes)
    return Rans(freq, value, states, coded, escapes, has_escape)


def encode_plane(coding: int, values: np.ndarray, bits: int) -> Plane:
    """CONST needs equal values, ZSTD 8 bits."""
    if coding == RAW:
        return raw_plane(values, bits)
    if coding == CONST:
        assert np.all(values == values[0])
        return const_plane(int(values[0]))
    return rans(values).plane() if coding == RANS else zstd_plane(values)
