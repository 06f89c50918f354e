"""What the encoder chooses for data that has one best way: runs, codings and levels of zstd."""

import json
import struct

import numpy as np
import pytest
import zstandard
from reference_chunk import decode_chunk, parse_runs

from zipfs import _native

SEED = 20261122
CHUNK_LOG2 = 19
FAST, DEFAULT, MAX = range(3)
PALETTE, RANS, ZSTD = 242, 2, 3


def payload_of(plain: bytes, *segments: tuple[int, int, str], level: int = DEFAULT) -> bytes:
    """The payload of one chunk, which must be of runs and decode to the plain bytes, by the reference as well."""
    table = b"".join(struct.pack("<QQII", at, size, _native.LAYOUTS[layout], 0) for at, size, layout in segments)
    stored = bytearray(len(plain))
    ((size, kind, _, _),) = _native.Codec(CHUNK_LOG2).encode(plain, 0, table, level, stored)
    assert kind == 1
    assert decode_chunk(bytes(stored[:size]), kind, len(plain)) == plain
    return bytes(stored[:size])


def inner_coding(payload: bytes, plain_size: int) -> int:
    """How the indices of the only run, a palette of bytes, are coded."""
    (run,) = parse_runs(payload, plain_size)
    assert run.layout == PALETTE
    at = 16
    width, last = payload[at], payload[at + 1]
    return payload[at + 4 + (last + 1) * width + 12]


def scales(rng: np.random.Generator) -> np.ndarray:
    """Bytes in rows of 64; each row has a mean of its own."""
    means = rng.normal(120, 0.4, (512, 1))
    return np.clip(np.round(rng.normal(means, 0.3, (512, 64))), 117, 123).astype(np.uint8)


@pytest.mark.parametrize("level", [FAST, DEFAULT, MAX])
def test_large_tensors_of_few_values_are_runs_of_their_own(level):
    rng = np.random.default_rng(SEED)
    palette = rng.integers(0, 1 << 16, 28, np.uint16)
    before = palette[16:][rng.integers(0, 12, 88)].tobytes()
    few = palette[rng.integers(0, 16, 200_000)].tobytes()
    payload = payload_of(before + few, (0, len(before), "BF16"), (len(before), len(few), "BF16"), level=level)
    runs = parse_runs(payload, len(before + few))
    assert [run.plain_size for run in runs] == [len(before), len(few)]
    assert runs[1].layout == PALETTE


def test_tensors_of_many_values_share_a_run():
    rng = np.random.default_rng(SEED)
    words = (rng.standard_normal(100_000, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    payload = payload_of(words, (0, 1000, "BF16"), (1000, len(words) - 1000, "BF16"))
    assert len(parse_runs(payload, len(words))) == 1


def test_scales_that_depend_on_their_neighbours_get_zstd():
    rng = np.random.default_rng(SEED)
    rows = scales(rng)
    apart = rng.permutation(rows.ravel().view("<u4")).tobytes()
    assert inner_coding(payload_of(rows.tobytes(), (0, rows.size, "BYTES")), rows.size) == ZSTD
    assert inner_coding(payload_of(apart, (0, len(apart), "BYTES")), len(apart)) == RANS
    assert inner_coding(payload_of(rows.tobytes(), (0, rows.size, "BYTES"), level=FAST), rows.size) == RANS


def test_text_gets_a_higher_level():
    rng = np.random.default_rng(SEED)
    syllables = [bytes(rng.integers(97, 123, 3, np.uint8)).decode() for _ in range(300)]
    words = ["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(15_000)]
    text = json.dumps({word: number for number, word in enumerate(words)}).encode()
    no_text = bytes(byte | 0x80 for byte in text)
    size, level_3 = len(payload_of(text)), len(zstandard.ZstdCompressor(level=3).compress(text))
    assert size < 0.97 * level_3
    assert len(payload_of(no_text)) > 0.99 * level_3
