"""Tensors straight out of containers, without a mount: twins of the reading half of the package safetensors.

    from zipfs.safetensors import load_file, safe_open

Each tensor is decoded into memory of its own, chunks side by side. Plain .safetensors files are read as well, and where
there is no file of the given name, the container with that name and our suffix.
"""

import contextlib
import functools
import json
import math
import mmap
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from zipfs.layouts.safetensors import parse_safetensors
from zipfs.layouts.segment import Segment
from zipfs.names import SUFFIX, show
from zipfs.reader import ZipfsFile

if TYPE_CHECKING:
    import torch

    Tensor = np.ndarray | torch.Tensor

MAX_HEADER = 100_000_000
"""Bytes of the longest header, as in safetensors."""

GROUP = 32 << 20
"""Bytes of tensors that are read at once, by as many threads as there are CPUs."""

ALIGNMENT = 64
HUGE_PAGE = 2 << 20

_NUMPY = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}
_EXTENDED = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
"""Dtypes that numpy has from the package ml_dtypes, and torch by the same names."""

_PACKED = "F4"
"""Two elements in a byte, which torch counts as one."""


def load_file(filename: str | os.PathLike, device: str | int = "cpu", *, framework: str = "pt") -> "dict[str, Tensor]":
    """All tensors of a container or of a plain .safetensors file, by name.

    framework: "pt" or "np"; device: where torch is to have them. SafetensorError, FormatError, OSError.
    """
    with safe_open(filename, framework, device) as file:
        return file.get_tensors()


class safe_open:  # noqa: N801  the name of its twin
    """The tensors of one file, read when they are asked for. Any thread; a context manager.

    filename, framework ("pt" or "np") and device: as in load_file(). Errors are those of safetensors, and FormatError
    where a container is damaged.
    """

    def __init__(self, filename: str | os.PathLike, framework: str, device: str | int = "cpu"):
        self._make = _maker(framework, device)
        self._file: ZipfsFile | None = ZipfsFile(_existing(filename))
        try:
            self._segments, self._metadata = _read_header(self._file)
        except BaseException:
            self._file.close()
            raise

    def keys(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._segments)

    def offset_keys(self) -> list[str]:
        """The names in the order of the tensors in the file."""
        return list(self._segments)

    def metadata(self) -> dict[str, str] | None:
        return self._metadata

    def get_tensor(self, name: str) -> "Tensor":
        segment = self._segment(name)
        return self._read(segment, segment.shape, 0)

    def get_tensors(self) -> "dict[str, Tensor]":
        """All of them, in the order of offset_keys(). Small neighbours share memory, up to GROUP bytes of it."""
        groups = _groups(self._segments.values())
        return {name: tensor for group in groups for name, tensor in self._read_group(group)}

    def get_slice(self, name: str) -> "Slice":
        return Slice(self, self._segment(name))

    def _segment(self, name: str) -> Segment:
        if name not in self._segments:
            raise SafetensorError(f"File does not contain tensor {name}")
        return self._segments[name]

    def _read(self, segment: Segment, shape: tuple[int, ...], first: int) -> "Tensor":
        """The tensor of `shape` whose elements begin at the element `first` of the segment."""
        width = _width(segment)
        size = segment.size if shape == segment.shape else math.prod(shape) * width
        buffer = _memory(size)[:size]
        self._fill(buffer, segment.offset + first * width)
        return self._make(buffer, segment.dtype, shape)

    def _read_group(self, group: list[Segment]) -> "list[tuple[str, Tensor]]":
        """Tensors that follow each other in the file, read at once: chunks on their borders are decoded once, and large
        memory is had in large pages.
        """
        start, end = group[0].offset, group[-1].offset + group[-1].size
        memory = _memory(end - start + ALIGNMENT)
        skip = (start - memory.ctypes.data) % ALIGNMENT  # so that offsets and addresses are aligned alike
        buffer = memory[skip : skip + end - start]
        self._fill(buffer, start)
        tensors = []
        for segment in group:
            part = buffer[segment.offset - start :][: segment.size]
            if segment.offset % max(_width(segment), 1):
                part = part.copy()
            tensors.append((segment.name, self._make(part, segment.dtype, segment.shape)))
        return tensors

    def _fill(self, buffer: np.ndarray, offset: int) -> None:
        if self._file is None:
            raise SafetensorError("File is closed")
        if self._file.pread_into(buffer.data, offset) != buffer.size:
            raise SafetensorError(f"{show(self._file.name)}: ends within its tensors")

    def __enter__(self) -> "safe_open":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


class Slice:
    """A tensor of which any part can be read: slice[2:4, :3] reads rows 2 and 3 and nothing else."""

    def __init__(self, file: safe_open, segment: Segment):
        self._file = file
        self._segment = segment

    def get_shape(self) -> list[int]:
        return list(self._segment.shape)

    def get_dtype(self) -> str:
        return self._segment.dtype

    def __getitem__(self, index: Any) -> "Tensor":
        if self._segment.dtype == _PACKED:
            raise SafetensorError(f"{self._segment.dtype} cannot be sliced: elements are no whole bytes")
        index = index if isinstance(index, tuple) else (index,)
        first, shape, rest = _narrowed(self._segment.shape, index)
        found = self._file._read(self._segment, shape, first)[rest]
        return (
            np.ascontiguousarray(found).reshape(found.shape)
            if isinstance(found, np.ndarray | np.generic)
            else found.contiguous()
        )


def _memory(size: int) -> np.ndarray:
    """At least so many new bytes: large ones in huge pages from end to end, which cost less to have than small ones."""
    if size < 2 * HUGE_PAGE:
        return np.empty(size, np.uint8)
    memory = mmap.mmap(-1, -(-size // HUGE_PAGE) * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


def _groups(segments: Iterable[Segment]) -> list[list[Segment]]:
    """The segments, which follow each other, in groups of up to GROUP bytes; larger ones alone."""
    groups: list[list[Segment]] = []
    for segment in segments:
        if groups and segment.offset + segment.size - groups[-1][0].offset <= GROUP:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return groups


def _width(segment: Segment) -> int:
    """Bytes of an element; 0 where it takes less than one, or there is none."""
    return segment.size // max(math.prod(segment.shape), 1)


def _narrowed(shape: tuple[int, ...], index: tuple[Any, ...]) -> tuple[int, tuple[int, ...], tuple[Any, ...]]:
    """(first element, shape, index into that) of consecutive elements that hold all that `index` asks for."""
    if not all(item is Ellipsis or isinstance(item, slice) or _is_integer(item) for item in index):
        return 0, shape, index
    first, dims, rest = 0, list(shape), list(index)
    while dims and rest and _is_integer(rest[0]):
        place = range(dims.pop(0))[rest.pop(0)]
        first += place * math.prod(dims)
    if dims and rest and isinstance(rest[0], slice):
        start, stop, step = rest[0].indices(dims[0])
        if step > 0:
            dims[0] = max(0, stop - start)
            first += start * math.prod(dims[1:])
            rest[0] = slice(None, None, step)
    return first, tuple(dims), tuple(rest)


def _is_integer(item: Any) -> bool:
    return not isinstance(item, bool) and hasattr(item, "__index__") and not getattr(item, "shape", ())


def _existing(filename: str | os.PathLike) -> str:
    path = os.fsdecode(filename)
    return path + SUFFIX if not os.path.exists(path) and os.path.exists(path + SUFFIX) else path


def _read_header(file: ZipfsFile) -> tuple[dict[str, Segment], dict[str, str] | None]:
    """The tensors in the order of their offsets, and the metadata."""
    size = int.from_bytes(file.pread(8, 0), "little")
    if not 2 <= size <= min(MAX_HEADER, file.size - 8):
        raise SafetensorError(f"{show(file.name)}: Error while deserializing header: no header of safetensors")
    header = file.pread(size, 8)
    try:
        segments = parse_safetensors(header, file.size - 8 - size)
    except ValueError as error:
        raise SafetensorError(f"{show(file.name)}: Error while deserializing header: {error}") from None
    return {segment.name: segment for segment in segments}, json.loads(header).get("__metadata__")


def _maker(framework: str, device: str | int) -> Any:
    """A function (bytes, dtype, shape) -> tensor."""
    if framework in ("np", "numpy"):
        return _as_numpy
    if framework in ("pt", "torch", "pytorch"):
        return functools.partial(_as_torch, device=device)
    raise SafetensorError(f"framework {framework} is invalid; here it is pt or np")


def _as_numpy(buffer: np.ndarray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if dtype in _NUMPY:
        return buffer.view(_NUMPY[dtype]).reshape(shape)
    if dtype not in _EXTENDED:
        raise SafetensorError(f"Dtype not understood: {dtype}")
    try:
        import ml_dtypes
    except ImportError:
        raise SafetensorError(f"numpy has no {dtype}; install ml_dtypes, or read into torch") from None
    return buffer.view(getattr(ml_dtypes, _EXTENDED[dtype])).reshape(shape)


def _as_torch(buffer: np.ndarray, dtype: str, shape: tuple[int, ...], device: str | int) -> "torch.Tensor":
    import torch

    name = _EXTENDED.get(dtype) or _NUMPY.get(dtype) or {_PACKED: "float4_e2m1fn_x2"}.get(dtype, "")
    if not hasattr(torch, name):
        raise SafetensorError(f"Dtype not understood: {dtype}")
    if dtype == _PACKED:
        shape = (*shape[:-1], shape[-1] // 2)
    if not buffer.size:
        return torch.empty(shape, dtype=getattr(torch, name), device=device)
    return torch.from_numpy(buffer).view(getattr(torch, name)).reshape(shape).to(device)
