"""`zipfs://` for fsspec: the plain files of containers in any other store of fsspec, without a mount.

    fsspec.open("zipfs::s3://bucket/models/model.safetensors")     reads model.safetensors.zipfs there
    fsspec.filesystem("zipfs", target_protocol="s3")               ls, info, open, cat_file, cat_ranges, get …

Names are those of a mount: a container x.zipfs is shown as x, unless the store has an x, and everything else as it is.
Nothing can be written. Paths are those of the store.
"""

import datetime
import errno
import os
from collections.abc import Sequence
from typing import Any

import fsspec
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.spec import AbstractBufferedFile

from zipfs import names
from zipfs.errors import FormatError
from zipfs.names import HEADER_SIZE, MAGIC, SUFFIX
from zipfs.remote import RemoteContainer, charge, read_header
from zipfs.single_flight import Cache

CACHE_SIZE = 64 << 20
"""Bytes of decoded chunks and pages of indexes that all file systems of the process keep together."""

_VERSION = ("size", "mtime", "ino", "created", "ETag", "etag", "LastModified", "last_modified", "updated", "generation")
"""What stores tell that differs between two versions of a file."""

_cache = Cache(CACHE_SIZE, charge)


class ZipfsFileSystem(ChainedFileSystem):
    """The file system. Any thread.

    fs: the store; or target_protocol and target_options, to make it of (none: local files). fo: the path that a chained
    URL names, which is given to every method as well.
    """

    protocol = "zipfs"
    root_marker = ""

    def __init__(
        self,
        fs: fsspec.AbstractFileSystem | None = None,
        fo: str | None = None,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        **storage_options: Any,
    ):
        super().__init__(**storage_options)
        self.fs = fs or fsspec.filesystem(target_protocol or "file", **(target_options or {}))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """What the store tells of the file, with the plain size, and for a container with `stored_size` as well.

        A container whose header is damaged has the size None.
        """
        path = self._path(path)
        return self._find(path, **kwargs)[0]

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._path(path)
        try:
            stored = self.fs.ls(path, detail=True, **kwargs)
        except (FileNotFoundError, NotADirectoryError):
            shown = [self.info(path)]
        else:
            is_file = len(stored) == 1 and stored[0]["type"] == "file" and self._path(stored[0]["name"]) == path
            shown = [self.info(path)] if is_file else self._shown(stored)
        return shown if detail else sorted(info["name"] for info in shown)

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: int | Sequence[int | None] | None,
        ends: int | Sequence[int | None] | None,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """The bytes of each range, those of one container fetched and decoded together."""
        starts = starts if isinstance(starts, Sequence) else [starts] * len(paths)
        ends = ends if isinstance(ends, Sequence) else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError("paths, starts and ends must be of one length")
        result: list[Any] = [None] * len(paths)
        for path in dict.fromkeys(paths):
            places = [place for place, other in enumerate(paths) if other == path]
            try:
                parts = self._read(self._path(path), [(starts[place], ends[place]) for place in places])
            except Exception as error:
                if on_error != "return":
                    raise
                parts = [error] * len(places)
            for place, part in zip(places, parts, strict=True):
                result[place] = part
        return result

    def created(self, path: str) -> Any:
        return self.fs.created(self._stored_path(path))

    def modified(self, path: str) -> Any:
        return self.fs.modified(self._stored_path(path))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.fs.invalidate_cache(path)

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any) -> Any:
        path = self._path(path)
        if mode != "rb":
            if "x" in mode and self.exists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self._refuse(path)
        info, container = self._find(path)
        if container is None:
            return self.fs.open(path, "rb", block_size=block_size, **kwargs)
        kwargs.pop("autocommit", None)
        return _File(self, path, self._container(container), info, block_size, **kwargs)

    def _refuse(self, path: str, *_args: Any, **_kwargs: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    mkdir = makedirs = rmdir = rm_file = _rm = rm = cp_file = mv = touch = put_file = pipe_file = _refuse

    def _path(self, path: str) -> str:
        return self.fs._strip_protocol(self._strip_protocol(path))

    def _stored_path(self, path: str) -> str:
        path = self._path(path)
        container = self._find(path)[1]
        return path if container is None else container["name"]

    def _read(self, path: str, ranges: list[tuple[int | None, int | None]]) -> list[Any]:
        info, container = self._find(path)
        if container is None:
            starts, ends = zip(*ranges, strict=True)
            return self.fs.cat_ranges([path] * len(ranges), list(starts), list(ends), on_error="raise")
        bounds = [slice(start, end).indices(info["size"] or 0)[:2] for start, end in ranges]
        return self._container(container).read(bounds)

    def _find(self, path: str, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """What is shown at `path`, and when that is the file of a container, what the store tells of the container."""
        try:
            stored = self.fs.info(path, **kwargs)
        except FileNotFoundError:
            stored = None
        if stored is not None and (not _may_be_container(stored) or self._headers([stored])[0] is None):
            return stored, None
        try:
            container = self.fs.info(path + SUFFIX, **kwargs)
        except FileNotFoundError:
            container = None
        if container is None or not _may_be_container(container):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        (header,) = self._headers([container])
        if header is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return _plain_info(container, header), container

    def _shown(self, stored: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The entries of a folder as they are shown."""
        candidates = [info for info in stored if _may_be_container(info)]
        found = zip(candidates, self._headers(candidates), strict=True)
        headers = {info["name"]: header for info, header in found if header is not None}
        shown = [info for info in stored if info["name"] not in headers]
        taken = {info["name"] for info in shown}
        plain = [_plain_info(info, headers[info["name"]]) for info in candidates if info["name"] in headers]
        return shown + [info for info in plain if info["name"] not in taken]

    def _headers(self, containers: list[dict[str, Any]]) -> list[Any]:
        """The header of each file that may be a container: None where it is none, a FormatError where it is broken."""
        sizes = {info["name"]: info["size"] for info in containers}

        def load(keys: list[tuple[Any, str]]) -> list[Any]:
            paths = [path for (_, path, _), _ in keys]
            return [_parse(data, sizes[path], path) for path, data in zip(paths, self._fetch_heads(paths), strict=True)]

        return [found[0] for found in _cache.get([(self._key(info), "header") for info in containers], load)]

    def _fetch_heads(self, paths: list[str]) -> list[bytes]:
        if not paths:
            return []
        return _checked(self.fs.cat_ranges(paths, [0] * len(paths), [HEADER_SIZE] * len(paths), on_error="raise"))

    def _container(self, info: dict[str, Any]) -> RemoteContainer:
        (header,) = self._headers([info])
        if isinstance(header, FormatError):
            raise header
        path = info["name"]

        def fetch(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
            starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
            return _checked(self.fs.cat_ranges([path] * len(ranges), starts, ends, on_error="raise"))

        return RemoteContainer(fetch, header, self._key(info), path, _cache)

    def _key(self, info: dict[str, Any]) -> tuple[Any, str, tuple[str, ...]]:
        """What tells this version of a file in a store from all others."""
        return self.fs._fs_token, info["name"], tuple(_comparable(info.get(name)) for name in _VERSION)


class _File(AbstractBufferedFile):
    """The plain file of a container, open for reading. One thread at a time."""

    def __init__(
        self,
        fs: ZipfsFileSystem,
        path: str,
        container: RemoteContainer,
        info: dict[str, Any],
        block_size: int | None,
        cache_type: str = "none",
        **kwargs: Any,
    ):
        self._container = container
        super().__init__(
            fs, path, "rb", block_size or self.DEFAULT_BLOCK_SIZE, cache_type=cache_type, size=info["size"], **kwargs
        )

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._container.read([(start, end)])[0]


def _may_be_container(info: dict[str, Any]) -> bool:
    return info["type"] == "file" and names.has_suffix(os.path.basename(info["name"]))


def _plain_info(container: dict[str, Any], header: Any) -> dict[str, Any]:
    size = None if isinstance(header, FormatError) else header["plain_size"]
    return container | {"name": container["name"][: -len(SUFFIX)], "size": size, "stored_size": container["size"]}


def _comparable(value: Any) -> str:
    """The same text for a time in all the forms that stores tell it in."""
    return str(value.timestamp() if isinstance(value, datetime.datetime) else value)


def _parse(data: bytes, stored_size: int, path: str) -> list[Any]:
    """A list of the header, for the cache; see _headers()."""
    if not data.startswith(MAGIC):
        return [None]
    try:
        return [read_header(data, stored_size, path)]
    except FormatError as error:
        return [error]


def _checked(parts: list[Any]) -> list[bytes]:
    """`parts`, unless one is an exception: some stores return those whatever they are asked."""
    for part in parts:
        if isinstance(part, BaseException):
            raise part
    return parts
