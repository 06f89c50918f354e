"""Files of other tools that `compress` converts: containers of the plain files that they hold, under the plain names.

    open()  name and content -> Imported (zipfs/importers/imported.py), which the writer reads like a Source

Today these are the files of ZipNN (docs/import.md) and the weight maps beside them. A file is recognised by its name
first, so others cost nothing and numpy is loaded for none of them.
"""

import contextlib
import os
from collections.abc import Callable, Collection

from zipfs.errors import UsageError
from zipfs.importers import weight_map
from zipfs.importers.imported import Imported, Rewritten
from zipfs.names import SUFFIX, show, takes_suffix
from zipfs.source import Source

_ZNN = ".znn"
_ZNN_SAFETENSORS = ".znn.safetensors"
_DELTA = "_delta_"


class Importer:
    """What one run of compress imports. A context manager; one caller at a time.

    base: path of the file that ZipNN's deltas were made against. takes: whether the file at a path is to be converted.
    notes: a line for each thing that a user may not expect.
    """

    def __init__(self, base: str | None = None, takes: Callable[[str], bool] = lambda path: True):
        self.notes: list[str] = []
        self._takes = takes
        self._claimed: set[tuple[str, str]] = set()
        self._stack = contextlib.ExitStack()
        self._base = None if base is None else self._stack.enter_context(Source(base))
        self._is_base_used = False

    def __enter__(self) -> "Importer":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None and self._base is not None and not self._is_base_used:
            self.notes.append(f"{show(self._base.path)}: is the base of no delta that was found")
        self._stack.close()

    def open(self, source: Source, kept: Collection[str] = (), alone: bool = False) -> Imported | None:
        """What `source` is converted to, or None for a file like others.

        kept: names that the folder of the outputs has as well; alone: the user named this file, so what lies beside it
        does not matter. ImportedFileError for a damaged file, UsageError for a delta without its base.
        """
        name = os.path.basename(source.path)
        if not (_claims(name) or name.endswith(weight_map.SUFFIX)) or not self._takes(source.path):
            return None
        if name.endswith(weight_map.SUFFIX):
            return self._open_map(source, name)
        plain = _plain_name(source, name)
        if plain is None:
            self._leave(source, "is no file of ZipNN in spite of its name")
            return None
        if name.endswith(_ZNN_SAFETENSORS):
            imported = self._open_safetensors(source, plain)
        else:
            imported = self._open_znn(source, name, plain)
        return imported if alone or self._claim(source, imported.name, kept) else None

    def _open_znn(self, source: Source, name: str, plain: str) -> Imported:
        from zipfs.importers import znn

        if not znn.is_delta(source):
            return znn.Chain(source, plain)
        made_against = name[: -len(_ZNN)].partition(_DELTA)[2]
        if self._base is None:
            raise UsageError(
                f"{show(source.path)}: is a delta of ZipNN against {show(made_against) or 'another file'}; say with"
                " --base where that lies"
            )
        base_name = os.path.basename(self._base.path)
        named = next((n for n in (base_name, os.path.splitext(base_name)[0]) if plain.endswith(_DELTA + n)), None)
        if made_against and named is None:
            raise UsageError(
                f"{show(source.path)}: is a delta of ZipNN against {show(made_against)}, but the base given is called"
                f" {show(base_name)}"
            )
        self._is_base_used = True
        if named is not None:
            plain = _undelta(plain[: -len(_DELTA + named)], os.path.splitext(base_name)[1])
        return znn.Chain(source, plain, self._base)

    def _open_safetensors(self, source: Source, plain: str) -> Imported:
        from zipfs.importers import znn_safetensors

        rebuilt = znn_safetensors.Rebuilt(source, plain)
        if rebuilt.turned:
            self.notes.append(
                f"{show(source.path)}: ZipNN stored tensors with their bits turned; turned back:"
                f" {', '.join(map(show, rebuilt.turned))}"
            )
        return rebuilt

    def _open_map(self, source: Source, name: str) -> Imported | None:
        if source.size > weight_map.MAX_SIZE:
            return None
        folder = os.path.dirname(source.path)
        text = weight_map.rewrite(
            source.pread(source.size, 0), lambda file: self._plain_name_of(os.path.join(folder, file))
        )
        return None if text is None else Rewritten(source, name, text)

    def _claim(self, source: Source, plain: str, kept: Collection[str]) -> bool:
        """Whether the plain name is free in the folder of `source`, for this file and no other."""
        folder = os.path.dirname(source.path)
        other = (folder, plain) in self._claimed or os.path.lexists(os.path.join(folder, plain))
        if other or plain + SUFFIX in kept or not takes_suffix(plain):
            self._leave(source, f"would become {show(plain)}, which is there already" if other else "has no free name")
            return False
        self._claimed.add((folder, plain))
        return True

    def _plain_name_of(self, path: str) -> str | None:
        """_plain_name() of the file at `path`; None as well when there is none."""
        if not _claims(os.path.basename(path)) or not self._takes(path):
            return None
        try:
            with Source(path) as source:
                return _plain_name(source, os.path.basename(path))
        except (OSError, UsageError):
            return None

    def _leave(self, source: Source, why: str) -> None:
        self.notes.append(f"{show(source.path)}: {why}; compressed as the file that it is")


def _claims(name: str) -> bool:
    return name.endswith((_ZNN, _ZNN_SAFETENSORS)) and name not in (_ZNN, _ZNN_SAFETENSORS)


def _plain_name(source: Source, name: str) -> str | None:
    """Name of the plain file that `source` holds (a delta's still with its base's name), or None when ZipNN did not
    make it.
    """
    if not _claims(name):
        return None
    if name.endswith(_ZNN_SAFETENSORS):
        from zipfs.importers.znn_safetensors import read_header

        return None if read_header(source) is None else name[: -len(_ZNN_SAFETENSORS)] + ".safetensors"
    from zipfs.importers.znn import is_znn

    return name[: -len(_ZNN)] if is_znn(source) else None


def _undelta(stem: str, extension: str) -> str:
    """The plain name of a delta called `stem` before its base is named: with the base's extension.

    ZipNN's scripts cut off the last 4 characters of the plain name ("model.safeten"), others nothing or all of it.
    """
    if extension and stem.endswith(extension):
        return stem
    if len(extension) > 4 and stem.endswith(extension[:-4]):
        return stem + extension[-4:]
    return stem + (extension or ".bin")
