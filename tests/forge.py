"""Builds containers by hand, field by field, from docs/format.md: any field can be wrong while every checksum is right.

`Forged` is a container under construction, from chunks made by `stored` and `coded`. A run is coded as the caller
says, plane by plane (forge_plane.py). Independent of the C encoder and its choices, so that golden files do not
depend on them.
"""

import hashlib
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from forge_plane import Plane, encode_plane, split_fields, zstd_frame
from reference_chunk import CONSTANT, COPY, LAYOUTS, RUNS, STORED
from reference_common import ceil_div, xxh3

# ---- runs and payloads (section 4) -------------------------------------------------------------------------------


class CodedRun(NamedTuple):
    record: bytes
    payload: bytes
    plain: bytes


def run(layout: int, plain: bytes, planes: list[Plane | int], phase: int = 0, **record: int) -> CodedRun:
    """Codes `plain` as one run. planes: one for each field, a coding or what stands there instead. record: fields to
    override.
    """
    width, fields = LAYOUTS[layout].width, LAYOUTS[layout].fields
    n = (len(plain) - phase) // width
    body = plain[phase : phase + n * width]
    coded = [
        p if isinstance(p, Plane) else encode_plane(p, values, bits)
        for p, values, bits in zip(planes, split_fields(layout, body), fields, strict=True)
    ]
    payload = (
        plain[:phase]
        + plain[phase + len(body) :]
        + b"".join(p.record() for p in coded)
        + b"".join(p.data for p in coded)
    )
    return CodedRun(run_record(layout, phase, len(plain), len(payload), **record), payload, plain)


def copy_run(
    plain: bytes, target: int, base: int = 0, reserved: int = 0, extra: bytes = b"", **record: int
) -> CodedRun:
    """A COPY run (section 8.1) of `plain`, which is to stand at plain offset `target`."""
    payload = struct.pack("<IIQ", base, reserved, target) + extra
    fields = {"layout": COPY, "phase": 0, "plain_size": len(plain), "stored_size": len(payload)} | record
    return CodedRun(run_record(**fields), payload, plain)


def run_record(layout: int, phase: int, plain_size: int, stored_size: int, **override: int) -> bytes:
    fields = {
        "layout": layout,
        "phase": phase,
        "reserved": 0,
        "plain_size": plain_size,
        "stored_size": stored_size,
    } | override
    return struct.pack("<BBHII", *fields.values())


class Chunk(NamedTuple):
    payload: bytes
    kind: int
    plain: bytes


def stored(plain: bytes) -> Chunk:
    return Chunk(plain, STORED, plain)


def constant(value: int, size: int) -> Chunk:
    return Chunk(bytes([value]), CONSTANT, bytes([value]) * size)


def coded(*runs: CodedRun, num_runs: int | None = None, reserved: bytes = bytes(3), extra: bytes = b"") -> Chunk:
    head = bytes([len(runs) if num_runs is None else num_runs]) + reserved
    payload = head + b"".join(r.record for r in runs) + b"".join(r.payload for r in runs) + extra
    return Chunk(payload, RUNS, b"".join(r.plain for r in runs))


# ---- segment table (section 6) -----------------------------------------------------------------------------------


class SegmentRecord(NamedTuple):
    offset: int
    plain_size: int
    name: bytes = b"a"
    dtype: bytes = b"BF16"
    shape: tuple[int, ...] = ()
    stored_size: int = 0

    def pack(self) -> bytes:
        sizes = (self.offset, self.plain_size, self.stored_size, len(self.name), len(self.dtype), len(self.shape))
        return (
            struct.pack("<QQQHBB", *sizes) + self.name + self.dtype + struct.pack(f"<{len(self.shape)}Q", *self.shape)
        )


def segment_section(
    records: list[SegmentRecord], num_segments: int | None = None, reserved: int = 0, extra: bytes = b""
) -> bytes:
    count = len(records) if num_segments is None else num_segments
    return sealed_table(struct.pack("<II", count, reserved) + b"".join(r.pack() for r in records) + extra)


def sealed_table(table: bytes, table_size: int | None = None, frame: bytes | None = None) -> bytes:
    size = len(table) if table_size is None else table_size
    rest = struct.pack("<Q", size) + (zstd_frame(table) if frame is None else frame)
    return struct.pack("<Q", xxh3(rest, 2)) + rest


# ---- header and index (sections 2 and 3) -------------------------------------------------------------------------

HEADER_FIELDS = {
    "magic": (0, "8s"), "version": (8, "H"), "header_size": (10, "H"), "flags": (12, "I"),
    "required_features": (16, "Q"), "optional_features": (24, "Q"), "plain_size": (32, "Q"),
    "container_size": (40, "Q"),
    "chunk_log2": (48, "B"), "level": (49, "B"), "num_sections": (50, "H"), "zstd_version": (52, "I"),
    "reserved": (56, "Q"), "sha256": (64, "32s"), "reserved2": (240, "Q"),
    "checksum": (248, "Q"),
}  # fmt: skip
SECTION_FIELDS = {"kind": (0, "H"), "flags": (2, "H"), "reserved": (4, "I"), "offset": (8, "Q"), "size": (16, "Q")}
PAGE_FIELDS = {"checksum": (0, "Q"), "page_number": (8, "Q"), "num_entries": (16, "I"), "reserved": (20, "12s")}
ENTRY_FIELDS = {
    "offset": (0, "Q"), "stored_size": (8, "I"), "kind": (12, "B"), "reserved": (13, "3s"),
    "stored_hash": (16, "Q"), "plain_hash": (24, "Q"),
}  # fmt: skip
PAGE_ENTRIES = 127


class Section(NamedTuple):
    kind: int
    flags: int
    offset: int
    size: int


@dataclass
class Forged:
    """A right container, to be spoilt: the methods named after a structure set its fields; `seal` makes the checksums
    right again.
    """

    chunks: list[Chunk]
    chunk_log2: int = 16
    tables: list[tuple[int, bytes]] = field(default_factory=list)
    """Further sections, (kind, content), flag optional set."""
    pad: dict[int, bytes] = field(default_factory=dict)
    """Bytes to put at the end of the section of a kind."""

    def __post_init__(self) -> None:
        plain = b"".join(chunk.plain for chunk in self.chunks)
        payloads = b"".join(chunk.payload for chunk in self.chunks)
        self.num_pages = ceil_div(len(self.chunks), PAGE_ENTRIES)
        contents = [
            (1, payloads),
            (2, bytes(32 * self.num_pages + 32 * len(self.chunks))),
            (3, bytes(8 * (self.num_pages + 2))),
        ]
        self.data = bytearray(256)
        self.sections: list[Section] = []
        for kind, content in contents + self.tables:
            content += self.pad.get(kind, b"")
            self.sections.append(Section(kind, int(kind > 3), len(self.data), len(content)))
            self.data += content
        self._fill_header(plain)
        self._fill_index()
        self.seal()

    def _fill_header(self, plain: bytes) -> None:
        self.header(
            magic=b"\x89ZIPFS\r\n",
            version=1,
            header_size=256,
            flags=1,
            plain_size=len(plain),
            container_size=len(self.data),
        )
        self.header(
            chunk_log2=self.chunk_log2, level=1, num_sections=len(self.sections), sha256=hashlib.sha256(plain).digest()
        )
        for number, section in enumerate(self.sections[:6]):
            self.section(number, **section._asdict())

    def _fill_index(self) -> None:
        offset = self.sections[0].offset
        self.bound(0, offset)
        for page in range(self.num_pages):
            entries = self.chunks[PAGE_ENTRIES * page : PAGE_ENTRIES * (page + 1)]
            self.page(page, page_number=page, num_entries=len(entries))
            for number, chunk in enumerate(entries, PAGE_ENTRIES * page):
                self.entry(number, offset=offset, stored_size=len(chunk.payload), kind=chunk.kind)
                self.entry(number, stored_hash=xxh3(chunk.payload, number), plain_hash=xxh3(chunk.plain, 0))
                offset += len(chunk.payload)
            self.bound(page + 1, offset)

    def _poke(self, base: int, layout: dict[str, tuple[int, str]], fields: dict[str, int | bytes]) -> "Forged":
        for name, value in fields.items():
            offset, form = layout[name]
            struct.pack_into("<" + form, self.data, base + offset, value)
        return self

    def header(self, **fields: int | bytes) -> "Forged":
        return self._poke(0, HEADER_FIELDS, fields)

    def section(self, number: int, **fields: int) -> "Forged":
        return self._poke(96 + 24 * number, SECTION_FIELDS, fields)

    def page(self, number: int, **fields: int | bytes) -> "Forged":
        return self._poke(self.sections[1].offset + 4096 * number, PAGE_FIELDS, fields)

    def entry(self, number: int, **fields: int | bytes) -> "Forged":
        page, index = divmod(number, PAGE_ENTRIES)
        return self._poke(self.sections[1].offset + 4096 * page + 32 + 32 * index, ENTRY_FIELDS, fields)

    def entry_fields(self, number: int) -> dict[str, int]:
        """offset, stored_size, kind and hashes as they stand now."""
        page, index = divmod(number, PAGE_ENTRIES)
        base = self.sections[1].offset + 4096 * page + 32 + 32 * index
        return {
            name: struct.unpack_from("<" + form, self.data, base + at)[0] for name, (at, form) in ENTRY_FIELDS.items()
        }

    def bound_value(self, number: int) -> int:
        return struct.unpack_from("<Q", self.data, self.sections[2].offset + 8 * number)[0]

    def bound(self, number: int, value: int) -> "Forged":
        struct.pack_into("<Q", self.data, self.sections[2].offset + 8 * number, value)
        return self

    def seal(self) -> bytes:
        """Puts right checksums in and returns the container."""
        _, _, pages, _ = self.sections[1]
        end = self.sections[2].offset - len(self.pad.get(2, b""))
        for page in range(self.num_pages):
            rest = bytes(self.data[pages + 4096 * page + 8 : min(pages + 4096 * (page + 1), end)])
            self.page(page, checksum=xxh3(rest, page))
        _, _, root, size = self.sections[2]
        bounds = bytes(self.data[root : root + size - 8])
        struct.pack_into("<Q", self.data, root + size - 8, xxh3(bounds, 1))
        self.header(checksum=xxh3(bytes(self.data[:248]), 0))
        return bytes(self.data)
