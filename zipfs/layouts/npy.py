"""Arrays of .npy files, and of the members of .npz files that are stored as they are. Object arrays are opaque."""

import re
from collections.abc import Iterable

from zipfs.layouts.segment import Broken, Pread, Segment, arrange, size_of
from zipfs.layouts.zip_directory import Member, data_start

MAGIC = b"\x93NUMPY"
MAX_HEADER = 64 << 10
"""Bytes of the longest header that is parsed; numpy itself reads 10,000 unless it is told to trust the file."""

# The header is a dict as Python prints it. It is never evaluated: each of its three values is looked for.
_DESCR = re.compile(rb"""['"]descr['"]\s*:\s*['"]([<>|=]?)([biufcV])(\d{1,9})['"]""")
_SHAPE = re.compile(rb"""['"]shape['"]\s*:\s*\(([\d\s,L]*)\)""")
_FORTRAN = re.compile(rb"""['"]fortran_order['"]\s*:\s*(True|False)""")
_LENGTH = re.compile(rb"\d+")
_MAX_DIGITS = 19
_MAX_DIMENSIONS = 64

_DTYPES = {
    "b1": "BOOL",
    "i1": "I8",
    "u1": "U8",
    "i2": "I16",
    "u2": "U16",
    "f2": "F16",
    "i4": "I32",
    "u4": "U32",
    "f4": "F32",
    "i8": "I64",
    "u8": "U64",
    "f8": "F64",
    "c8": "C64",
    "c16": "C128",
}


def find(pread: Pread, size: int) -> list[Segment]:
    """The array of a file that may be .npy. Broken when it is none."""
    return arrange([_segment(pread, "", 0, size)], size)


def find_members(pread: Pread, size: int, members: Iterable[Member]) -> list[Segment]:
    """The arrays of an archive."""
    segments = []
    for member in members:
        if not member.is_stored or not member.name.endswith(".npy"):
            continue
        try:
            start = data_start(pread, member)
            segments.append(_segment(pread, member.name.removesuffix(".npy"), start, min(size, start + member.size)))
        except Broken:
            continue
    return arrange(segments, size)


def _segment(pread: Pread, name: str, start: int, end: int) -> Segment:
    """The array of the .npy file in the bytes [start, end)."""
    prefix = pread(12, start)
    if len(prefix) < 12 or prefix[:6] != MAGIC or not 1 <= prefix[6] <= 3:
        raise Broken("no header of numpy")
    prefix_size = 10 if prefix[6] == 1 else 12
    header_size = int.from_bytes(prefix[8:prefix_size], "little")
    if header_size > MAX_HEADER:
        raise Broken("the header is too long")
    header = pread(header_size, start + prefix_size)
    descr, shape, fortran = _DESCR.search(header), _SHAPE.search(header), _FORTRAN.search(header)
    if len(header) != header_size or not descr or not shape or not fortran:
        raise Broken("no header of plain elements")
    digits = _LENGTH.findall(shape[1])
    if len(digits) > _MAX_DIMENSIONS or any(len(length) > _MAX_DIGITS for length in digits):
        raise Broken("the shape is out of bounds")
    lengths = tuple(map(int, digits))
    if fortran[1] == b"True":
        lengths = lengths[::-1]
    dtype, size = _dtype_and_size(descr, lengths)
    offset = start + prefix_size + header_size
    if offset + size > end:
        raise Broken("the array is cut off")
    return Segment(name, dtype, lengths, offset, size)


def _dtype_and_size(descr: re.Match, shape: tuple[int, ...]) -> tuple[str, int]:
    """Ours, or numpy's own name of the dtype where its bytes have another order or no meaning."""
    code, width = (descr[2] + descr[3]).decode(), int(descr[3])
    if code in _DTYPES and (width == 1 or descr[1] != b">"):
        return _DTYPES[code], size_of(_DTYPES[code], shape)
    size = width
    for length in shape:
        size *= length
    return ">" + code if descr[1] == b">" else code, size
