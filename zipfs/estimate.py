"""What compressing would save, from chunks spread over each file that are encoded in memory. Writes nothing."""

import os
from typing import Any

from zipfs import _native
from zipfs.compressor import must_wrap
from zipfs.errors import ZipfsError, naming
from zipfs.folder import regular_files
from zipfs.importers import Importer
from zipfs.importers.imported import Imported
from zipfs.index import index_size
from zipfs.info import ratio, total
from zipfs.names import HEADER_SIZE
from zipfs.pipeline import CHUNK_LOG2
from zipfs.sampling import sample
from zipfs.source import Source
from zipfs.writer import largest_worthwhile, level_number


def estimate(path: str, level: str = "default") -> tuple[dict[str, Any], list[Exception]]:
    """The estimate for a file, or {"files": [...], "total": {...}} for a folder, and what could not be read.

    A file: path, plain_size, stored_size (estimated; plain_size when it would be copied as it is), ratio, sample_size
    (bytes that were tried).
    """
    codec = _native.Codec(CHUNK_LOG2)
    number = level_number(level)
    if not os.path.isdir(path):
        with naming(path), Source(path) as source:
            return _estimate_file(source, codec, number), []
    files: list[dict[str, Any]] = []
    failures: list[Exception] = []
    for file in regular_files(path, failures):
        try:
            with naming(file), Source(file, follow=False) as source:
                files.append(_estimate_file(source, codec, number))
        except (OSError, ZipfsError) as error:
            failures.append(error)
    return {"files": files, "total": total(files)}, failures


def _estimate_file(source: Source, codec: _native.Codec, level: int) -> dict[str, Any]:
    imported = _import(source)
    plain_sample, stored_sample = sample(imported or source, codec, level)
    size = (imported or source).size
    num_chunks = -(-size >> CHUNK_LOG2)
    stored = size * stored_sample // max(plain_sample, 1) + HEADER_SIZE + index_size(num_chunks)
    is_wrapped = imported is not None or must_wrap(os.path.basename(source.path), source.fd)
    if stored > largest_worthwhile(size) and not is_wrapped:
        stored = size
    return {
        "path": source.path,
        "plain_size": size,
        "stored_size": stored,
        "ratio": ratio(size, stored),
        "sample_size": plain_sample,
    }


def _import(source: Source) -> Imported | None:
    """What compress would make of the file (a delta's base is not known here)."""
    try:
        return Importer().open(source, alone=True)
    except ZipfsError:
        return None
