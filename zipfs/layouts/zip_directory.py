"""The central directory of a zip archive, zip64 as well."""

import struct
from typing import NamedTuple

from zipfs.layouts.segment import Broken, Pread

MAGIC = b"PK\3\4"
MAX_MEMBERS = 100_000
MAX_DIRECTORY = 32 << 20
"""Bytes of the longest directory that is parsed."""

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_END = struct.Struct("<4sHHHHIIH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_EXTRA = struct.Struct("<HH")
_U64 = struct.Struct("<Q")
_MAX_COMMENT = 0xFFFF
_ENCRYPTED = 1
_UTF8 = 1 << 11
_ZIP64_EXTRA = 1


class Member(NamedTuple):
    """A file in the archive: its name, its bytes in the archive, and where its local header lies.

    is_stored: those bytes are the file's own, neither compressed nor encrypted.
    """

    name: str
    size: int
    header_offset: int
    is_stored: bool


def read_members(pread: Pread, size: int) -> list[Member]:
    """All members, in the order of the directory. Broken when there is no directory, or when it breaks a rule."""
    try:
        count, directory_size, directory_offset = _read_end(pread, size)
        if count > MAX_MEMBERS or directory_size > MAX_DIRECTORY or directory_offset + directory_size > size:
            raise Broken("the directory is out of bounds")
        directory = pread(directory_size, directory_offset)
        members, at = [], 0
        for _ in range(count):
            member, at = _read_entry(directory, at)
            members.append(member)
        return members
    except struct.error:
        raise Broken("the directory ends early") from None


def data_start(pread: Pread, member: Member) -> int:
    """Offset of the member's first byte. Broken where it has no local header."""
    header = pread(_LOCAL.size, member.header_offset)
    if len(header) < _LOCAL.size or header[:4] != MAGIC:
        raise Broken(f"member {member.name!r} has no header")
    name_size, extra_size = _LOCAL.unpack(header)[-2:]
    return member.header_offset + _LOCAL.size + name_size + extra_size


def _read_end(pread: Pread, size: int) -> tuple[int, int, int]:
    """Number of members, size and offset of the directory."""
    start = max(0, size - _END.size - _MAX_COMMENT)
    tail = pread(size - start, start)
    at = tail.rfind(b"PK\5\6")
    if at < 0:
        raise Broken("no end of a zip directory")
    _, _, _, _, count, directory_size, directory_offset, _ = _END.unpack_from(tail, at)
    if 0xFFFF not in (count, directory_size >> 16, directory_offset >> 16):
        return count, directory_size, directory_offset
    at += start - _END64_LOCATOR.size
    locator = pread(_END64_LOCATOR.size, at) if at >= 0 else b""
    if locator[:4] != b"PK\6\7":
        return count, directory_size, directory_offset
    end64_offset = _END64_LOCATOR.unpack(locator)[2]
    end64 = pread(_END64.size, end64_offset) if end64_offset < at else b""
    if end64[:4] != b"PK\6\6":
        raise Broken("no end of a zip64 directory")
    return _END64.unpack(end64)[7:]


def _read_entry(directory: bytes, at: int) -> tuple[Member, int]:
    """The member of the entry at `at`, and where the next entry begins."""
    fields = _ENTRY.unpack_from(directory, at)
    magic, flags, method, stored_size, plain_size = fields[0], fields[3], fields[4], fields[8], fields[9]
    name_size, extra_size, comment_size, header_offset = fields[10], fields[11], fields[12], fields[16]
    at += _ENTRY.size
    end = at + name_size + extra_size
    if magic != b"PK\1\2" or end > len(directory):
        raise Broken("a bad entry of the directory")
    name = directory[at : at + name_size].decode("utf-8" if flags & _UTF8 else "cp437", "replace")
    plain_size, stored_size, header_offset = _widen(
        directory[at + name_size : end], (plain_size, stored_size, header_offset)
    )
    is_stored = method == 0 and not flags & _ENCRYPTED and plain_size == stored_size
    return Member(name, stored_size, header_offset, is_stored), end + comment_size


def _widen(extra: bytes, values: tuple[int, ...]) -> tuple[int, ...]:
    """The values, those that are 32 ones replaced by what the zip64 field of `extra` holds."""
    if 0xFFFFFFFF not in values:
        return values
    at = 0
    while at < len(extra):
        kind, length = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if kind == _ZIP64_EXTRA:
            wide = iter(_U64.unpack_from(extra, i)[0] for i in range(at, at + length, _U64.size))
            return tuple(next(wide, value) if value == 0xFFFFFFFF else value for value in values)
        at += length
    return values
