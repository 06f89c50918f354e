"""What compressing would do and save, from chunks spread over each file that are encoded in memory. Writes nothing."""

import os
from typing import Any, NamedTuple

from zipfs import _native, links, names
from zipfs.compressor import importer_for, must_wrap, refuse_named
from zipfs.errors import ZipfsError, naming
from zipfs.folder import refuse_inside, regular_files
from zipfs.importers import Importer
from zipfs.importers.imported import Imported
from zipfs.index import index_size
from zipfs.info import ratio, total
from zipfs.layouts import Aliases
from zipfs.names import HEADER_SIZE
from zipfs.output import refuse_existing
from zipfs.pipeline import CHUNK_LOG2
from zipfs.sampling import sample
from zipfs.selection import Choice, Selection, relative
from zipfs.source import Source
from zipfs.tally import Row, Tally


class Estimates(NamedTuple):
    """What would become of files, their bytes by dtype, and what would fail, as far as that shows beforehand.

    A file: path, plain_size, stored_size (estimated; plain_size when it would be copied as it is), ratio, sample_size
    (bytes that were tried), action ("compress", "import", "copy", or "link", whose bytes count with those of
    its first name).
    """

    files: list[dict[str, Any]]
    rows: list[Row]
    failures: list[Exception]


def estimate(path: str, level: str = "default") -> tuple[dict[str, Any], list[Exception]]:
    """The estimate for a file, or {"files": [...], "total": {...}} for a folder, and what could not be read."""
    rules = Selection(level=level)
    root = path if os.path.isdir(path) else None
    with importer_for(None, rules, root) as importer:
        found = _Estimator(rules, root, importer).all(path)
    return (found.files[0] if root is None else {"files": found.files, "total": total(found.files)}), found.failures


def rehearse(
    src: str, dst: str, rules: Selection, force: bool = False, base: str | os.PathLike | None = None
) -> Estimates:
    """What compress() would do with the same arguments. UsageError or OSError where it would not even begin."""
    root = src if os.path.isdir(src) else None
    if root is not None:
        refuse_inside(src, dst)
    with importer_for(base, rules, root) as importer:
        return _Estimator(rules, root, importer, dst, force).all(src)


class _Estimator:
    """One run.

    root, rules and importer: as the Compressor (zipfs/compressor.py) has them; dst: None where nothing is to be said
    about outputs.
    """

    def __init__(
        self, rules: Selection, root: str | None, importer: Importer, dst: str | None = None, force: bool = False
    ):
        self._rules = rules
        self._root = root
        self._importer = importer
        self._dst = dst
        self._force = force
        self._codec = _native.Codec(CHUNK_LOG2)
        self._tally = Tally()
        self._aliases = Aliases(root)
        self._seen: set[tuple] = set()

    def all(self, path: str) -> Estimates:
        """The file at `path`, whose failure is raised, or all that are in the folder."""
        if self._root is None:
            return Estimates([self._file(path, follow=True)], self._tally.rows(), [])
        files: list[dict[str, Any]] = []
        failures: list[Exception] = []
        for file in regular_files(path, failures):
            try:
                files.append(self._link(file) or self._file(file, follow=False))
            except (OSError, ZipfsError) as error:
                failures.append(error)
        return Estimates(files, self._tally.rows(), failures)

    def _link(self, path: str) -> dict[str, Any] | None:
        """Where compress would make a hard link; of equal blobs the names are believed."""
        if self._dst is None:
            return None
        keys = set(links.keys(path, os.lstat(path), self._rules.choice(relative(path, self._root))))
        is_known = not keys.isdisjoint(self._seen)
        self._seen |= keys
        if not is_known:
            return None
        self._refuse_taken(path, os.path.basename(path))
        return {"path": path} | _facts(0, 0, 0, "link")

    def _file(self, path: str, follow: bool) -> dict[str, Any]:
        choice = self._rules.choice(relative(path, self._root))
        is_named = self._dst is not None and follow and not os.path.isdir(self._dst)
        if is_named:
            refuse_named(path, self._dst, choice)
        with naming(path), Source(path, follow, choice.dtype, self._aliases) as source:
            imported = self._import(source)
            name = os.path.basename(path) if imported is None else imported.name
            self._refuse_taken(path, name)
            wrap = is_named or imported is not None or must_wrap(name, source)
            facts = self._estimate(imported or source, choice, wrap and names.takes_suffix(name))
        if imported is not None:
            facts["action"] = "import"
        return {"path": path} | facts

    def _estimate(self, source: Source | Imported, choice: Choice, wrap: bool) -> dict[str, Any]:
        """wrap: it becomes a container whatever that saves."""
        if not choice.is_selected and not wrap:
            self._tally.add_copy(source.size)
            return _facts(source.size, source.size, 0, "copy")
        sampled = sample(source, self._codec, choice.level)
        rest = HEADER_SIZE + index_size(-(-source.size >> CHUNK_LOG2))
        stored_size = source.size * sampled.stored_size // max(sampled.plain_size, 1) + rest
        if not wrap and stored_size > self._rules.largest_worthwhile(source.size):
            self._tally.add_copy(source.size)
            return _facts(source.size, source.size, sampled.plain_size, "copy")
        self._tally.add_container(source.size, stored_size, sampled.tensors)
        return _facts(source.size, stored_size, sampled.plain_size, "compress")

    def _import(self, source: Source) -> Imported | None:
        """What compress would make of the file; a delta whose base is not known here is a file like others."""
        try:
            return self._importer.open(source, alone=True)
        except ZipfsError:
            if self._dst is not None:
                raise
            return None

    def _refuse_taken(self, path: str, name: str) -> None:
        """OutputExistsError where compress would raise it."""
        if self._dst is None:
            return
        if self._root is None and not os.path.isdir(self._dst):
            refuse_existing(self._dst, self._force)
            return
        folder = os.path.join(self._dst, os.path.dirname(relative(path, self._root)))
        plain = os.path.join(folder, name)
        refuse_existing(plain + names.SUFFIX, self._force)
        if not names.has_suffix(name) and not (os.path.exists(plain) and os.path.samefile(plain, path)):
            refuse_existing(plain, self._force)


def _facts(plain_size: int, stored_size: int, sample_size: int, action: str) -> dict[str, Any]:
    return {
        "plain_size": plain_size,
        "stored_size": stored_size,
        "ratio": ratio(plain_size, stored_size),
        "sample_size": sample_size,
        "action": action,
    }
