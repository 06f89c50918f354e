"""Files that ZipNN made of safetensors files (`x.znn.safetensors`): each float tensor a frame of its own.

The plain file's header is not kept in them, so it is written anew, in the one order and form that safetensors itself
writes: docs/import.md says what that means.
"""

import json
import math
from bisect import bisect_right
from typing import Any, NamedTuple

import numpy as np

from zipfs.errors import ImportedFileError
from zipfs.importers.imported import Imported, damaged, read_exactly
from zipfs.importers.znn_frame import HEADER_SIZE, Frame, read_frame
from zipfs.importers.znn_planes import merge, read_plain
from zipfs.layouts.safetensors import MAX_BRACKETS, MAX_HEADER, parse_safetensors
from zipfs.layouts.segment import DTYPES, Segment
from zipfs.source import Source

MARKER = "znn_compressed_vectors"
"""Key of the metadata under which ZipNN lists what it compressed: {name: {"dtype": "bfloat16", "shape": "[2, 3]"}}."""

_TORCH_DTYPES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
_RANK = {dtype: rank for rank, dtype in enumerate(DTYPES)}
_EXPONENT_SHIFT = {"BF16": 7, "F32": 23}
"""Of the dtypes whose bits ZipNN turns."""
_LIKELY_EXPONENTS = range(127 - 40, 127 + 41)
"""Of weights, as stored. A turned word of one in this range has another exponent than one in this range."""
_SAMPLE = 64 << 10


class _Part(NamedTuple):
    """`size` plain bytes at `start` of the plain file, from the bytes at `offset` of the file that was made.

    frame: they are this frame; turned: they are elements of this dtype that ZipNN left with their bits turned.
    """

    start: int
    size: int
    offset: int
    frame: Frame | None
    turned: str | None


class Rebuilt(Imported):
    """The plain file of a `.znn.safetensors` file. turned: names of the tensors that ZipNN left turned."""

    def __init__(self, source: Source, name: str):
        self.turned: list[str] = []
        header = read_header(source)
        if header is None:
            raise damaged(source, 0, "has no header of ZipNN")
        tensors, metadata = _parse(source, header)
        tensors.sort(key=lambda tensor: (-_RANK[tensor[0].dtype], tensor[0].name.encode()))
        self._header = _write_header([segment for segment, _ in tensors], metadata)
        self._parts: list[_Part] = []
        start = len(self._header)
        for segment, frame in tensors:
            turned = None if frame else _turned_dtype(source, segment)
            if turned:
                self.turned.append(segment.name)
            size = frame.plain_size if frame else segment.size
            self._parts.append(_Part(start, size, segment.offset, frame, turned))
            start += size
        self._starts = [part.start for part in self._parts]
        super().__init__(source, name, start)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        if offset < len(self._header):
            head = self._header[offset : offset + len(buffer)]
            buffer[: len(head)] = head
            buffer, offset = buffer[len(head) :], offset + len(head)
        index = max(0, bisect_right(self._starts, offset) - 1)
        while len(buffer):
            part = self._parts[index]
            count = min(len(buffer), part.start + part.size - offset)
            if count > 0:
                self._read_part(part, buffer[:count], offset - part.start)
                buffer, offset = buffer[count:], offset + count
            index += 1

    def _read_part(self, part: _Part, buffer: memoryview, at: int) -> None:
        if part.frame is not None:
            read_plain(self.source, part.frame, buffer, at)
        elif part.turned is None:
            self.source.read_into(buffer, part.offset + at)
        else:
            low, high = at // 4 * 4, min(-(-(at + len(buffer)) // 4) * 4, part.size)
            plain = _turn_back(read_exactly(self.source, part.offset + low, high - low), part.turned)
            buffer[:] = plain[at - low : at - low + len(buffer)]


def read_header(source: Source) -> bytes | None:
    """The JSON of a file that ZipNN made, or None for any other file."""
    size = int.from_bytes(source.pread(8, 0), "little")
    if not 2 <= size <= min(MAX_HEADER, source.size - 8):
        return None
    header = source.pread(size, 8)
    if header.count(b"[") + header.count(b"{") > MAX_BRACKETS:
        return None
    try:
        tree = json.loads(header)
        is_marked = MARKER in tree.get("__metadata__", {})
        return header if is_marked or _frames(source, parse_safetensors(header, source.size - 8 - size)) else None
    except (ValueError, RecursionError, AttributeError, TypeError):
        return None


def _parse(source: Source, header: bytes) -> tuple[list[tuple[Segment, Frame | None]], dict[str, str]]:
    """The tensors of the plain file, each where it lies in `source`, with its frame; and the metadata."""
    try:
        segments = parse_safetensors(header, source.size - 8 - len(header))
        metadata: dict[str, str] = json.loads(header).get("__metadata__", {})
        marker = json.loads(metadata.pop(MARKER, "null"))
    except (ValueError, RecursionError) as error:
        raise damaged(source, 8, f"has a damaged header ({error})") from None
    frames = _frames(source, segments) if marker is None else _marked_frames(source, segments, marker)
    tensors: list[tuple[Segment, Frame | None]] = []
    for segment in segments:
        frame = frames.get(segment.name)
        if frame is not None:
            segment = segment._replace(dtype=frame.grouping.dtype, shape=frame.shape)
        tensors.append((segment, frame))
    return tensors, metadata


def _marked_frames(source: Source, segments: list[Segment], marker: Any) -> dict[str, Frame]:
    """The frames that the marker lists; ImportedFileError when it and the file do not agree."""
    if type(marker) is not dict:
        raise damaged(source, 8, f"has a damaged header ({MARKER} is no map)")
    frames = {}
    by_name = {segment.name: segment for segment in segments}
    for name, described in marker.items():
        segment = by_name.get(name)
        if segment is None or segment.dtype != "U8" or len(segment.shape) != 1:
            raise damaged(source, 8, f"has no compressed tensor {name!r}, which its header promises")
        frame = _tensor_frame(source, segment)
        try:
            dtype, shape = _TORCH_DTYPES[described["dtype"]], json.loads(described["shape"])
        except (KeyError, TypeError, ValueError, RecursionError):
            raise damaged(source, 8, f"has a damaged header (dtype or shape of the tensor {name!r})") from None
        if (dtype, shape) != (frame.grouping.dtype, list(frame.shape)):
            raise damaged(source, segment.offset, f"has another dtype or shape for {name!r} than its header says")
        frames[name] = frame
    return frames


def _frames(source: Source, segments: list[Segment]) -> dict[str, Frame]:
    """The frames of a file without a marker: ZipNN writes none when the plain file had no metadata."""
    frames = {}
    for segment in segments:
        if segment.dtype == "U8" and len(segment.shape) == 1 and segment.size >= HEADER_SIZE:
            try:
                frames[segment.name] = _tensor_frame(source, segment)
            except ImportedFileError:
                continue
    return frames


def _tensor_frame(source: Source, segment: Segment) -> Frame:
    end = segment.offset + segment.size
    frame = read_frame(source, segment.offset, end)
    if frame.shape is None or frame.end != end or frame.is_delta or frame.is_chained:
        raise damaged(source, segment.offset, f"has a frame that does not fill the tensor {segment.name!r}")
    return frame


def _write_header(tensors: list[Segment], metadata: dict[str, str]) -> bytes:
    """Length and JSON as safetensors writes them, for tensors in this order. Metadata is sorted by key."""
    tree: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for tensor in tensors:
        size = math.prod(tensor.shape) * DTYPES[tensor.dtype][0] // 8
        tree[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _turned_dtype(source: Source, segment: Segment) -> str | None:
    """The dtype of a tensor without frame whose bits ZipNN turned, or None.

    ZipNN turns a tensor's bits in place before it compresses, and stores that where compressing saved nothing. Others
    who write such files may not, so the exponents decide: left as they are only where that makes likely weights.
    """
    shift = _EXPONENT_SHIFT.get(segment.dtype)
    width = DTYPES[segment.dtype][0] // 8
    if shift is None or segment.size < 4:
        return None
    stored = read_exactly(source, segment.offset, min(segment.size, _SAMPLE))
    turned = _turn_back(stored, segment.dtype)
    if turned == stored and segment.size <= _SAMPLE:
        return None
    likely = []
    for data in (stored, turned):
        exponents = np.frombuffer(data, f"<u{width}") >> shift & 0xFF
        likely.append(np.count_nonzero((exponents >= _LIKELY_EXPONENTS[0]) & (exponents <= _LIKELY_EXPONENTS[-1])))
    return None if likely[0] > 2 * likely[1] else segment.dtype


def _turn_back(stored: bytearray, dtype: str) -> bytearray:
    """The plain bytes of elements of this dtype whose bits, in each whole 32-bit word, were turned."""
    width = DTYPES[dtype][0] // 8
    planes = [bytes(stored[i::width]) for i in range(width)]
    plain = bytearray(len(stored))
    merge(planes, memoryview(plain), True)
    return plain
