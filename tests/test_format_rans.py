"""Every rule of docs/format.md section 5 that rejects an RANS plane, with right hashes: the C decoder and the reference
decoder by name.
"""

from collections.abc import Callable

import numpy as np
import pytest
from both import native_verdict, reference_verdict
from forge import Chunk, Forged, coded, run
from forge_plane import Plane, Rans, rans, split_fields
from reference_chunk import CONST, RANS, RAW

BYTES, F8_E4M3, BF16_JOINT, F8_E5M2_JOINT = 0, 5, 10, 14
ZEROS = run(BYTES, bytes(20_000), [CONST])
"""Goes with every run, so that the payload is smaller than its chunk."""
TEXT = bytes(i % 7 for i in range(1000))
NIBBLES = bytes(i % 3 * 17 for i in range(301))
SYMBOLS = np.frombuffer(TEXT, np.uint8)
WORDS = (np.arange(501, dtype="<u2") % 7 * 1009).tobytes()
"""As BF16_JOINT: first fields 0 31 63 94 126 157 189."""


def plane(data: Plane, plain: bytes = TEXT) -> Chunk:
    return coded(run(BYTES, plain, [data]), ZEROS)


def nibble_plane(parts: Rans) -> Chunk:
    """In a field of 4 bits."""
    return coded(run(F8_E4M3, NIBBLES, [RAW, parts.plane()]), ZEROS)


def spoil(parts: Rans, fields: dict) -> Rans:
    for name, value in fields.items():
        setattr(parts, name, value(getattr(parts, name)) if callable(value) else value)
    return parts


def spoilt(**fields: object) -> Chunk:
    """An RANS plane of TEXT with parts overridden, or made from what they were by a function."""
    return plane(spoil(rans(SYMBOLS), fields).plane())


def with_escape(**fields: object) -> Chunk:
    """The same with 4, 5 and 6 behind an escape: 428 escapes, 4 and 5 near values, 142 times 6 far."""
    return plane(spoil(escaped(), fields).plane())


def escaped() -> Rans:
    parts = rans(SYMBOLS, ([40, 40, 40, 40, 96], [0, 1, 2, 3, 0], 1), num_near=2)
    assert (parts.near, parts.numbers[:4], len(parts.numbers), len(parts.far)) == ([4, 5], [0, 1, 2, 0], 428, 142)
    return parts


def with_near(near: list[int]) -> Chunk:
    """The same with other near values, of which the first two are used."""
    return with_escape(near=near, numbers=lambda numbers: [len(near) if q == 2 else q for q in numbers])


def odd_escapes(**fields: object) -> Chunk:
    """With an odd number of escapes: 143 times 0, all near."""
    return plane(spoil(rans(SYMBOLS, ([36] * 6 + [40], [1, 2, 3, 4, 5, 6, 0], 1)), fields).plane())


def large_numbers(**fields: object) -> Chunk:
    """Values 0 to 39 behind an escape but for 0: 0 to 29 are near, so that a far one has the number 30, nibbles 15 15
    0.
    """
    values = (np.arange(1000) % 40).astype(np.uint8)
    parts = rans(values, ([10, 246], [0, 0], 1), num_near=30)
    assert (parts.near, parts.numbers.count(30)) == (list(range(1, 31)), 225)
    return plane(spoil(parts, fields).plane(), values.tobytes())


def largest_numbers(at: int, number: int) -> Chunk:
    """All 60 near values, and 9 far ones: their number is 60, five nibbles. The at-th of them is changed."""
    values = (np.arange(1000) % 70).astype(np.uint8)
    parts = rans(values, ([10, 246], [0, 0], 1))
    where = [i for i, q in enumerate(parts.numbers) if q == 60]
    return plane(spoil(parts, {"numbers": replaced(where[at], number)}).plane(), values.tobytes())


def no_near(**fields: object) -> Chunk:
    """4, 5 and 6 behind an escape, all far: 428 of them, and no nibbles."""
    parts = rans(SYMBOLS, ([40, 40, 40, 40, 96], [0, 1, 2, 3, 0], 1), num_near=0)
    assert (len(parts.nibbles()), len(parts.far)) == (0, 428)
    return plane(spoil(parts, fields).plane())


def wide(**fields: object) -> Chunk:
    """In a field of 10 bits, so with values of two bytes; 126 near, 157 and 189 far."""
    first = split_fields(BF16_JOINT, WORDS)[0]
    parts = rans(first, ([60, 60, 60, 60, 16], [0, 31, 63, 94, 0], 1), num_near=1)
    return coded(run(BF16_JOINT, WORDS, [spoil(parts, fields).plane(), RAW]), ZEROS)


def seven_bits(**fields: object) -> Chunk:
    """In the first field of F8_E5M2_JOINT."""
    first = split_fields(F8_E5M2_JOINT, TEXT)[0]
    parts = rans(first, ([60, 60, 60, 76], [0, 1, 2, 0], 1), num_near=1)
    return coded(run(F8_E5M2_JOINT, TEXT, [spoil(parts, fields).plane(), RAW]), ZEROS)


def state(lane: int, change: Callable[[int], int]) -> Callable[[np.ndarray], np.ndarray]:
    def changed(states: np.ndarray) -> np.ndarray:
        states[lane] = change(int(states[lane]))
        return states

    return changed


def replaced(at: int, value: int) -> Callable[[list[int]], list[int]]:
    return lambda values: values[:at] + [value] + (values[at + 1 :] if at != -1 else [])


def modelled(freq: list[int]) -> Chunk:
    """A stream that decodes with these frequencies as they are, sum and zeros apart. A symbol of frequency 0 does not
    occur.
    """
    values = iter(range(len(freq)))
    return plane(rans(SYMBOLS, (freq, [next(values) if f else 99 for f in freq], 0)).plane())


def narrow(values: str, value: int) -> Chunk:
    """A field of 4 bits with one of the `values` too large."""
    parts = rans(np.frombuffer(NIBBLES, np.uint8) & 15, ([200, 56], [0, 0], 1), num_near=1)
    return nibble_plane(spoil(parts, {values: replaced(0, value)}))


def low_state() -> Chunk:
    """Lane 5 begins at 1: slot 1 is symbol 0, x = 0 + 1, and a coded byte 0 brings it to 256. Only the range of
    states forbids it.
    """
    values = np.zeros(128, np.uint8)
    parts = rans(values, ([254, 2], [0, 1], 0))
    assert parts.coded == b""
    parts.states[5] = 1
    parts.coded = b"\0"
    return plane(parts.plane(), plain=values.tobytes())


CASES = {
    "plane of no bytes": (lambda: plane(Plane(RANS, b"")), "BAD_PLANE"),
    "plane shorter than its header": (lambda: plane(Plane(RANS, rans(SYMBOLS).pack()[:15])), "BAD_PLANE"),
    "plane of a header": (lambda: plane(Plane(RANS, rans(SYMBOLS).pack()[:16])), "BAD_PLANE"),
    "plane ends in the states": (lambda: plane(Plane(RANS, rans(SYMBOLS).pack()[:281])), "BAD_PLANE"),
    "plane ends in the far values": (lambda: plane(Plane(RANS, escaped().pack()[:-1])), "BAD_PLANE"),
    "plane with a byte after it": (lambda: plane(Plane(RANS, rans(SYMBOLS).pack() + b"\0")), "BAD_PLANE"),
    "one symbol": (lambda: spoilt(freq=[255], num_symbols=1), "BAD_RANS"),
    "no symbols": (lambda: spoilt(num_symbols=0), "BAD_RANS"),
    "65 symbols": (lambda: modelled([192] + [1] * 64), "BAD_RANS"),
    "255 symbols": (lambda: spoilt(num_symbols=255), "BAD_RANS"),
    "has_escape 2": (lambda: with_escape(has_escape=2), "BAD_RANS"),
    "no lanes": (lambda: spoilt(lanes=0), "BAD_RANS"),
    "192 lanes": (lambda: plane(rans(SYMBOLS, num_lanes=192).plane()), "BAD_RANS"),
    "320 lanes": (lambda: plane(rans(SYMBOLS, num_lanes=320).plane()), "BAD_RANS"),
    "512 lanes": (lambda: plane(rans(SYMBOLS, num_lanes=512).plane()), "BAD_RANS"),
    "lanes not divided": (lambda: spoilt(lanes=128), "BAD_RANS"),
    "64 lanes of 128": (lambda: spoilt(lanes=1), "BAD_PLANE"),
    "256 lanes of 128": (lambda: spoilt(lanes=4), "BAD_PLANE"),
    "coded_size above the plane": (lambda: spoilt(coded_size=len(rans(SYMBOLS).coded) + 1), "BAD_PLANE"),
    "coded_size below the plane": (lambda: spoilt(coded_size=len(rans(SYMBOLS).coded) - 1), "BAD_PLANE"),
    "coded_size near 2^32": (lambda: spoilt(coded_size=(1 << 32) - 1), "BAD_PLANE"),
    "near values without an escape": (lambda: spoilt(near=[1]), "BAD_RANS"),
    "61 near values": (lambda: with_escape(near=[4, 5] + [6] * 59), "BAD_RANS"),
    "255 near values": (lambda: with_escape(near=[4, 5] + [6] * 253), "BAD_RANS"),
    "near values above the plane": (lambda: with_escape(num_near=3), "BAD_PLANE"),
    "near values below the plane": (lambda: with_escape(num_near=1), "BAD_PLANE"),
    "escapes without an escape": (lambda: spoilt(numbers=[0], far=[0]), "BAD_RANS"),
    "nibbles without an escape": (lambda: spoilt(numbers=[0]), "BAD_RANS"),
    "far values without an escape": (lambda: spoilt(far=[0]), "BAD_RANS"),
    "more escapes than elements": (lambda: with_escape(numbers=lambda q: q + [0] * (1001 - len(q))), "BAD_RANS"),
    "more nibbles than can be": (lambda: with_escape(more_nibbles=[15] * (5001 - 428)), "BAD_RANS"),
    "nibbles near 2^32": (lambda: with_escape(num_nibbles=(1 << 32) - 1), "BAD_RANS"),
    "far values above the plane": (lambda: with_escape(num_far=143), "BAD_PLANE"),
    "far values below the plane": (lambda: with_escape(num_far=141), "BAD_PLANE"),
    "more far values than nibbles": (lambda: with_escape(far=[6] * 429), "BAD_RANS"),
    "far values near 2^32": (lambda: with_escape(num_far=(1 << 32) - 1), "BAD_RANS"),
    "sizes wrap": (lambda: with_escape(coded_size=(1 << 32) - 10, coded=lambda c: c[:-10]), "BAD_PLANE"),
    "frequency 0": (lambda: modelled([37, 0, 37, 37, 37, 36, 36, 36]), "BAD_RANS"),
    "frequency 0 of the last": (lambda: modelled([37, 37, 37, 37, 36, 36, 36, 0]), "BAD_RANS"),
    "frequencies make 255": (lambda: modelled([36, 36, 37, 37, 37, 36, 36]), "BAD_RANS"),
    "frequencies make 257": (lambda: spoilt(freq=[37, 37, 37, 37, 37, 36, 36]), "BAD_RANS"),
    "frequencies make 512": (lambda: spoilt(freq=[100, 100, 100, 100, 100, 6, 6]), "BAD_RANS"),
    "symbol wider than its field": (lambda: narrow("value", 16), "BAD_RANS"),
    "near value wider than its field": (lambda: narrow("near", 16), "BAD_RANS"),
    "far value wider than its field": (lambda: narrow("far", 16), "BAD_RANS"),
    "symbol of 8 bits in 7": (lambda: seven_bits(value=replaced(2, 128)), "BAD_RANS"),
    "near value of 8 bits in 7": (lambda: seven_bits(near=[128]), "BAD_RANS"),
    "far value of 8 bits in 7": (lambda: seven_bits(far=replaced(100, 128)), "BAD_RANS"),
    "symbol of 11 bits in 10": (lambda: wide(value=replaced(3, 1024)), "BAD_RANS"),
    "near value of 11 bits in 10": (lambda: wide(near=[1024]), "BAD_RANS"),
    "far value of 11 bits in 10": (lambda: wide(far=replaced(0, 1024)), "BAD_RANS"),
    "last far value of 16 bits in 10": (lambda: wide(far=replaced(-1, 0x8000)), "BAD_RANS"),
    "values of one byte in 10 bits": (lambda: wide(value_size=1), "BAD_PLANE"),
    "values of two bytes in 8 bits": (lambda: with_escape(value_size=2), "BAD_PLANE"),
    "escape with a value": (lambda: with_escape(value=replaced(4, 4)), "BAD_RANS"),
    "wide escape with a value": (lambda: wide(value=replaced(4, 256)), "BAD_RANS"),
    "state 255": (lambda: spoilt(states=state(5, lambda x: 255)), "BAD_RANS"),
    "state 0": (lambda: spoilt(states=state(127, lambda x: 0)), "BAD_RANS"),
    "state 1 that decodes": (low_state, "BAD_RANS"),
    "another state": (lambda: spoilt(states=state(0, lambda x: x ^ 256)), "BAD_RANS"),
    "another state of a dropped lane": (lambda: spoilt(states=state(127, lambda x: x ^ 1024)), "BAD_RANS"),
    "coded byte missing": (lambda: spoilt(coded=lambda c: c[:-1]), "BAD_RANS"),
    "no coded bytes": (lambda: spoilt(coded=b""), "BAD_RANS"),
    "coded byte left": (lambda: spoilt(coded=lambda c: c + b"\0"), "BAD_RANS"),
    "many coded bytes left": (lambda: spoilt(coded=lambda c: c + bytes(300)), "BAD_RANS"),
    "last coded byte changed": (lambda: spoilt(coded=lambda c: c[:-1] + bytes([c[-1] ^ 1])), "BAD_RANS"),
    "escape missing": (lambda: with_escape(numbers=lambda q: q[:-1]), "BAD_RANS"),
    "no escapes": (lambda: with_escape(numbers=[], far=[]), "BAD_RANS"),
    "escape left": (lambda: with_escape(numbers=lambda q: [*q, 0]), "BAD_RANS"),
    "many escapes left": (lambda: with_escape(numbers=lambda q: q + [0] * 400), "BAD_RANS"),
    "first number too large": (lambda: with_escape(numbers=replaced(0, 3)), "BAD_RANS"),
    "last number too large": (lambda: with_escape(numbers=replaced(-1, 14)), "BAD_RANS"),
    "number of two nibbles too large": (lambda: with_escape(numbers=replaced(0, 15)), "BAD_RANS"),
    "number of three nibbles too large": (lambda: large_numbers(numbers=replaced(0, 31)), "BAD_RANS"),
    "number 255": (lambda: large_numbers(numbers=replaced(0, 255)), "BAD_RANS"),
    "number 256": (lambda: large_numbers(numbers=replaced(0, 256)), "BAD_RANS"),
    "number 61": (lambda: largest_numbers(0, 61), "BAD_RANS"),
    "number 75": (lambda: largest_numbers(0, 75), "BAD_RANS"),
    "number 90": (lambda: largest_numbers(0, 90), "BAD_RANS"),
    **{
        f"number {number} of far value {at}": (lambda at=at, number=number: largest_numbers(at, number), "BAD_RANS")
        for at in range(1, 100, 7)
        for number in (75, 60 + 256)
    },
    "last number too large, in two nibbles": (lambda: large_numbers(numbers=replaced(-1, 44)), "BAD_RANS"),
    "nibbles without near values": (lambda: no_near(more_nibbles=[0] * 428), "BAD_RANS"),
    "a nibble without near values": (lambda: no_near(more_nibbles=[0]), "BAD_RANS"),
    "more far values than elements": (lambda: no_near(far=[6] * 1001), "BAD_RANS"),
    "far values near 2^32 without near ones": (lambda: no_near(num_far=(1 << 32) - 1), "BAD_RANS"),
    "far value missing without near ones": (lambda: no_near(far=lambda f: f[:-1]), "BAD_RANS"),
    "no far values without near ones": (lambda: no_near(far=[]), "BAD_RANS"),
    "far value left without near ones": (lambda: no_near(far=lambda f: [*f, 6]), "BAD_RANS"),
    "nibbles end within a number": (lambda: with_escape(more_nibbles=[15]), "BAD_RANS"),
    "nibbles end within a long number": (lambda: large_numbers(more_nibbles=[15, 15]), "BAD_RANS"),
    "last number ends early": (lambda: large_numbers(numbers=lambda q: q[:-1], more_nibbles=[15]), "BAD_RANS"),
    "unused nibble": (lambda: odd_escapes(num_nibbles=143, more_nibbles=[1]), "RESERVED_NOT_ZERO"),
    "unused nibble 15": (lambda: odd_escapes(num_nibbles=143, more_nibbles=[15]), "RESERVED_NOT_ZERO"),
    "far value missing": (lambda: with_escape(far=lambda f: f[:-1]), "BAD_RANS"),
    "no far values": (lambda: with_escape(far=[]), "BAD_RANS"),
    "far value left": (lambda: with_escape(far=lambda f: [*f, 6]), "BAD_RANS"),
    "far value left of near escapes": (lambda: odd_escapes(far=[0]), "BAD_RANS"),
    "far value for a near one": (lambda: with_escape(numbers=replaced(0, 2)), "BAD_RANS"),
    "near value for a far one": (lambda: with_escape(numbers=replaced(2, 0)), "BAD_RANS"),
}


@pytest.mark.parametrize(("make", "status"), CASES.values(), ids=CASES.keys())
def test_rejects(make, status):
    container = Forged([make()]).seal()
    assert (reference_verdict(container), native_verdict(container)) == (status, status)


ACCEPTED = {
    "two planes": lambda: coded(run(F8_E4M3, NIBBLES, [RANS, RANS]), ZEROS),
    "the parts that are spoilt above": lambda: spoilt(),
    "the escapes that are spoilt above": lambda: with_escape(),
    "the odd escapes that are spoilt above": lambda: odd_escapes(),
    "the wide values that are spoilt above": lambda: wide(),
    "the 7 bits that are spoilt above": lambda: seven_bits(),
    "the bits that are spoilt above": lambda: nibble_plane(rans(np.frombuffer(NIBBLES, np.uint8) & 15)),
    "frequencies by hand": lambda: modelled([37, 37, 37, 37, 36, 36, 36]),
    "64 symbols": lambda: modelled([193] + [1] * 63),
    "an escape that does not occur": lambda: plane(
        rans(SYMBOLS, ([36] * 7 + [4], [0, 1, 2, 3, 4, 5, 6, 0], 1)).plane()
    ),
    "the numbers that are spoilt above": lambda: large_numbers(),
    "the largest numbers that are spoilt above": lambda: largest_numbers(0, 60),
    "near values that do not occur": lambda: with_near([4, 5] + [255] * 13),
    "60 near values": lambda: with_near([4, 5] + [255] * 58),
    "far values without near ones": lambda: no_near(),
    "a near value twice": lambda: with_escape(near=[4, 5, 5], numbers=lambda numbers: [q + (q > 0) for q in numbers]),
    "a near value that is written out": lambda: with_escape(numbers=replaced(0, 2), far=lambda f: [4, *f]),
    "a near value that is a symbol": lambda: with_near([4, 5, 0]),
}


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepts(make):
    """What the cases above are spoilt from, and what the text allows though no writer does it."""
    chunk = make()
    container = Forged([chunk]).seal()
    assert reference_verdict(container) == chunk.plain
    assert native_verdict(container) == chunk.plain
