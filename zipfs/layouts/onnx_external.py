"""External data of ONNX: a file without a header, whose layout an .onnx file in the same folder tells.

Only files of that folder are looked at, as they are or as containers, and what symlinks there lead to; what they name
in other folders counts for nothing. A file that symlinks lead to is looked for where these are: the files of a Hugging
Face cache have their names in snapshots alone.
"""

import os
import stat

from zipfs import _native, names
from zipfs.layouts.aliases import Aliases
from zipfs.layouts.onnx import read_model
from zipfs.layouts.segment import Segment, arrange

MIN_SIZE = 64 << 10
"""Bytes of the smallest file that may be external data: looking costs a listing of the folder."""
MAX_ENTRIES = 10_000
"""Files of a folder that are looked at."""
MAX_MODELS = 16
"""Models of a folder that are read."""
MAX_ALIASES = 16
"""Symlinks to a file that are followed back."""

_SUFFIX = ".onnx"
_CACHE_SIZE = 4 << 20
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


def find(path: str, size: int, aliases: Aliases) -> list[Segment]:
    """Tensors in the file `path` of `size` bytes, by ascending offset, as the first model says that has some there."""
    if size < MIN_SIZE:
        return []
    for known_as in (path, *aliases.of(path)[:MAX_ALIASES]):
        folder, name = os.path.split(known_as)
        for model in _models(folder or ".", name, aliases):
            segments = _tensors_of(model, name)
            if segments:
                return arrange(segments, size)
    return []


def _models(folder: str, name: str, aliases: Aliases) -> list[str]:
    """Paths of the models in the folder, those first that `name` begins with."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(MAX_ENTRIES), entries, strict=False):
                if names.plain_name(entry.name).endswith(_SUFFIX) and not entry.is_dir(follow_symlinks=False):
                    found.append(entry)
    except OSError:
        return []
    found.sort(key=lambda model: (not name.startswith(_stem(model.name)), model.name))
    paths = [_path(model, aliases) for model in found[:MAX_MODELS]]
    return [path for path in paths if path is not None]


def _path(model: os.DirEntry, aliases: Aliases) -> str | None:
    """Where the model is, if it is a symlink perhaps as a container that has taken its target's place."""
    if not model.is_symlink():
        return model.path
    target = aliases.target(model.path)
    return target + names.SUFFIX if target is not None and not os.path.lexists(target) else target


def _stem(model: str) -> str:
    return names.plain_name(model).removesuffix(_SUFFIX)


def _tensors_of(model: str, name: str) -> list[Segment]:
    """What the model says of the file `name` beside it; nothing where it is no file that can be read."""
    try:
        fd = os.open(model, _FLAGS)
    except OSError:
        return []
    try:
        is_container = names.has_suffix(model) and names.has_magic(fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        file = _native.File(_native.Cache(_CACHE_SIZE), fd, os.fsencode(model), not is_container)
    except (OSError, _native.FormatError):
        os.close(fd)
        return []
    with file:
        try:
            outside = read_model(file.pread, file.size).outside
        except (OSError, ValueError):
            return []
    return [found.segment for found in outside if found.location.removeprefix("./") == name]
