"""Tensors of ONNX models: initializers and large constants, inside the file or in others beside it.

Walks the wire format of protocol buffers, field by field, by pread; what is no tensor is skipped unread.
"""

from collections.abc import Iterator
from typing import NamedTuple

from zipfs.layouts.cursor import Cursor
from zipfs.layouts.segment import MAX_SEGMENTS, Broken, Pread, Segment, arrange, size_of

MAX_READ = 256 << 20
MAX_FIELDS = 1_000_000
"""Most fields that are looked at. Bounds time."""

_BLOCK = 4 << 10
_MIN_NODE = 1 << 10
"""Bytes of the smallest node whose attributes may be worth a segment."""

_MAX_DEPTH = 8
_MAX_DIMENSIONS = 64
_MAX_TEXT = 0xFFFF
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Fields, by message: ModelProto, GraphProto, NodeProto, AttributeProto, SparseTensorProto, TensorProto and the entries
# of external_data. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_MODEL_KINDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OUTPUT, _NODE_ATTRIBUTE = 2, 5
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = (5, 10), (6, 11)
_SPARSE_TENSORS = (1, 2)
_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA, _DOUBLE_DATA, _EXTERNAL = 1, 2, 4, 8, 9, 10, 13
_KEY, _VALUE = 1, 2

_DTYPES = {
    1: "F32",
    2: "U8",
    3: "I8",
    4: "U16",
    5: "I16",
    6: "I32",
    7: "I64",
    9: "BOOL",
    10: "F16",
    11: "F64",
    12: "U32",
    13: "U64",
    14: "C64",
    15: "C128",
    16: "BF16",
    17: "F8_E4M3",
    18: "F8_E4M3FNUZ",
    19: "F8_E5M2",
    20: "F8_E5M2FNUZ",
    21: "U4",
    22: "I4",
    23: "F4",
    24: "F8_E8M0",
    25: "U2",
    26: "I2",
    27: "F6_E2M3",
    28: "F6_E3M2",
}


class External(NamedTuple):
    """A tensor whose bytes lie in another file: at `segment.offset` of `location`."""

    location: str
    segment: Segment


class Model(NamedTuple):
    """The tensors of a model, in no order."""

    inside: list[Segment]
    outside: list[External]


def find(pread: Pread, size: int) -> list[Segment]:
    """Tensors inside a file that may be ONNX, by ascending offset. Broken when it is none."""
    return arrange(read_model(pread, size).inside, size)


def may_begin(byte: int) -> bool:
    """Whether a model may begin with this byte: the key of one of its fields."""
    return _MODEL_KINDS.get(byte >> 3) == byte & 7


def read_model(pread: Pread, size: int) -> Model:
    """All tensors of a file that may be ONNX. Broken when it is none."""
    return _Walk(pread, size).model()


class _Field(NamedTuple):
    """number, wire type; a varint's value, or where the bytes of all others lie."""

    number: int
    wire: int
    value: int
    start: int
    end: int


class _Walk:
    """One pass over a model."""

    def __init__(self, pread: Pread, size: int):
        self.cursor = Cursor(pread, size, MAX_READ, _BLOCK)
        self.size = size
        self.num_fields = 0
        self.found = Model([], [])

    def model(self) -> Model:
        num_graphs = 0
        for field in self.fields(0, self.size):
            if _MODEL_KINDS.get(field.number) != field.wire:
                raise Broken("no model of ONNX")
            if field.number == _MODEL_GRAPH:
                self.graph(field, 0)
                num_graphs += 1
        if num_graphs != 1:
            raise Broken("no graph of ONNX")
        return self.found

    def fields(self, start: int, end: int) -> Iterator[_Field]:
        """The fields of the message in [start, end). Whoever takes one may move the cursor."""
        cursor = self.cursor
        at = start
        while at < end:
            self.num_fields += 1
            if self.num_fields > MAX_FIELDS:
                raise Broken("too many fields")
            cursor.at = at
            key = self.varint()
            number, wire = key >> 3, key & 7
            value = length = 0
            if wire == _VARINT:
                value = self.varint()
            elif wire == _BYTES:
                length = self.varint()
            elif wire in (_FIXED32, _FIXED64):
                length = 4 if wire == _FIXED32 else 8
            else:
                raise Broken("an unknown kind of field")
            at = cursor.at + length
            if at > end or number == 0:
                raise Broken("a field goes beyond its message")
            yield _Field(number, wire, value, cursor.at, at)

    def varint(self) -> int:
        data, index = self.cursor.buffered(1)
        value = data[index]
        self.cursor.at += 1
        if value < 0x80:
            return value
        value &= 0x7F
        for shift in range(7, 70, 7):
            (byte,) = self.cursor.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (1 << 64) - 1
        raise Broken("a number is too long")

    def text(self, field: _Field) -> str:
        """Of a field that the cursor stands at."""
        if field.wire != _BYTES or field.end - field.start > _MAX_TEXT:
            raise Broken("a text is too long")
        return self.cursor.take(field.end - field.start).decode("utf-8", "replace")

    def graph(self, graph: _Field, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise Broken("graphs are too deep")
        for field in self.fields(graph.start, graph.end):
            if field.wire != _BYTES:
                continue
            if field.number == _GRAPH_INITIALIZER:
                self.tensor(field, "")
            elif field.number == _GRAPH_NODE and field.end - field.start >= _MIN_NODE:
                self.node(field, depth)
            elif field.number == _GRAPH_SPARSE:
                self.tensors(field, _SPARSE_TENSORS, "")

    def node(self, node: _Field, depth: int) -> None:
        output = ""
        for field in self.fields(node.start, node.end):
            if field.wire != _BYTES:
                continue
            if field.number == _NODE_OUTPUT and not output:
                output = self.text(field)
            elif field.number == _NODE_ATTRIBUTE and field.end - field.start >= _MIN_NODE:
                self.tensors(field, _ATTRIBUTE_TENSORS, output)
                for part in self.fields(field.start, field.end):
                    if part.number in _ATTRIBUTE_GRAPHS and part.wire == _BYTES:
                        self.graph(part, depth + 1)

    def tensors(self, message: _Field, numbers: tuple[int, ...], name: str) -> None:
        """The tensors in the fields `numbers` of a message; name: of those that have none."""
        for field in self.fields(message.start, message.end):
            if field.number in numbers and field.wire == _BYTES:
                self.tensor(field, name)

    def tensor(self, tensor: _Field, name: str) -> None:
        dims: list[int] = []
        kind, data, data_kind = 0, None, 0
        entries: dict[str, str] = {}
        for field in self.fields(tensor.start, tensor.end):
            if field.number == _DIMS:
                dims += self.dims(field, _MAX_DIMENSIONS - len(dims))
            elif field.number == _DATA_TYPE:
                kind = field.value
            elif field.number == _NAME:
                name = self.text(field) or name
            elif field.number in (_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA) and field.wire == _BYTES:
                data, data_kind = field, {_FLOAT_DATA: 1, _DOUBLE_DATA: 11}.get(field.number, 0)
            elif field.number == _EXTERNAL and field.wire == _BYTES and len(entries) < 16:
                self.entry(field, entries)
        dtype = _DTYPES.get(data_kind or kind)
        if dtype is not None:
            self.add(Segment(name, dtype, tuple(dims), 0, size_of(dtype, dims)), data, entries)

    def dims(self, field: _Field, most: int) -> list[int]:
        """One dimension, or a packed list of them."""
        result = [field.value]
        if field.wire == _BYTES:
            result = []
            while self.cursor.at < field.end and len(result) <= most:
                result.append(self.varint())
        if len(result) > most:
            raise Broken("a tensor has too many dimensions")
        return result

    def entry(self, message: _Field, entries: dict[str, str]) -> None:
        parts = {_KEY: "", _VALUE: ""}
        for field in self.fields(message.start, message.end):
            if field.number in parts:
                parts[field.number] = self.text(field)
        entries[parts[_KEY]] = parts[_VALUE]

    def add(self, segment: Segment, data: _Field | None, entries: dict[str, str]) -> None:
        """Adds the tensor where its bytes are as many as its shape asks for."""
        if len(self.found.inside) + len(self.found.outside) >= MAX_SEGMENTS:
            raise Broken("too many tensors")
        if data is not None:
            if data.end - data.start == segment.size:
                self.found.inside.append(segment._replace(offset=data.start))
            return
        offset, length = entries.get("offset", "0"), entries.get("length", str(segment.size))
        if "location" in entries and _is_number(offset) and length == str(segment.size):
            self.found.outside.append(External(entries["location"], segment._replace(offset=int(offset))))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20
