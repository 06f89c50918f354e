"""Plain bytes out of a frame of ZipNN, any range of them: only the pieces that the range touches are read.

ZipNN codes a piece by Huff0, the Huffman coder of Zstandard, whose streams stand bare. libzstd decodes them when they
come as the literals of compressed blocks without sequences (RFC 8878, section 3.1.1.3.1), many pieces in one frame.
Memory: a few times the range plus a chunk (256 KiB as ZipNN writes them).
"""

import struct
from typing import NamedTuple

import numpy as np
import zstandard

from zipfs.importers.imported import damaged, read_exactly
from zipfs.importers.znn_frame import HUFF0_MAX, Frame
from zipfs.source import Source

_RAW, _HUFF0 = 0, 1
_FRAME_HEAD = b"\x28\xb5\x2f\xfd\x80\x38"
"""Zstandard's magic, then: 4 bytes of content size, window of 128 KiB, no checksum."""
_RAW_BLOCK, _RLE_BLOCK, _COMPRESSED_BLOCK = 0, 1, 2
_FOUR_STREAMS = 2 | 3 << 2
"""Compressed literals in 4 streams, both of their sizes in 18 bits."""


class _Piece(NamedTuple):
    """One group of one chunk: bytes [offset, offset + size) of the file, which make plain_size bytes."""

    chunk: int
    coding: int
    offset: int
    size: int
    plain_size: int


def read_plain(source: Source, frame: Frame, buffer: memoryview, start: int) -> None:
    """Fills `buffer` with the plain bytes of the frame from `start`.

    ImportedFileError where it is damaged. Threads may share source and frame.
    """
    while len(buffer):
        chunk = start // frame.chunk_size
        stop = min(frame.num_chunks, -(-(start + len(buffer)) // frame.chunk_size))
        if frame.piece_plain(chunk, 0) > HUFF0_MAX:
            done = _read_slice(source, frame, buffer, start)
        else:
            done = _read_chunks(source, frame, buffer, start, stop)
        buffer, start = buffer[done:], start + done


def _read_chunks(source: Source, frame: Frame, buffer: memoryview, start: int, stop: int) -> int:
    """Plain bytes from `start` on, out of whole chunks up to `stop`. Returns how many."""
    first = start // frame.chunk_size
    planes = [_read_plane(source, frame, group, first, stop) for group in range(frame.grouping.num_groups)]
    total = sum(map(len, planes))
    skipped = start - first * frame.chunk_size
    count = min(len(buffer), total - skipped)
    if count == total:
        merge(planes, buffer[:total], frame.grouping.is_turned)
    else:
        whole = memoryview(bytearray(total))
        merge(planes, whole, frame.grouping.is_turned)
        buffer[:count] = whole[skipped : skipped + count]
    return count


def _read_plane(source: Source, frame: Frame, group: int, first: int, stop: int) -> bytes:
    """The plain bytes of one group of the chunks [first, stop)."""
    pieces = _read_table(source, frame, group, first, stop)
    offset = pieces[0].offset
    data = read_exactly(source, offset, pieces[-1].offset + pieces[-1].size - offset)
    if all(piece.coding == _RAW for piece in pieces):
        return data
    try:
        return _decode(pieces, data, offset)
    except zstandard.ZstdError:
        raise _name_damaged(source, pieces, data, offset) from None


def _read_table(source: Source, frame: Frame, group: int, first: int, stop: int) -> list[_Piece]:
    """The checked table entries of one group of the chunks [first, stop)."""
    codings = read_exactly(source, frame.types_at(first, group), stop - first)
    known = min(first, 1)  # the end of the piece before is the start
    ends = read_exactly(source, frame.ends_at(first - known, group), 8 * (stop - first + known))
    bounds = [0] * (1 - known) + list(struct.unpack(f"<{len(ends) // 8}Q", ends))
    pieces = []
    for i, coding in enumerate(codings):
        offset, size = frame.starts[group] + bounds[i], bounds[i + 1] - bounds[i]
        piece = _Piece(first + i, coding, offset, size, frame.piece_plain(first + i, group))
        fits = 0 < size < piece.plain_size if coding == _HUFF0 else size == piece.plain_size and coding == _RAW
        if not fits or offset + size > frame.starts[group + 1]:
            raise damaged(source, frame.ends_at(first + i, group), f"has a wrong table entry for chunk {first + i}")
        pieces.append(piece)
    return pieces


def _decode(pieces: list[_Piece], data: bytearray, start: int) -> bytes:
    """Decodes pieces whose bytes stand in `data`, which begins at `start` in the file; ZstdError."""
    total = sum(piece.plain_size for piece in pieces)
    parts: list[bytes | memoryview] = [_FRAME_HEAD, total.to_bytes(4, "little")]
    view = memoryview(data)
    for piece in pieces:
        stored = view[piece.offset - start : piece.offset - start + piece.size]
        if piece.coding == _RAW:
            parts += [_block(_RAW_BLOCK, piece.size), stored]
        elif piece.size == 1:
            parts += [_block(_RLE_BLOCK, piece.plain_size), stored]
        else:
            sizes = _FOUR_STREAMS | piece.plain_size << 4 | piece.size << 22
            parts += [_block(_COMPRESSED_BLOCK, 5 + piece.size + 1), sizes.to_bytes(5, "little"), stored, b"\0"]
    parts.append((1).to_bytes(3, "little"))  # the last block: raw, empty
    return zstandard.ZstdDecompressor().decompress(b"".join(parts))


def _block(kind: int, size: int) -> bytes:
    """Header of a block of Zstandard that is not the last."""
    return (kind << 1 | size << 3).to_bytes(3, "little")


def _name_damaged(source: Source, pieces: list[_Piece], data: bytearray, start: int) -> Exception:
    """The error for the first piece that does not decode alone."""
    for piece in pieces:
        try:
            _decode([piece], data, start)
        except zstandard.ZstdError as error:
            return damaged(source, piece.offset, f"has damaged bytes for chunk {piece.chunk} ({error})")
    return damaged(source, start, "has bytes that do not decode")


def _read_slice(source: Source, frame: Frame, buffer: memoryview, start: int) -> int:
    """Plain bytes from `start` on out of one chunk with pieces so long that they are raw. Returns how many."""
    chunk, at = divmod(start, frame.chunk_size)
    chunk_plain, num_groups = frame.chunk_plain(chunk), frame.grouping.num_groups
    low = at // 4 * 4
    high = min(-(-(at + len(buffer)) // 4) * 4, chunk_plain)
    planes = []
    for group in range(num_groups):
        (piece,) = _read_table(source, frame, group, chunk, chunk + 1)
        if piece.coding != _RAW:
            raise damaged(source, frame.types_at(chunk, group), f"has a coded piece of {piece.plain_size} plain bytes")
        end = piece.plain_size if high == chunk_plain else high // num_groups
        planes.append(read_exactly(source, piece.offset + low // num_groups, end - low // num_groups))
    whole = memoryview(bytearray(high - low))
    merge(planes, whole, frame.grouping.is_turned)
    count = min(len(buffer), chunk_plain - at)
    buffer[:count] = whole[at - low : at - low + count]
    return count


def merge(planes: list, buffer: memoryview, is_turned: bool) -> None:
    """Fills `buffer` with elements whose byte `i` comes from planes[i]; the first planes may be longer by one.

    is_turned: their whole 32-bit words have the sign below the exponent, and get it back on top.
    """
    arrays = [np.frombuffer(plane, np.uint8) for plane in planes]
    out, num_groups = np.frombuffer(buffer, np.uint8), len(arrays)
    turned = len(out) // 4 * 4 // num_groups if is_turned else 0
    for group, array in enumerate(arrays):
        out[turned * num_groups + group :: num_groups] = array[turned:]
    if turned:
        low, high = arrays[-2][:turned], arrays[-1][:turned]
        body = out[: turned * num_groups]
        for group, array in enumerate(arrays[:-2]):
            body[group::num_groups] = array[:turned]
        body[num_groups - 2 :: num_groups] = (low & 0x7F) | (high << 7)
        body[num_groups - 1 :: num_groups] = (low & 0x80) | (high >> 1)
