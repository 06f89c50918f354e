"""Which tensors a pickle of torch holds: its opcodes are read with pickletools, nothing is ever unpickled."""

from typing import Any, NamedTuple

from zipfs.layouts.torch_machine import MAX_KEY, Machine, Node, Storage, Tensor, is_count

MAX_PICKLE = 16 << 20
MAX_OPCODES = 1_000_000
"""Most opcodes that are looked at (about 40,000 tensors). What was found before the limit counts."""

_MAX_DEPTH = 100
_MAX_NAMES = 16 << 20
"""Characters of all names together. Bounds memory."""
_MODULE_KEYS = {"_parameters", "_buffers", "_modules"}
"""Keys in the state of a pickled torch.nn.Module that are no part of its tensors' names."""


class Found(NamedTuple):
    """Storages by key, and tensors with their names, in no order. A tensor that nothing holds has the name ""."""

    storages: dict[str, Storage]
    tensors: list[tuple[str, Tensor]]


def scan(pickle: bytes) -> Found:
    """What `pickle` holds, up to the first opcode that makes no sense."""
    import pickletools

    machine = Machine()
    try:
        for (opcode, argument, _), _ in zip(pickletools.genops(pickle), range(MAX_OPCODES), strict=False):
            machine.run(opcode, argument)
    except (ValueError, IndexError):
        pass
    return Found(machine.storages, _named(machine))


def _named(machine: Machine) -> list[tuple[str, Tensor]]:
    """The tensors, called by the keys that lead to them from what is on the stack, joined by dots."""
    named: dict[int, str] = {}
    seen: set[int] = set()
    room = _MAX_NAMES
    waiting: list[tuple[Any, _Path | None, int]] = [(value, None, 0) for value in machine.stack]
    while waiting:
        value, path, depth = waiting.pop()
        if id(value) in seen or depth > _MAX_DEPTH:
            continue
        seen.add(id(value))
        if type(value) is Tensor:
            name = _join(path) if room > 0 else ""
            room -= len(name)
            named[id(value)] = name
        elif type(value) in (tuple, Node):
            children = value.children if type(value) is Node else enumerate(value)
            waiting += [(child, _deeper(path, key), depth + 1) for key, child in children if _can_hold(child)]
    return [(named.get(id(tensor), ""), tensor) for tensor in machine.tensors]


def _can_hold(value: Any) -> bool:
    return type(value) in (tuple, Node, Tensor)


_Path = tuple[Any, str]
"""The path before, and the last key."""


def _deeper(path: _Path | None, key: Any) -> _Path | None:
    if type(key) is str and len(key) <= MAX_KEY and key not in _MODULE_KEYS:
        return path, key
    return (path, str(key)) if is_count(key) else path


def _join(path: _Path | None) -> str:
    keys = []
    while path is not None:
        path, key = path
        keys.append(key)
    return ".".join(reversed(keys))
