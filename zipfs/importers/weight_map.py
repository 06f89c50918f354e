"""Weight maps (`*.index.json`), which name the files that hold a model's tensors."""

import json
import re
from collections.abc import Callable

from zipfs.layouts.safetensors import MAX_BRACKETS

SUFFIX = ".index.json"
MAX_SIZE = 32 << 20

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def rewrite(text: bytes, plain_name: Callable[[str], str | None]) -> bytes | None:
    """The map with the plain names of its files; None when there is nothing to change, or when it is no weight map.

    plain_name: of a file beside the map, or None when it keeps its name. All but the names stays as it is.
    """
    if text.count(b"[") + text.count(b"{") > MAX_BRACKETS:
        return None
    try:
        text_map = text.decode()
        files = set(json.loads(text_map)["weight_map"].values())
        names = {file: plain_name(file) for file in files if type(file) is str and file and "/" not in file}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    names = {file: name for file, name in names.items() if name is not None}
    if not names:
        return None

    def renamed(match: re.Match) -> str:
        name = names.get(json.loads(match[0], strict=False))
        return match[0] if name is None else json.dumps(name)

    return _STRING.sub(renamed, text_map).encode()
