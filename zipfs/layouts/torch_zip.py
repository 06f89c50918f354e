"""Tensors of the zip archives that torch.save writes (.pt, .pth, .bin, .ckpt), and of TorchScript's.

Each storage is a member `<root>/data/<key>`; `<root>/data.pkl` tells its dtype and the tensors that look at it.
"""

from collections.abc import Iterable, Iterator

from zipfs.layouts.segment import Broken, Pread, Segment, arrange, bits_of, size_of
from zipfs.layouts.torch_machine import Storage, Tensor
from zipfs.layouts.torch_pickle import MAX_PICKLE, scan
from zipfs.layouts.zip_directory import Member, data_start

_PICKLES = {"data.pkl": "data", "constants.pkl": "constants"}
"""The pickles of an archive, and the folders of their storages."""

_STORAGES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
    "QInt8Storage": "I8",
    "QUInt8Storage": "U8",
    "QInt32Storage": "I32",
    "UntypedStorage": "U8",
}
_DTYPES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float64": "F64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex32": "C32",
    "complex64": "C64",
    "complex128": "C128",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "float4_e2m1fn_x2": "U8",
}


def find(pread: Pread, size: int, members: Iterable[Member]) -> list[Segment]:
    """The tensors of an archive, by ascending offset; what they leave of a storage is a segment with the member's name.

    None where it has no pickle, or holds big-endian numbers.
    """
    stored = {member.name: member for member in members if member.is_stored}
    segments: list[Segment] = []
    for name in list(stored):
        root, _, file = name.rpartition("/")
        if file in _PICKLES and "/" not in root and not _is_big_endian(pread, stored.get(f"{root}/byteorder")):
            segments += _tensors(pread, size, stored, name, f"{root}/{_PICKLES[file]}/")
    return arrange(segments, size)


def _is_big_endian(pread: Pread, member: Member | None) -> bool:
    return member is not None and pread(3, data_start(pread, member)) == b"big"


def _tensors(pread: Pread, size: int, stored: dict[str, Member], pickle: str, folder: str) -> Iterator[Segment]:
    """Segments of the tensors of one pickle, in no order."""
    member = stored[pickle]
    if member.size > MAX_PICKLE:
        raise Broken("the pickle is too long")
    found = scan(pread(member.size, data_start(pread, member)))
    by_key: dict[str, list[tuple[str, Tensor]]] = {}
    for name, tensor in found.tensors:
        by_key.setdefault(tensor.storage.key, []).append((name, tensor))
    for key, storage in found.storages.items():
        data = stored.get(folder + key)
        if data is None:
            continue
        whole = _storage_segment(storage, data, data_start(pread, data))
        parts = (_tensor_segment(name, tensor, whole) for name, tensor in by_key.get(key, []))
        yield from _fill(whole, arrange((part for part in parts if part), whole.offset + whole.size))


def _storage_segment(storage: Storage, member: Member, start: int) -> Segment:
    """All of a storage; bytes of unknown meaning where its kind is unknown, or the member too short for it."""
    dtype = _STORAGES.get(storage.kind, "U8")
    size = size_of(dtype, (storage.count,))
    if size > member.size or storage.kind not in _STORAGES:
        dtype, size = "U8", member.size
    return Segment(member.name, dtype, (size * 8 // (bits_of(dtype) or 8),), start, size)


def _tensor_segment(name: str, tensor: Tensor, whole: Segment) -> Segment | None:
    """The tensor where its elements lie close together, in the order in which they lie; None where they do not."""
    dtype = _DTYPES.get(tensor.dtype or "", whole.dtype)
    axes = list(zip(tensor.strides, tensor.shape, strict=True))
    if not _is_dense(axes):
        axes.sort(reverse=True)
        if not _is_dense(axes):
            return None
    offset, size = size_of(dtype, (tensor.offset,)), size_of(dtype, tensor.shape)
    if offset + size > whole.size:
        return None
    return Segment(name or whole.name, dtype, tuple(length for _, length in axes), whole.offset + offset, size)


def _is_dense(axes: list[tuple[int, int]]) -> bool:
    """Whether (stride, length) pairs are those of an array in C order without holes."""
    expected = 1
    for stride, length in reversed(axes):
        if stride != expected and length > 1:
            return False
        expected *= length
    return True


def _fill(whole: Segment, parts: list[Segment]) -> Iterator[Segment]:
    """The parts, and between them what they leave of the whole."""
    width = (bits_of(whole.dtype) or 8) // 8
    at = whole.offset
    end = Segment("", "", (), whole.offset + whole.size, 0)
    for part in [*parts, end]:
        if part.offset > at:
            count = (part.offset - at) // width
            yield Segment(whole.name, whole.dtype, (count,), at, part.offset - at)
        if part is not end:
            yield part
        at = part.offset + part.size
