"""Runs one container through the C decoder and the reference decoder and says what each makes of it. For tests."""

import os

from reference import decode
from reference_common import Rejected

from zipfs import _native


def native_decode(container: bytes) -> bytes:
    """The plain bytes by C, every plain hash checked; raises _native.FormatError."""
    fd = os.memfd_create("container")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(container)
        return native_decode_fd(fd)
    finally:
        os.close(fd)


def native_decode_fd(fd: int, check_plain: bool = True) -> bytes:
    with _native.Reader(fd) as reader:
        log2, size = reader.header["chunk_log2"], reader.header["plain_size"]
        codec = _native.Codec(log2)
        plain = bytearray(size)
        for number in range(reader.header["num_chunks"]):
            chunk = memoryview(plain)[number << log2 : min((number + 1) << log2, size)]
            reader.read_chunk(codec, number, chunk, check_plain=check_plain)
        return bytes(plain)


def native_verdict(container: bytes) -> str | bytes:
    """The status with which C rejects the container, or the plain bytes."""
    try:
        return native_decode(container)
    except _native.FormatError as error:
        return error.status


def reference_verdict(container: bytes) -> str | bytes:
    try:
        return decode(container)
    except Rejected as error:
        return error.status
