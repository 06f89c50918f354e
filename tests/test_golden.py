"""Containers of the past: every version of the reader decodes these very bytes (make_golden.py made them, once)."""

import hashlib
import pathlib

import pytest
from both import native_decode
from reference import decode

GOLDEN = pathlib.Path(__file__).parent / "golden"
SUMS = dict(reversed(line.split()) for line in (GOLDEN / "SHA256SUMS").read_text().splitlines())


def test_none_is_missing():
    assert {path.stem for path in GOLDEN.glob("*.zipfs")} == set(SUMS)
    assert len(SUMS) >= 8


@pytest.mark.parametrize("name", SUMS)
def test_golden(name):
    container = (GOLDEN / f"{name}.zipfs").read_bytes()
    for plain in (decode(container), native_decode(container)):
        assert hashlib.sha256(plain).hexdigest() == SUMS[name]
