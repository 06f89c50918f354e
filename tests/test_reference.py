"""The reference decoder against the hand encoder, and the C decoder against both: equal bytes, chunk by chunk."""

import pathlib
import re

import numpy as np
import pytest
from both import native_decode
from forge import Chunk, CodedRun, Forged, coded, run, stored
from forge_plane import Plane, const_plane, rans, raw_plane, split_fields, zstd_plane
from reference import decode
from reference_chunk import CONST, LAYOUTS, RANS, RAW, SHORT, ZSTD, decode_chunk
from reference_common import xxh3

from zipfs import _native

SEED = 20261122


def weights(layout: int, n: int, rng: np.random.Generator) -> bytes:
    """n elements like trained weights: normal floats, small integers."""
    width = LAYOUTS[layout].width
    values = rng.normal(0, 0.02, n)
    match LAYOUTS[layout].name.removesuffix("_JOINT"):
        case "F16" | "F32" | "F64":
            return values.astype(f"<f{width}").tobytes()
        case "BF16":
            return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        case "F8_E5M2":
            return (values.astype("<f2").view("<u2") >> 8).astype("u1").tobytes()
        case "F8_E4M3":
            return (np.clip(values.astype("<f2").view("<u2") >> 7, 0, 1 << 16) & 255).astype("u1").tobytes()
    return (values * 1000).astype(f"<i{width}").tobytes()


def check(*chunks: Chunk, chunk_log2: int = 16) -> None:
    """Both decoders give the plain bytes of a container of these chunks."""
    container = Forged(list(chunks), chunk_log2).seal()
    plain = b"".join(chunk.plain for chunk in chunks)
    assert decode(container) == plain
    assert native_decode(container) == plain


FULL = 1 << 16
ZEROS = run(0, bytes(25_000), [CONST])
"""Makes a chunk smaller than its plain bytes, whatever else is in it."""


def test_layouts_of_the_text():
    """The decoder's table of layouts is that of the text."""
    text = (pathlib.Path(__file__).parents[1] / "docs/format.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (\d) \| (-|\d+, \d+) \| ([\d ]+) \|$", text, re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(LAYOUTS)
    for number, name, width, float_bits, fields in rows:
        layout = LAYOUTS[int(number)]
        assert (layout.name, layout.width, layout.fields) == (name, int(width), tuple(map(int, fields.split())))
        high_bits = 2 if name.endswith("_JOINT") else 0
        assert layout.float_bits == (None if float_bits == "-" else (*map(int, float_bits.split(", ")), high_bits))
        assert sum(layout.fields) == 8 * layout.width


def planes_of(layout: int, coding: int) -> list[int]:
    """That coding in every field that takes it."""
    planes = [coding if coding != ZSTD or bits == 8 else RAW for bits in LAYOUTS[layout].fields]
    return [RANS, *planes[1:]] if LAYOUTS[layout].is_joint else planes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_with_every_coding(layout):
    rng = np.random.default_rng(SEED + layout)
    _, width, _, fields = LAYOUTS[layout]
    plain = weights(layout, 3001, rng)
    for coding in (RAW, RANS, ZSTD, SHORT):
        planes = planes_of(layout, coding)
        for phase in sorted({0, width - 1}):
            odd = bytes(range(7, 7 + phase)) + plain + bytes(range(90, 90 + (width - 1) // 2))
            check(coded(run(layout, odd, planes, phase), ZEROS))
    values = [int(rng.integers(1 << bits)) for bits in fields]
    check(coded(run(layout, constant(layout, values, 500), planes_of(layout, CONST)), ZEROS))
    assert [int(field[0]) for field in split_fields(layout, constant(layout, values, 1))] == values


def constant(layout: int, values: list[int], n: int) -> bytes:
    """n elements whose fields have these values; Python integers, so apart from all numpy shifting."""
    _, width, float_bits, fields = LAYOUTS[layout]
    y = 0
    for bits, value in zip(fields, values, strict=True):
        y = y << bits | value
    if float_bits:
        e, m, t = float_bits
        low = m - t
        y = (y >> low & 1) << e + m | (y >> low + 1) << low | y & (1 << low) - 1
    return y.to_bytes(width, "little") * n


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 255, 256, 257, 8191, 40_000])
@pytest.mark.parametrize("num_values", [2, 3, 64, 65, 200, 256])
@pytest.mark.parametrize("num_lanes", [64, 128, 256])
def test_rans_lengths_and_alphabets(n, num_values, num_lanes):
    rng = np.random.default_rng([SEED, n, num_values])
    skewed = np.minimum(rng.geometric(0.2, n) - 1, num_values - 1)
    even = rng.integers(0, num_values, n)
    for values in (skewed, even):
        bytes_ = values.astype(np.uint8)
        num_near = int(rng.choice([0, 1, 15, 60]))
        check(coded(run(0, bytes_.tobytes(), [rans(bytes_, None, num_lanes, num_near).plane()]), ZEROS))


@pytest.mark.parametrize("num_lanes", [64, 128, 256])
@pytest.mark.parametrize("n", [1, 65, 129, 255, 257, 4095, 4096, 4097, 4096 + 64, 4096 + 256, 8000])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rans_and_escapes_in_every_field(layout, n, num_lanes):
    """Long runs whose fields have more values than a table has symbols: states, escapes and far values live on across
    the pieces a decoder works in.
    """
    rng = np.random.default_rng([SEED, layout, n])
    num_near = int(rng.integers(61))
    width = LAYOUTS[layout].width
    words = np.minimum(rng.geometric(0.03, (n, width)) - 1, 255).astype(np.uint8)
    words[:, -1] ^= rng.integers(0, 2, n).astype(np.uint8) << 7
    zeros = run(0, bytes(FULL - n * width), [CONST])
    planes = [rans(values, None, num_lanes, num_near).plane() for values in split_fields(layout, words.tobytes())]
    check(coded(run(layout, words.tobytes(), planes), zeros))


def test_rans_extreme_frequencies():
    """A symbol of frequency 255 and one of 1, in both orders: the longest and the shortest steps of a state."""
    rng = np.random.default_rng(SEED)
    values = (rng.random(5000) < 0.3).astype(np.uint8)
    for freq in ([255, 1], [1, 255]):
        check(coded(run(0, values.tobytes(), [rans(values, (freq, [0, 1], 0)).plane()]), ZEROS))


@pytest.mark.parametrize("num_lanes", [64, 128, 256])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 127, 128, 129, 192, 255, 256, 257, 320, 1000, 5000])
def test_rans_lanes(num_lanes, n):
    values = np.minimum(np.random.default_rng(SEED).geometric(0.4, n), 40).astype(np.uint8)
    plane = rans(values, ([128, 64, 32, 31, 1], [1, 2, 3, 4, 0], 1), num_lanes).plane()
    check(coded(run(0, values.tobytes(), [plane]), ZEROS))


@pytest.mark.parametrize("num_near", [0, 1, 2, 13, 14, 15, 16, 29, 30, 31, 44, 45, 46, 59, 60])
@pytest.mark.parametrize("layout", [0, 10])
def test_rans_all_escapes(layout, num_near):
    """Nothing but escapes, from all far to most near; in a field of 8 bits and in one of 10."""
    rng = np.random.default_rng([SEED, num_near])
    words = (rng.geometric(0.03, 1001 * LAYOUTS[layout].width) % 255).astype(np.uint8).tobytes()
    first, *rest = split_fields(layout, words)
    absent = (1 << LAYOUTS[layout].fields[0]) - 1
    plane = rans(first, ([1, 255], [absent, 0], 1), num_near=num_near)
    assert (len(plane.numbers), len(plane.near), len(plane.far) > 0) == (1001 if num_near else 0, num_near, True)
    check(coded(run(layout, words, [plane.plane(), *[RAW] * len(rest)]), ZEROS))


@pytest.mark.parametrize("num_lanes", [64, 128, 256])
def test_rans_escape_among_dropped_symbols(num_lanes):
    """Lanes beyond the last element may hold any symbol, an escape as well, and take no number."""
    n = num_lanes - 29
    values = np.arange(num_lanes // 2, dtype=np.uint8).repeat(2)
    whole = rans(values, ([128, 127, 1], [0, 1, 0], 1), num_lanes)
    whole.numbers = whole.numbers[: n - 4]
    whole.far = whole.far[: whole.numbers.count(len(whole.near))]
    check(coded(run(0, values[:n].tobytes(), [whole.plane()]), ZEROS))


def test_rans_value_twice():
    """Two symbols may stand for one value; nothing forbids it."""
    values = np.full(300, 9, np.uint8)
    check(coded(run(0, values.tobytes(), [rans(values, ([100, 156], [9, 9], 0)).plane()]), ZEROS))


# The example of docs/format.md section 5.1, by hand. Head and tail of a byte each around 131 elements BF16, all -1.0
# (BF 80: sign 1, exponent 7F, mantissa 00) but element 0 = -2.0 (C0 00: exponent 80), element 129 = -2^-15 (B8 00:
# exponent 70) and element 130 = -2^-31 (B0 00: exponent 60). Field 0 is the exponent: symbols 7F with frequency 254
# (start 0), 80 with 1 (start 254), the escape with 1 (start 255).
# Backwards from element 255 (125 lanes 3..127 with symbol 0 throughout):
#   lanes 3-127: 256 -> 256*(256/254) + 256%254 + 0 = 258 -> 256*1 + 4 = 260 = 04 01
#   lanes 2, 1: escape: 256 >= 256*1: byte 00, x = 1 -> 256*1 + 0 + 255 = 511; symbol 0: 256*2 + 3 = 515 = 03 02
#   lane 0: symbol 0: 258; symbol 1: 258 >= 256*1: byte 02, x = 1 -> 256*1 + 0 + 254 = 510 = FE 01
# Field 1 is the sign and the mantissa: 1 0000000 in every element.
EXAMPLE_RUN = bytes.fromhex(
    "AA BB"  # head, tail
    "02 000000 1C010000"  # plane 0: RANS, 284 bytes
    "01 000000 01000000"  # plane 1: CONST, 1 byte
    "03 01 02 01 03000000 02000000 01000000"  # 3 symbols, has_escape, 128 lanes, 1 near; 3 coded, 2 nibbles, 1 far
    "FE 01 01  7F 80 00  70"  # frequencies, values, the near value
    "FE01 0302 0302" + "0401" * 125 +  # states
    "02 00 00  10  60"  # coded bytes of elements 0, 129 and 130; near value 0 and a far one; the far value
    "80"
)  # fmt: skip
EXAMPLE_PLAIN = bytes.fromhex("AA" + "00C0" + "80BF" * 128 + "00B8" + "00B0" + "BB")


def test_example_is_that_of_the_text():
    """The bytes of the block in section 5.1, its ellipsis written out, are those above."""
    text = (pathlib.Path(__file__).parents[1] / "docs/format.md").read_text()
    block = text.split("### 5.1 Example")[1].split("```")[1].strip().splitlines()
    digits = " ".join(line[:42].strip() if len(line) > 42 else line for line in block)
    assert bytes.fromhex(digits.replace("04 01 … 04 01", "0401" * 125)) == EXAMPLE_RUN
    assert (len(EXAMPLE_RUN), len(EXAMPLE_PLAIN)) == (303, 264)
    assert "Its payload of 303 bytes" in text and "plain_size 264" in text


def test_example_of_the_text():
    payload = (
        bytes.fromhex("02 000000")
        + bytes.fromhex("01 01 0000 08010000 2F010000")
        + ZEROS.record
        + EXAMPLE_RUN
        + ZEROS.payload
    )
    plain = EXAMPLE_PLAIN + ZEROS.plain
    assert decode_chunk(payload, 1, len(plain)) == plain
    out = bytearray(len(plain))
    _native.Codec(16).decode(payload, 7, (len(payload), 1, xxh3(payload, 7), 0), out)
    assert out == plain


def test_example_as_forged():
    exponents, rest = split_fields(1, EXAMPLE_PLAIN[1:-1])
    planes = [rans(exponents, ([254, 1, 1], [0x7F, 0x80, 0], 1), num_near=1).plane(), const_plane(int(rest[0]))]
    assert run(1, EXAMPLE_PLAIN, planes, phase=1).payload == EXAMPLE_RUN


def test_joint_fields_by_hand():
    """-2^-15 of 1.375 as BF16: sign 1, exponent 70, mantissa 0110000; exponent and 01 stay together, then the sign."""
    fields = split_fields(10, bytes.fromhex("30B8"))
    assert [int(field[0]) for field in fields] == [0b01110000_01, 0b1_10000]


def test_raw_planes_by_hand():
    """Values of 3 and 5 bits, least significant bit first: 1 2 3 4 5 -> 001 010 011 100 101 from the right, and so
    on.
    """
    assert raw_plane(np.array([1, 2, 3, 4, 5], np.uint8), 3).data == bytes([0b11_010_001, 0b0_101_100_0])
    plain = bytes([0x3C, 0xBC, 0x00, 0xFF, 0x55])  # E5M2: exponents 15 15 0 31 21, sign and mantissa 0 4 0 7 1
    planes = [Plane(RAW, bytes([0xEF, 0x81, 0x5F, 0x01])), Plane(RAW, bytes([0b00_100_000, 0b0_001_111_0]))]
    check(coded(run(6, plain, planes), ZEROS))


def test_many_runs_and_chunks():
    rng = np.random.default_rng(SEED)
    pieces = [run(layout, weights(layout, 100 + layout, rng), planes_of(layout, RANS)) for layout in LAYOUTS]
    filler = FULL - sum(len(piece.plain) for piece in pieces)
    first = coded(*pieces, run(1, weights(1, filler, rng)[:filler], [RANS, ZSTD]))
    small = coded(*[run(0, bytes([i]) * 1024, [CONST]) for i in range(64)])
    noise = stored(rng.bytes(FULL))
    check(first, noise, small, coded(ZEROS, run(0, b"tail", [RAW])))


def test_empty_and_tiny():
    check()
    check(stored(b"x"))
    check(stored(b"xyz"))


def test_more_than_one_page():
    rng = np.random.default_rng(SEED)
    zero = coded(run(0, bytes(FULL), [CONST]))
    for count in (127, 128, 255):
        check(*[zero] * (count - 1), stored(rng.bytes(100)))


@pytest.mark.parametrize("chunk_log2", range(16, 23))
def test_chunk_sizes(chunk_log2):
    size = 1 << chunk_log2
    values = np.arange(size // 2, dtype="<u2") % 251
    planes = [const_plane(0), zstd_plane(values.astype(np.uint8))]
    check(coded(run(7, values.tobytes(), planes)), coded(ZEROS), chunk_log2=chunk_log2)


def random_run(rng: np.random.Generator) -> CodedRun:
    """Any layout, phase, length and coding that fits; data from constant to noise."""
    layout = int(rng.integers(len(LAYOUTS)))
    _, width, _, fields = LAYOUTS[layout]
    phase = int(rng.integers(width))
    size = phase + width + int(rng.integers(rng.choice([1, 200, 3000])))
    plain = rng.integers(0, rng.choice([1, 2, 17, 256]), size).astype(np.uint8).tobytes()
    n = (size - phase) // width
    planes = []
    for bits, values in zip(fields, split_fields(layout, plain[phase : phase + n * width]), strict=True):
        possible = [RAW, RANS] + [ZSTD] * (bits == 8) + [SHORT] * (bits <= 8) + [CONST] * bool(np.all(values == values[0]))
        coding = RANS if LAYOUTS[layout].is_joint and not planes else int(rng.choice(possible))
        num_lanes, num_near = int(rng.choice([64, 128, 256])), int(rng.integers(61))
        planes.append(rans(values, None, num_lanes, num_near).plane() if coding == RANS else coding)
    return run(layout, plain, planes, phase)


@pytest.mark.parametrize("seed", range(40))
def test_random_runs(seed):
    rng = np.random.default_rng([SEED, seed])
    chunks = []
    for _ in range(3):
        runs = [random_run(rng) for _ in range(int(rng.integers(1, 12)))]
        zeros = run(0, bytes(FULL - sum(len(piece.plain) for piece in runs)), [CONST])
        pieces = [runs[i] for i in rng.permutation(len(runs))] + [zeros]
        chunks.append(coded(*pieces[::-1] if seed % 2 else pieces))
    check(*chunks)
