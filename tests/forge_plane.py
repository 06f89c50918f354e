"""Planes by hand, from docs/format.md sections 4.2 and 5: RAW, CONST, RANS, ZSTD and SHORT, right or with parts overridden.
Part of forge.py.
"""

import struct
from collections import Counter
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import zstandard
from reference_chunk import CONST, LAYOUTS, RANS, RAW, SHORT, ZSTD
from reference_common import ceil_div


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
    """The fields of the elements, the most significant first: uint8 each, uint16 where they have more than 8 bits."""
    _, width, float_bits, fields = LAYOUTS[layout]
    y = np.frombuffer(elements, f"<u{width}").astype(np.uint64)
    if float_bits:
        e, m, t = float_bits
        exponent, high, low = bits_of(y, m, e), bits_of(y, m - t, t), bits_of(y, 0, m - t)
        sign = bits_of(y, e + m, 1)
        y = exponent << np.uint64(m + 1) | high << np.uint64(m + 1 - t) | sign << np.uint64(m - t) | low
    planes, position = [], 8 * width
    for bits in fields:
        position -= bits
        planes.append(bits_of(y, position, bits).astype(np.uint8 if bits <= 8 else np.uint16))
    return planes


def bits_of(words: np.ndarray, position: int, count: int) -> np.ndarray:
    return words >> np.uint64(position) & np.uint64((1 << count) - 1)


def raw_plane(values: np.ndarray, bits: int) -> Plane:
    columns = np.unpackbits(values[:, None], axis=1, bitorder="little")[:, :bits]
    return Plane(RAW, np.packbits(columns.reshape(-1), bitorder="little").tobytes())


def const_plane(value: int) -> Plane:
    return Plane(CONST, bytes([value]))


def short_plane(values: np.ndarray, table: bytes | None = None, more: bytes = b"", cut: int = 0) -> Plane:
    """table: the values of the codes, the seven commonest if None. more: after the escapes; cut: bytes to leave out at
    the end.
    """
    if table is None:
        table = bytes(value for value, _ in Counter(values.tolist()).most_common(7)).ljust(7, b"\0")
    codes = np.array([table.index(value) if value in table else 7 for value in values.tolist()], np.uint8)
    data = table + raw_plane(codes, 3).data + values[codes == 7].tobytes() + more
    return Plane(SHORT, data[: len(data) - cut])


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
    has_escape: int = 0
    near: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """One of each escape."""
    more_nibbles: list[int] = field(default_factory=list)
    """After those of the numbers."""
    far: list[int] = field(default_factory=list)
    value_size: int = 1
    num_symbols: int | None = None
    lanes: int | None = None
    """Number of lanes / 64."""
    num_near: int | None = None
    coded_size: int | None = None
    num_nibbles: int | None = None
    num_far: int | None = None

    def header(self) -> bytes:
        follows = {
            "num_symbols": len(self.freq),
            "has_escape": self.has_escape,
            "lanes": len(self.states) // 64,
            "num_near": len(self.near),
            "coded_size": len(self.coded),
            "num_nibbles": len(self.nibbles()),
            "num_far": len(self.far),
        }
        said = {name: getattr(self, name) for name in follows}
        return struct.pack("<BBBBIII", *(follows[name] if value is None else value for name, value in said.items()))

    def values(self, values: list[int]) -> bytes:
        return struct.pack(f"<{len(values)}{'BH'[self.value_size - 1]}", *values)

    def nibbles(self) -> list[int]:
        return [
            nibble for number in self.numbers for nibble in [15] * (number // 15) + [number % 15]
        ] + self.more_nibbles

    def packed_nibbles(self) -> bytes:
        nibbles = self.nibbles()
        return bytes(low | high << 4 for low, high in zip_longest(nibbles[::2], nibbles[1::2], fillvalue=0))

    def pack(self) -> bytes:
        states = np.asarray(self.states, "<u2").tobytes()
        tables = bytes(self.freq) + self.values(self.value) + self.values(self.near) + states
        return self.header() + tables + self.coded + self.packed_nibbles() + self.values(self.far)

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


Model = tuple[list[int], list[int], int]
"""freq, value, has_escape"""


def rans_model(values: np.ndarray, max_symbols: int = 64) -> Model:
    """The commonest values, the rest as one escape, frequencies in proportion."""
    common = Counter(values.tolist()).most_common()
    has_escape = int(len(common) > max_symbols)
    kept = [value for value, _ in common[: max_symbols - has_escape]]
    weights = [count for _, count in common[: max_symbols - has_escape]]
    if has_escape:
        kept, weights = [*kept, 0], [*weights, len(values) - sum(weights)]
    if len(kept) == 1:
        kept, weights = [*kept, 0], [*weights, 0]
    room = 256 - len(kept)
    freq = [1 + room * weight // max(sum(weights), 1) for weight in weights]
    freq[0] += 256 - sum(freq)
    return freq, kept, has_escape


def rans(values: np.ndarray, model: Model | None = None, num_lanes: int = 128, num_near: int = 60) -> Rans:
    """Codes the values of a field of at most 8 bits (uint8) or more (uint16). The commonest num_near escaped values
    are near.
    """
    freq, value, has_escape = model or rans_model(values)
    k = len(freq)
    symbol_of = np.full(1 << 8 * values.itemsize, k - 1)
    for symbol in reversed(range(k - has_escape)):
        symbol_of[value[symbol]] = symbol
    symbols = symbol_of[values]
    escaped = values[symbols == k - 1].tolist() if has_escape else []
    near = [v for v, _ in Counter(escaped).most_common(num_near)]
    numbers = [near.index(v) if v in near else len(near) for v in escaped if near]
    far = [v for v in escaped if v not in near]
    states, coded = rans_encode(symbols, freq, num_lanes)
    return Rans(freq, value, states, coded, has_escape, near, numbers, far=far, value_size=values.itemsize)


def encode_plane(coding: int, values: np.ndarray, bits: int) -> Plane:
    """CONST needs equal values, ZSTD 8 bits, SHORT 8 bits at most."""
    if coding == RAW:
        return raw_plane(values, bits)
    if coding == CONST:
        assert np.all(values == values[0])
        return const_plane(int(values[0]))
    if coding == SHORT:
        return short_plane(values)
    return rans(values).plane() if coding == RANS else zstd_plane(values)
