"""The limits of docs/format.md section 7: containers that claim to be huge cost neither time nor memory."""

import mmap
import os
import struct
import subprocess
import sys

import numpy as np
from forge import Chunk, Forged, coded, run
from reference import Container, parse_header
from reference_chunk import CONST
from reference_common import Rejected, xxh3

from zipfs import _native


def large_header(plain_size: int, chunk_log2: int, payloads_size: int) -> Forged:
    """A header, sealed, for a file whose index follows from plain_size. Its sections' places are in `sections`."""
    forged = Forged([])
    num_chunks = -(-plain_size >> chunk_log2)
    num_pages = -(-num_chunks // 127)
    end = 256
    for number, size in enumerate((payloads_size, 32 * (num_pages + num_chunks), 8 * (num_pages + 2))):
        forged.section(number, offset=end, size=size)
        forged.sections[number] = forged.sections[number]._replace(offset=end, size=size)
        end += size
    forged.header(plain_size=plain_size, chunk_log2=chunk_log2, container_size=end, flags=0, sha256=bytes(32))
    return forged


def test_root_over_64_mib():
    """Found in the header, so that nothing is read or allocated for it."""
    biggest = 127 * ((64 << 20) // 8 - 2) << 16
    for plain_size, status in ((biggest, None), (biggest + 1, "TOO_LARGE"), (1 << 50, "TOO_LARGE")):
        forged = large_header(plain_size, 16, 1 << 40)
        forged.header(checksum=xxh3(bytes(forged.data[:248]), 0))
        size = sum(forged.sections[2][2:])
        for parse, error in ((parse_header, Rejected), (_native.header_parse, _native.FormatError)):
            try:
                parse(bytes(forged.data[:256]), size)
                found = None
            except error as rejection:
                found = rejection.status
            assert found == status


SPARSE_READER = r"""
import re, sys
from zipfs import _native
reader = _native.Reader(int(sys.argv[1]))
codec = _native.Codec(22)
out = bytearray(1 << 22)
reader.read_chunk(codec, 0, out, check_plain=True)
assert not any(out)
for number in (1, 127, reader.header["num_chunks"] - 1):
    try:
        reader.read_chunk(codec, number, out)
    except _native.FormatError as error:
        print(number, error.status)
print(int(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1]) >> 10)
"""


def test_container_of_2_to_the_50_bytes(tmp_path):
    """A sparse container that claims 2^50 bytes, right but for what no disk could hold: opened and read in bounded
    time and memory.
    """
    zero = coded(run(0, bytes(1 << 22), [CONST]))
    num_chunks = 1 << 28
    num_pages = -(-num_chunks // 127)
    sizes = [len(zero.payload)] + [1] * 126
    bounds = 256 + 200 * np.arange(num_pages + 1, dtype="<u8")
    bounds[1] = 256 + sum(sizes)
    forged = large_header(1 << 50, 22, int(bounds[-1]) - 256)
    forged.header(checksum=xxh3(bytes(forged.data[:248]), 0))
    page = first_page(zero, sizes)
    root = bounds.tobytes()
    path = tmp_path / "huge.zipfs"
    with open(path, "wb") as file:
        for offset, data in (
            (0, bytes(forged.data[:256])),
            (256, zero.payload),
            (forged.sections[1].offset, page),
            (forged.sections[2].offset, root + struct.pack("<Q", xxh3(root, 1))),
        ):
            file.seek(offset)
            file.write(data)
    with open(path, "rb") as file:
        run_ = subprocess.run(
            [sys.executable, "-c", SPARSE_READER, str(file.fileno())],
            pass_fds=[file.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert run_.returncode == 0, run_.stderr
    *verdicts, rss_mib = run_.stdout.split("\n")[:-1]
    assert verdicts == ["1 CHUNK_CHECKSUM", "127 PAGE_CHECKSUM", f"{num_chunks - 1} PAGE_CHECKSUM"]
    assert int(rss_mib) < 120
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert os.fstat(file.fileno()).st_blocks * 512 < 64 << 20
        assert not any(Container(data).chunk(0))


def first_page(zero: Chunk, sizes: list[int]) -> bytes:
    entries, offset = b"", 256
    for number, size in enumerate(sizes):
        hashes = (xxh3(zero.payload, 0), xxh3(zero.plain, 0)) if number == 0 else (1, 1)
        entries += struct.pack("<QIB3xQQ", offset, size, 1, *hashes)
        offset += size
    rest = struct.pack("<QI12x", 0, 127) + entries
    return struct.pack("<Q", xxh3(rest, 0)) + rest
