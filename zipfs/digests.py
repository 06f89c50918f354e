"""Digests in file names: the blobs of Hugging Face's cache and of Ollama are called by what they hold.

Only in folders named `blobs`: elsewhere a name of hexadecimal digits says nothing. Hugging Face names large files by
their SHA-256 and the others as git does, by the SHA-1 of a header and their bytes; Ollama writes `sha256-` before it.
"""

import hashlib
import os
import re
from typing import NamedTuple

from zipfs import names
from zipfs.errors import BlobNameError

FOLDER = "blobs"
_SHA256 = re.compile(r"(?:sha256-)?([0-9a-f]{64})")
_GIT_SHA1 = re.compile(r"([0-9a-f]{40})")


class Promise(NamedTuple):
    """What the name of the plain file says of its bytes. algorithm: "SHA-256" or "git's SHA-1"."""

    algorithm: str
    digest: bytes

    @property
    def is_sha256(self) -> bool:
        return self.algorithm == "SHA-256"

    def hasher(self, size: int) -> "hashlib._Hash":
        """Takes all `size` bytes of the plain file."""
        if self.is_sha256:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def check(self, digest: bytes, path: str) -> None:
        """BlobNameError when the bytes of `path` gave another digest."""
        if digest != self.digest:
            raise BlobNameError(self.algorithm, digest.hex(), path)


def promised(path: str) -> Promise | None:
    """What the name of the file or container `path` promises; None when it is no blob's."""
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.basename(folder) != FOLDER:
        return None
    name = names.plain_name(name)
    if match := _SHA256.fullmatch(name):
        return Promise("SHA-256", bytes.fromhex(match[1]))
    if match := _GIT_SHA1.fullmatch(name):
        return Promise("git's SHA-1", bytes.fromhex(match[1]))
    return None
