"""A small stack machine for the opcodes of pickles of torch. It calls nothing.

It keeps what matters (strings, numbers, tuples, containers and objects as Nodes, storages, tensors) and puts None in
the place of everything else. torch's own functions that make tensors are recognised by name.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

MAX_TENSORS = 100_000
MAX_KEY = 512
"""Characters of the longest key, and of the longest name of a class or function, that counts."""
SAME_NAME = None
"""The key of what takes the name of that which holds it, such as the state of an object."""

_MAX_DIMENSIONS = 64
_REBUILD_V3 = "torch._utils _rebuild_tensor_v3"
_REBUILD = {
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    _REBUILD_V3,
    "torch._utils _rebuild_qtensor",
}
_PARAMETER = {"torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state"}
_FROM_TYPE = {"torch._tensor _rebuild_from_type", "torch._tensor _rebuild_from_type_v2"}


class Storage(NamedTuple):
    """`count` elements in the archive's member `key`. kind: a class of torch, such as FloatStorage."""

    kind: str
    key: str
    count: int


class Tensor(NamedTuple):
    """A view of a storage, in elements; dtype: a torch.dtype's name, or None for the storage's own."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str | None


class _Global(NamedTuple):
    name: str


class Node:
    """A container or an object: what it holds, by key or index."""

    __slots__ = ("children",)

    def __init__(self, children: list[tuple[Any, Any]]):
        self.children = children


class Machine:
    """Runs opcodes. IndexError where the stack has too little on it."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.tensors: list[Tensor] = []
        self.storages: dict[str, Storage] = {}

    def run(self, opcode: Any, argument: Any) -> None:
        name = opcode.name
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _HANDLERS:
            _HANDLERS[name](self, argument)
        else:
            self._run_unknown(opcode)

    def _run_unknown(self, opcode: Any) -> None:
        """Keeps the stack's height right."""
        before = opcode.stack_before
        if any(item.name == "mark" for item in before):
            self.pop_to_mark()
        elif before:
            del self.stack[-len(before) :]
        self.stack += [None] * len(opcode.stack_after)

    def pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo.get(index))

    def make_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def make_node(self, _: Any) -> None:
        self.stack.append(Node([]))

    def make_list(self, _: Any) -> None:
        self.stack.append(Node(list(enumerate(self.pop_to_mark()))))

    def make_dict(self, _: Any) -> None:
        self.stack.append(Node(_pairs(self.pop_to_mark())))

    def append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def appends(self, _: Any) -> None:
        self._extend(self.pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        node = self.stack[-1]
        if isinstance(node, Node):
            node.children += enumerate(items, len(node.children))

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def set_items(self, _: Any) -> None:
        self._update(self.pop_to_mark())

    def _update(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], Node):
            self.stack[-1].children += _pairs(items)

    def push_global(self, argument: str) -> None:
        self.stack.append(_Global(argument) if len(argument) <= MAX_KEY else None)

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        is_named = type(name) is str and type(module) is str and len(name) + len(module) <= MAX_KEY
        self.stack.append(_Global(f"{module} {name}") if is_named else None)

    def persistent(self, _: Any) -> None:
        storage = _storage(self.stack.pop())
        if storage is not None:
            self.storages.setdefault(storage.key, storage)
        self.stack.append(storage)

    def call(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self._result(function, arguments))

    def _result(self, function: Any, arguments: Any) -> Any:
        """What stands for the result of a call. Nothing is called."""
        name = function.name if type(function) is _Global else ""
        if name in _FROM_TYPE and type(arguments) is tuple and len(arguments) >= 3:
            name, arguments = getattr(arguments[0], "name", ""), arguments[2]
        if type(arguments) is tuple and arguments and name in _PARAMETER:
            return arguments[0]
        if type(arguments) is tuple and name in _REBUILD:
            tensor = _tensor(arguments, name)
            if tensor is not None and len(self.tensors) < MAX_TENSORS:
                self.tensors.append(tensor)
                return tensor
        return Node([(SAME_NAME, arguments)])

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        node = self.stack[-1]
        if isinstance(node, Node):
            node.children.append((SAME_NAME, state))


def _tuple_of(machine: Machine, count: int) -> None:
    items = [machine.stack.pop() for _ in range(count)]
    machine.stack.append(tuple(reversed(items)))


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=False))


def _storage(identifier: Any) -> Storage | None:
    """The storage that a persistent id of torch.save names: ("storage", class, key, device, count)."""
    if type(identifier) is not tuple or len(identifier) != 5 or identifier[0] != "storage":
        return None
    _, kind, key, _, count = identifier
    if type(kind) is not _Global or type(key) is not str or len(key) > MAX_KEY or not is_count(count):
        return None
    return Storage(kind.name.rpartition(" ")[2], key, count)


def _tensor(arguments: tuple, function: str) -> Tensor | None:
    """What torch's function would make of (storage, offset, shape, strides, …)."""
    if len(arguments) < 4 or type(arguments[0]) is not Storage or not is_count(arguments[1]):
        return None
    storage, offset, shape, strides = arguments[:4]
    if not _are_counts(shape) or not _are_counts(strides) or len(shape) != len(strides):
        return None
    dtype = arguments[6] if function == _REBUILD_V3 and len(arguments) > 6 else None
    return Tensor(storage, offset, shape, strides, dtype.name.rpartition(" ")[2] if type(dtype) is _Global else None)


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _are_counts(value: Any) -> bool:
    return type(value) is tuple and len(value) <= _MAX_DIMENSIONS and all(map(is_count, value))


_PUSHED = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "NONE",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_HANDLERS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine.mark,
    "POP": Machine.pop,
    "DUP": Machine.duplicate,
    "PUT": Machine.put,
    "BINPUT": Machine.put,
    "LONG_BINPUT": Machine.put,
    "MEMOIZE": Machine.memoize,
    "GET": Machine.get,
    "BINGET": Machine.get,
    "LONG_BINGET": Machine.get,
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": Machine.make_tuple,
    "TUPLE1": lambda machine, _: _tuple_of(machine, 1),
    "TUPLE2": lambda machine, _: _tuple_of(machine, 2),
    "TUPLE3": lambda machine, _: _tuple_of(machine, 3),
    "EMPTY_LIST": Machine.make_node,
    "EMPTY_DICT": Machine.make_node,
    "EMPTY_SET": Machine.make_node,
    "LIST": Machine.make_list,
    "FROZENSET": Machine.make_list,
    "DICT": Machine.make_dict,
    "APPEND": Machine.append,
    "APPENDS": Machine.appends,
    "ADDITEMS": Machine.appends,
    "SETITEM": Machine.set_item,
    "SETITEMS": Machine.set_items,
    "GLOBAL": Machine.push_global,
    "STACK_GLOBAL": Machine.stack_global,
    "BINPERSID": Machine.persistent,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "STOP": lambda machine, _: None,  # the result stays: names are looked for from it
}
