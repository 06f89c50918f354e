"""The reference decoder against the hand encoder, and the C decoder against both: equal bytes, chunk by chunk."""

import numpy as np
import pytest
from both import native_decode
from forge import Chunk, CodedRun, Forged, coded, run, stored
from forge_plane import Plane, const_plane, rans, raw_plane, split_fields, zstd_plane
from reference import decode
from reference_chunk import CONST, LAYOUTS, RANS, RAW, ZSTD, decode_chunk, xxh3

from zipfs import _native

SEED = 20261122


def weights(layout: int, n: int, rng: np.random.Generator) -> bytes:
    """n elements like trained weights: normal floats, small integers."""
    width = LAYOUTS[layout].width
    values = rng.normal(0, 0.02, n)
    match LAYOUTS[layout].name:
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


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_with_every_coding(layout):
    rng = np.random.default_rng(SEED + layout)
    _, width, _, fields = LAYOUTS[layout]
    plain = weights(layout, 3001, rng)
    for coding in (RAW, RANS, ZSTD):
        planes = [coding if coding != ZSTD or bits == 8 else RAW for bits in fields]
        for phase in sorted({0, width - 1}):
            odd = bytes(range(7, 7 + phase)) + plain + bytes(range(90, 90 + (width - 1) // 2))
            check(coded(run(layout, odd, planes, phase), ZEROS))
    values = [int(rng.integers(1 << bits)) for bits in fields]
    element = np.array([values[0]], np.uint8)
    check(coded(run(layout, constant(layout, values, 500), [CONST] * len(fields)), ZEROS))
    assert split_fields(layout, constant(layout, values, 1))[0] == element


def constant(layout: int, values: list[int], n: int) -> bytes:
    """n elements whose fields have these values; Python integers, so apart from all numpy shifting."""
    _, width, float_bits, fields = LAYOUTS[layout]
    y = 0
    for bits, value in zip(fields, values, strict=True):
        y = y << bits | value
    if float_bits:
        e, m = float_bits
        y = (y >> m & 1) << e + m | (y >> m + 1) << m | y & (1 << m) - 1
    return y.to_bytes(width, "little") * n


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 255, 256, 257, 8191, 40_000])
@pytest.mark.parametrize("num_values", [2, 3, 64, 65, 200, 256])
@pytest.mark.parametrize("num_lanes", [64, 128])
def test_rans_lengths_and_alphabets(n, num_values, num_lanes):
    rng = np.random.default_rng([SEED, n, num_values])
    skewed = np.minimum(rng.geometric(0.2, n) - 1, num_values - 1)
    even = rng.integers(0, num_values, n)
    for values in (skewed, even):
        bytes_ = values.astype(np.uint8)
        check(coded(run(0, bytes_.tobytes(), [rans(bytes_, num_lanes=num_lanes).plane()]), ZEROS))


@pytest.mark.parametrize("num_lanes", [64, 128])
@pytest.mark.parametrize("n", [1, 63, 65, 127, 129, 4095, 4096, 4097, 4096 + 64, 4096 + 128, 8000])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rans_and_escapes_in_every_field(layout, n, num_lanes):
    """Long runs whose fields have more values than a table has symbols: states and escapes live on across the pieces
    a decoder works in.
    """
    rng = np.random.default_rng([SEED, layout, n])
    width = LAYOUTS[layout].width
    words = np.minimum(rng.geometric(0.03, (n, width)) - 1, 255).astype(np.uint8)
    words[:, -1] ^= rng.integers(0, 2, n).astype(np.uint8) << 7
    zeros = run(0, bytes(FULL - n * width), [CONST])
    planes = [rans(values, num_lanes=num_lanes).plane() for values in split_fields(layout, words.tobytes())]
    check(coded(run(layout, words.tobytes(), planes), zeros))


def test_rans_extreme_frequencies():
    """A symbol of frequency 255 and one of 1, in both orders: the longest and the shortest steps of a state."""
    rng = np.random.default_rng(SEED)
    values = (rng.random(5000) < 0.3).astype(np.uint8)
    for freq in ([255, 1], [1, 255]):
        check(coded(run(0, values.tobytes(), [rans(values, (freq, [0, 1], 0)).plane()]), ZEROS))


@pytest.mark.parametrize("num_lanes", [64, 128])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 127, 128, 129, 192, 1000, 5000])
def test_rans_lanes(num_lanes, n):
    values = np.minimum(np.random.default_rng(SEED).geometric(0.4, n), 40).astype(np.uint8)
    plane = rans(values, ([128, 64, 32, 31, 1], [1, 2, 3, 4, 0], 1), num_lanes).plane()
    check(coded(run(0, values.tobytes(), [plane]), ZEROS))


def test_rans_all_escapes():
    values = np.random.default_rng(SEED).integers(0, 256, 1000).astype(np.uint8)
    check(coded(run(0, values.tobytes(), [rans(values, ([1, 255], [0, 0], 1)).plane()]), ZEROS))


def test_rans_escape_among_dropped_symbols():
    """Lanes beyond the last element may hold any symbol, an escape as well, and take no escape value."""
    values = np.arange(64, dtype=np.uint8).repeat(2)
    whole = rans(values, ([128, 127, 1], [0, 1, 0], 1))
    whole.escapes = values[4:100].tobytes()
    check(coded(run(0, values[:100].tobytes(), [whole.plane()]), ZEROS))


def test_rans_value_twice():
    """Two symbols may stand for one value; nothing forbids it."""
    values = np.full(300, 9, np.uint8)
    check(coded(run(0, values.tobytes(), [rans(values, ([100, 156], [9, 9], 0)).plane()]), ZEROS))


# The example of docs/format.md section 5.1, by hand. Head and tail of a byte each around 130 elements BF16, all -1.0
# (BF 80: sign 1, exponent 7F, mantissa 00) but element 0 = -2.0 (C0 00: exponent 80) and element 129 = -2^-15
# (B8 00: exponent 70). Field 0 is the exponent: symbols 7F with frequency 254 (start 0), 80 with 1 (start 254),
# the escape with 1 (start 255).
# Backwards from element 255 (127 lanes 2..127 with symbol 0 throughout):
#   lanes 2-127: 256 -> 256*(256/254) + 256%254 + 0 = 258 -> 256*1 + 4 = 260 = 04 01
#   lane 1: escape: 256 >= 256*1: byte 00, x = 1 -> 256*1 + 0 + 255 = 511; symbol 0: 256*2 + 3 = 515 = 03 02
#   lane 0: symbol 0: 258; symbol 1: 258 >= 256*1: byte 02, x = 1 -> 256*1 + 0 + 254 = 510 = FE 01
# Field 1 is the sign and the mantissa: 1 0000000 in every element.
EXAMPLE_RUN = bytes.fromhex(
    "AA BB"  # head, tail
    "02 000000 15010000"  # plane 0: RANS, 277 bytes
    "01 000000 01000000"  # plane 1: CONST, 1 byte
    "03 01 80 00 02000000 01000000"  # 3 symbols, has_escape, 128 lanes, 2 coded bytes, 1 escape
    "FE 01 01  7F 80 00"  # frequencies, values
    "FE01 0302" + "0401" * 126 +  # states
    "02 00  70"  # coded bytes of element 0 (lane 0) and element 129 (lane 1), the escape value
    "80"
)  # fmt: skip
EXAMPLE_PLAIN = bytes.fromhex("AA" + "00C0" + "80BF" * 128 + "00B8" + "BB")


def test_example_of_the_text():
    assert (len(EXAMPLE_RUN), len(EXAMPLE_PLAIN)) == (296, 262)
    payload = (
        bytes.fromhex("02 000000")
        + bytes.fromhex("01 01 0000 06010000 28010000")
        + ZEROS.record
        + EXAMPLE_RUN
        + ZEROS.payload
    )
    plain = EXAMPLE_PLAIN + ZEROS.plain
    assert decode_chunk(payload, 1, len(plain)) == plain
    out = bytearray(len(plain))
    _native.Codec(16).decode(payload, 7, (len(payload), 1, xxh3(payload, 7), 0), out)
    assert out == plain
    exponents, rest = split_fields(1, EXAMPLE_PLAIN[1:-1])
    planes = [rans(exponents, ([254, 1, 1], [0x7F, 0x80, 0], 1)).plane(), const_plane(int(rest[0]))]
    assert run(1, EXAMPLE_PLAIN, planes, phase=1).payload == EXAMPLE_RUN


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
    pieces = [
        run(layout, weights(layout, 100 + layout, rng), [RANS] * len(LAYOUTS[layout].fields)) for layout in LAYOUTS
    ]
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
        possible = [RAW, RANS] + [ZSTD] * (bits == 8) + [CONST] * bool(np.all(values == values[0]))
        coding = int(rng.choice(possible))
        num_lanes = int(rng.choice([64, 128]))
        planes.append(rans(values, num_lanes=num_lanes).plane() if coding == RANS else coding)
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
