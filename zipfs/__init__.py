"""zipfs: losslessly compressed model weights, mounted as plain files.

    write   plain file -> layout (which bytes are which dtype) -> chunks -> codec (C) -> container -> fsync, rename
    read    request -> container index -> cached chunk, or decode straight into the reply

The functions here start what they name; everything is loaded when it is first used, so that `import zipfs` costs
nothing.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zipfs.compressor import compress
    from zipfs.decompressor import decompress
    from zipfs.errors import (
        BlobNameError,
        CorruptError,
        FailuresError,
        FormatError,
        ImportedFileError,
        MountError,
        OutputExistsError,
        SourceChangedError,
        UsageError,
        ZipfsError,
    )
    from zipfs.in_place_run import compress_in_place, decompress_in_place
    from zipfs.mount import mount
    from zipfs.reader import open

__version__ = "0.1.0"

__all__ = [
    "BlobNameError",
    "CorruptError",
    "FailuresError",
    "FormatError",
    "ImportedFileError",
    "MountError",
    "OutputExistsError",
    "SourceChangedError",
    "UsageError",
    "ZipfsError",
    "__version__",
    "compress",
    "compress_in_place",
    "decompress",
    "decompress_in_place",
    "mount",
    "open",
]

_HOMES = {name: "zipfs.errors" for name in __all__ if name.endswith("Error")} | {
    "compress": "zipfs.compressor",
    "compress_in_place": "zipfs.in_place_run",
    "decompress": "zipfs.decompressor",
    "decompress_in_place": "zipfs.in_place_run",
    "mount": "zipfs.mount",
    "open": "zipfs.reader",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


class _Package(ModuleType):
    """Importing the module zipfs.mount must not hide the function zipfs.mount."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
