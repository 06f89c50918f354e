"""COPY runs (docs/format.md section 8.1) built by hand: what the text allows decodes, every breach is rejected by name,
by the C decoder and by the reference decoder.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from both import native_verdict, reference_verdict
from forge import Chunk, CodedRun, Forged, coded, copy_run, run, stored
from reference import Container
from reference_chunk import CONST, COPY, RAW, ZSTD
from reference_common import Rejected

from zipfs import _native

BYTES = 0
CHUNK = 1 << 16
NOISE = np.random.default_rng(20261122).bytes(CHUNK)
SECOND = bytes(range(250)) * 40 + bytes(CHUNK - 10_000)
"""What the chunks 0 and 1 hold, which are copied from."""


def zeros(size: int) -> CodedRun:
    return run(BYTES, bytes(size), [CONST])


def targets() -> list[Chunk]:
    return [stored(NOISE), coded(run(BYTES, SECOND[:10_000], [ZSTD]), zeros(CHUNK - 10_000))]


def forged(*runs: CodedRun, features: int = 1, then: Sequence[Chunk] = ()) -> Forged:
    """Chunks 0 and 1, a chunk 2 of these runs and zeros, and more chunks."""
    rest = CHUNK - sum(len(r.plain) for r in runs)
    chunk = coded(*runs, *([zeros(rest)] if rest else []))
    return Forged([*targets(), chunk, *then]).header(required_features=features)


def container(*runs: CodedRun, **more) -> bytes:
    return forged(*runs, **more).seal()


def at(offset: int, size: int) -> bytes:
    return (NOISE + SECOND)[offset : offset + size]


def good(offset: int, size: int) -> CodedRun:
    return copy_run(at(offset, size), offset)


ACCEPTED: dict[str, Callable[[], bytes]] = {
    "a byte": lambda: container(good(5, 1)),
    "the first byte": lambda: container(good(0, 1)),
    "a whole chunk": lambda: container(good(CHUNK, CHUNK)),
    "parts of two chunks": lambda: container(good(777, CHUNK)),
    "the end of a chunk": lambda: container(good(CHUNK - 10, 10)),
    "the start of a chunk": lambda: container(good(CHUNK, 10)),
    "up to the chunk itself": lambda: container(good(2 * CHUNK - 3, 3)),
    "a border within a run": lambda: container(good(CHUNK + 9_990, 20)),
    "between other runs": lambda: container(run(BYTES, b"abc", [RAW]), good(70_000, 300), run(BYTES, b"d", [RAW])),
    "8 copies": lambda: container(*[good(100 * i, 50 + i) for i in range(8)]),
    "the same target twice": lambda: container(good(9, 99), good(9, 99)),
    "in the last, short chunk": lambda: container(
        zeros(CHUNK), then=[coded(good(CHUNK, 4), run(BYTES, bytes(99), [CONST]))]
    ),
    "beside a copy": lambda: container(
        zeros(1000), good(0, 500), run(BYTES, NOISE[:300], [RAW]), then=[beside(900, 100), beside(1500, 300)]
    ),
    "announced and not there": lambda: container(zeros(CHUNK)),
}


def beside(start: int, size: int) -> Chunk:
    """A chunk that copies bytes of chunk 2 in the case of that name."""
    plain = (bytes(1000) + NOISE[:500] + NOISE[:300])[start : start + size]
    return coded(copy_run(plain, 2 * CHUNK + start), zeros(CHUNK - size))


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(make):
    data = make()
    expected = reference_verdict(data)
    assert isinstance(expected, bytes)
    assert expected[: 2 * CHUNK] == NOISE + SECOND
    assert native_verdict(data) == expected


def copy_of_a_copy(start: int, size: int) -> bytes:
    """Chunk 3 copies from chunk 2, whose bytes [1000, 1500) are a copy."""
    return container(
        zeros(1000), good(0, 500), then=[coded(copy_run(bytes(size), 2 * CHUNK + start), zeros(CHUNK - size))]
    )


REJECTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "without the feature": (lambda: container(good(0, 9), features=0), "UNKNOWN_FEATURE"),
    "feature of bases": (lambda: container(good(0, 9), features=3), "UNKNOWN_FEATURE"),
    "feature bit 63": (lambda: container(good(0, 9), features=1 << 63 | 1), "UNKNOWN_FEATURE"),
    "XOR": (lambda: container(copy_run(at(0, 9), 0, layout=241)), "UNKNOWN_FEATURE"),
    "base 1": (lambda: container(copy_run(at(0, 9), 0, base=1)), "UNKNOWN_FEATURE"),
    "base near 2^32": (lambda: container(copy_run(at(0, 9), 0, base=(1 << 32) - 1)), "UNKNOWN_FEATURE"),
    "reserved of the payload": (lambda: container(copy_run(at(0, 9), 0, reserved=1)), "RESERVED_NOT_ZERO"),
    "reserved of the payload, last bit": (lambda: container(copy_run(b"a", 0, reserved=1 << 31)), "RESERVED_NOT_ZERO"),
    "phase 1": (lambda: container(copy_run(at(0, 9), 0, phase=1)), "BAD_COPY"),
    "of no bytes": (lambda: container(copy_run(b"", 0)), "BAD_COPY"),
    "a byte too many": (lambda: container(copy_run(at(0, 9), 0, extra=b"\0")), "BAD_COPY"),
    "9 copies": (lambda: container(*[good(100 * i, 50) for i in range(9)]), "BAD_COPY"),
    "64 copies": (lambda: container(*[good(100 * i, 50) for i in range(63)], good(7, CHUNK - 63 * 50)), "BAD_COPY"),
    "into the chunk itself": (lambda: container(copy_run(bytes(2), 2 * CHUNK - 1)), "BAD_COPY"),
    "from the chunk itself": (lambda: container(zeros(100), copy_run(bytes(2), 2 * CHUNK)), "BAD_COPY"),
    "from a later chunk": (lambda: container(copy_run(bytes(2), 3 * CHUNK), then=[stored(bytes(9))]), "BAD_COPY"),
    "from behind the file": (lambda: container(copy_run(bytes(2), 1 << 40)), "BAD_COPY"),
    "near 2^64": (lambda: container(copy_run(bytes(2), (1 << 64) - 1)), "BAD_COPY"),
    "in the first chunk": (
        lambda: Forged([coded(copy_run(b"a", 0), zeros(99))]).header(required_features=1).seal(),
        "BAD_COPY",
    ),
    "a copy of a copy": (lambda: copy_of_a_copy(1000, 500), "BAD_COPY"),
    "the first byte of a copy": (lambda: copy_of_a_copy(990, 11), "BAD_COPY"),
    "the last byte of a copy": (lambda: copy_of_a_copy(1499, 10), "BAD_COPY"),
    "around a copy": (lambda: copy_of_a_copy(0, 2000), "BAD_COPY"),
}


@pytest.mark.parametrize(("make", "status"), REJECTED.values(), ids=REJECTED)
def test_rejects(make, status):
    data = make()
    assert (reference_verdict(data), native_verdict(data)) == (status, status)


def test_a_record_that_is_too_short():
    """The payload's last byte is missing, in record and container."""
    right = good(0, 9)
    short = right._replace(record=right.record[:8] + (15).to_bytes(4, "little"), payload=right.payload[:15])
    data = container(short)
    assert (reference_verdict(data), native_verdict(data)) == ("BAD_COPY", "BAD_COPY")


def test_copies_need_a_place():
    """A payload with copies alone cannot be decoded: its bytes are elsewhere."""
    chunk = coded(good(0, 9), zeros(999))
    entry = (len(chunk.payload), chunk.kind, _native.hash(chunk.payload, 3), 0)
    with pytest.raises(_native.FormatError, check=lambda error: error.status == "UNKNOWN_FEATURE"):
        _native.Codec(16).decode(chunk.payload, 3, entry, bytearray(len(chunk.plain)))


def verdict_of_chunk(data: bytes, number: int) -> tuple[str | bytes, str | bytes]:
    """What reference and C make of one chunk of a container."""
    try:
        reference = Container(data).chunk(number)
    except Rejected as error:
        reference = error.status
    fd = os.memfd_create("container")
    try:
        os.write(fd, data)
        with _native.Reader(fd) as reader:
            chunk = bytearray(min(CHUNK, reader.header["plain_size"] - number * CHUNK))
            reader.read_chunk(_native.Codec(16), number, chunk, check_plain=True)
            return reference, bytes(chunk)
    except _native.FormatError as error:
        return reference, error.status
    finally:
        os.close(fd)


def damaged_target(number: int) -> bytes:
    """Chunk 2 copies from the chunks 0 and 1; chunk `number` is damaged."""
    right = forged(good(777, CHUNK))
    data = bytearray(right.seal())
    data[right.entry_fields(number)["offset"] + 30] ^= 4
    return bytes(data)


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_target(number):
    data = damaged_target(number)
    assert verdict_of_chunk(data, 2) == ("BAD_TARGET", "BAD_TARGET")
    assert verdict_of_chunk(data, number) == ("CHUNK_CHECKSUM", "CHUNK_CHECKSUM")
    assert verdict_of_chunk(data, 1 - number)[1] == (NOISE, SECOND)[1 - number]


def test_a_target_that_does_not_decode():
    chunks = [*targets()[:1], Chunk(b"\x01\0\0\0" + bytes(12), 1, SECOND), coded(good(CHUNK, 9), zeros(99))]
    data = Forged(chunks).header(required_features=1).seal()
    assert verdict_of_chunk(data, 2) == ("BAD_TARGET", "BAD_TARGET")


def test_a_target_whose_own_copies_are_broken_by_their_payload():
    last = coded(copy_run(bytes(9), 3 * CHUNK - 9), zeros(99))
    data = container(copy_run(bytes(5), 0, phase=1), then=[last])
    assert verdict_of_chunk(data, 3) == ("BAD_TARGET", "BAD_TARGET")


def test_a_target_whose_page_is_damaged():
    first = stored(NOISE)
    zero = coded(zeros(CHUNK))
    right = Forged([first, *[zero] * 126, coded(copy_run(NOISE[:99], 0), zeros(99))]).header(required_features=1)
    data = bytearray(right.seal())
    data[right.sections[1].offset + 50] ^= 1
    assert verdict_of_chunk(bytes(data), 127) == ("BAD_TARGET", "BAD_TARGET")


def test_wrong_bytes_of_a_target():
    """A copy of other bytes than the index says: the plain hash tells."""
    data = container(copy_run(bytes(50), 100))
    assert (reference_verdict(data), native_verdict(data)) == ("PLAIN_CHECKSUM", "PLAIN_CHECKSUM")


def test_the_list_of_runs():
    chunk = coded(run(BYTES, b"abc", [RAW]), good(3, 500), zeros(400))
    runs = _native.chunk_runs(chunk.payload, len(chunk.plain))
    assert runs[1] == (COPY, 0, 500, 16)
