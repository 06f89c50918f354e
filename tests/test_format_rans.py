"""Every rule of docs/format.md section 5 that rejects an RANS plane, with right hashes: the C decoder and the reference
decoder by name.
"""

import numpy as np
import pytest
from both import native_verdict, reference_verdict
from forge import Chunk, Forged, coded, run
from forge_plane import Plane, Rans, rans
from reference_chunk import CONST, RANS, RAW

BYTES, F8_E4M3 = 0, 5
ZEROS = run(BYTES, bytes(20_000), [CONST])
"""Goes with every run, so that the payload is smaller than its chunk."""
TEXT = bytes(i % 7 for i in range(1000))
NIBBLES = bytes(i % 3 * 17 for i in range(301))
SYMBOLS = np.frombuffer(TEXT, np.uint8)


def plane(data: Plane, plain: bytes = TEXT) -> Chunk:
    return coded(run(BYTES, plain, [data]), ZEROS)


def nibble_plane(parts: Rans) -> Chunk:
    """In a field of 4 bits."""
    return coded(run(F8_E4M3, NIBBLES, [RAW, parts.plane()]), ZEROS)


def spoilt(**fields: object) -> Chunk:
    """An RANS plane of TEXT with parts overridden."""
    parts = rans(SYMBOLS)
    for name, value in fields.items():
        setattr(parts, name, value)
    return plane(parts.plane())


def with_escape(**fields: object) -> Chunk:
    """The same with 5 and 6 behind an escape: 285 escape values."""
    parts = escaped()
    for name, value in fields.items():
        setattr(parts, name, value)
    return plane(parts.plane())


def escaped() -> Rans:
    return rans(SYMBOLS, ([40, 40, 40, 40, 40, 56], [0, 1, 2, 3, 4, 0], 1))


def state(lane: int, value: int) -> np.ndarray:
    states = rans(SYMBOLS).states.copy()
    states[lane] = value
    return states


def modelled(freq: list[int]) -> Chunk:
    """A stream that decodes with these frequencies as they are, sum and zeros apart. A symbol of frequency 0 does not
    occur.
    """
    values = iter(range(len(freq)))
    return plane(rans(SYMBOLS, (freq, [next(values) if f else 99 for f in freq], 0)).plane())


def high_symbol() -> Chunk:
    parts = rans(np.frombuffer(NIBBLES, np.uint8) & 15)
    parts.value[1] = 16
    return nibble_plane(parts)


def high_escape() -> Chunk:
    values = np.frombuffer(NIBBLES, np.uint8) & 15
    parts = rans(values, ([200, 56], [0, 0], 1))
    parts.escapes = b"\x10" + parts.escapes[1:]
    return nibble_plane(parts)


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
    "plane of a header": (lambda: plane(Plane(RANS, rans(SYMBOLS).pack()[:12])), "BAD_PLANE"),
    "plane ends in the states": (lambda: plane(Plane(RANS, rans(SYMBOLS).pack()[:281])), "BAD_PLANE"),
    "one symbol": (lambda: spoilt(freq=[255], num_symbols=1), "BAD_RANS"),
    "no symbols": (lambda: spoilt(num_symbols=0), "BAD_RANS"),
    "65 symbols": (lambda: modelled([192] + [1] * 64), "BAD_RANS"),
    "has_escape 2": (lambda: with_escape(has_escape=2), "BAD_RANS"),
    "no lanes": (lambda: spoilt(num_lanes=0), "BAD_RANS"),
    "32 lanes": (lambda: plane(rans(SYMBOLS, num_lanes=32).plane()), "BAD_RANS"),
    "96 lanes": (lambda: plane(rans(SYMBOLS, num_lanes=96).plane()), "BAD_RANS"),
    "192 lanes": (lambda: plane(rans(SYMBOLS, num_lanes=192).plane()), "BAD_RANS"),
    "64 lanes of 128": (lambda: spoilt(num_lanes=64), "BAD_PLANE"),
    "reserved byte": (lambda: spoilt(reserved=1), "RESERVED_NOT_ZERO"),
    "coded_size above the plane": (lambda: spoilt(coded_size=len(rans(SYMBOLS).coded) + 1), "BAD_PLANE"),
    "coded_size below the plane": (lambda: spoilt(coded_size=len(rans(SYMBOLS).coded) - 1), "BAD_PLANE"),
    "coded_size near 2^32": (lambda: spoilt(coded_size=(1 << 32) - 1), "BAD_PLANE"),
    "escapes without an escape": (lambda: spoilt(escapes=b"\0"), "BAD_RANS"),
    "more escapes than elements": (lambda: with_escape(escapes=bytes(1001)), "BAD_RANS"),
    "escapes near 2^32": (lambda: with_escape(num_escapes=(1 << 32) - 1), "BAD_RANS"),
    "sizes wrap": (
        lambda: with_escape(coded_size=(1 << 32) - 10, num_escapes=len(escaped().coded) + 285 + 10),
        "BAD_PLANE",
    ),
    "frequency 0": (lambda: modelled([37, 0, 37, 37, 37, 36, 36, 36]), "BAD_RANS"),
    "frequency 0 of the last": (lambda: modelled([37, 37, 37, 37, 36, 36, 36, 0]), "BAD_RANS"),
    "frequencies make 255": (lambda: modelled([36, 36, 37, 37, 37, 36, 36]), "BAD_RANS"),
    "frequencies make 257": (lambda: spoilt(freq=[37, 37, 37, 37, 37, 36, 36]), "BAD_RANS"),
    "frequencies make 512": (lambda: spoilt(freq=[100, 100, 100, 100, 100, 6, 6]), "BAD_RANS"),
    "symbol wider than its field": (high_symbol, "BAD_RANS"),
    "escape with a value": (lambda: with_escape(value=[0, 1, 2, 3, 4, 5]), "BAD_RANS"),
    "state 255": (lambda: spoilt(states=state(5, 255)), "BAD_RANS"),
    "state 0": (lambda: spoilt(states=state(127, 0)), "BAD_RANS"),
    "state 1 that decodes": (low_state, "BAD_RANS"),
    "another state": (lambda: spoilt(states=state(0, int(rans(SYMBOLS).states[0]) ^ 256)), "BAD_RANS"),
    "another state of a dropped lane": (
        lambda: spoilt(states=state(127, int(rans(SYMBOLS).states[127]) ^ 1024)),
        "BAD_RANS",
    ),
    "coded byte missing": (lambda: spoilt(coded=rans(SYMBOLS).coded[:-1]), "BAD_RANS"),
    "no coded bytes": (lambda: spoilt(coded=b""), "BAD_RANS"),
    "coded byte left": (lambda: spoilt(coded=rans(SYMBOLS).coded + b"\0"), "BAD_RANS"),
    "many coded bytes left": (lambda: spoilt(coded=rans(SYMBOLS).coded + bytes(300)), "BAD_RANS"),
    "last coded byte changed": (
        lambda: spoilt(coded=rans(SYMBOLS).coded[:-1] + bytes([rans(SYMBOLS).coded[-1] ^ 1])),
        "BAD_RANS",
    ),
    "escape value missing": (lambda: with_escape(escapes=escaped().escapes[:-1]), "BAD_RANS"),
    "no escape values": (lambda: with_escape(escapes=b""), "BAD_RANS"),
    "escape value left": (lambda: with_escape(escapes=escaped().escapes + b"\0"), "BAD_RANS"),
    "escape wider than its field": (high_escape, "BAD_RANS"),
}


@pytest.mark.parametrize(("make", "status"), CASES.values(), ids=CASES.keys())
def test_rejects(make, status):
    container = Forged([make()]).seal()
    assert (reference_verdict(container), native_verdict(container)) == (status, status)


ACCEPTED = {
    "two planes": lambda: coded(run(F8_E4M3, NIBBLES, [RANS, RANS]), ZEROS),
    "the parts that are spoilt above": lambda: spoilt(),
    "the escapes that are spoilt above": lambda: with_escape(),
    "the bits that are spoilt above": lambda: nibble_plane(rans(np.frombuffer(NIBBLES, np.uint8) & 15)),
    "frequencies by hand": lambda: modelled([37, 37, 37, 37, 36, 36, 36]),
    "64 symbols": lambda: modelled([193] + [1] * 63),
    "an escape that does not occur": lambda: plane(
        rans(SYMBOLS, ([36] * 7 + [4], [0, 1, 2, 3, 4, 5, 6, 0], 1)).plane()
    ),
}


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepts(make):
    """What the cases above are spoilt from, and what the text allows though no writer does it."""
    chunk = make()
    container = Forged([chunk]).seal()
    assert reference_verdict(container) == chunk.plain
    assert native_verdict(container) == chunk.plain
