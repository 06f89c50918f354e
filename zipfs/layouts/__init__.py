"""Which bytes of a plain file are elements of which dtype: docs/layouts.md.

    detect()  content -> a parser for its format -> Segment[] (zipfs/layouts/segment.py)

A format is recognised by content, never by name. A header that breaks a rule makes the file opaque, never refused: the
encoder guesses its layout, region by region. No parser does I/O but pread of headers, each in bounded memory and time;
nothing that a file holds is executed.
"""

from collections.abc import Callable, Iterator

from zipfs.layouts import gguf, npy, onnx, onnx_external, safetensors, torch_zip, zip_directory
from zipfs.layouts.aliases import Aliases
from zipfs.layouts.segment import DTYPES, Broken, Pread, Segment, forced

__all__ = ["DTYPES", "Aliases", "Segment", "detect", "forced"]

Finder = Callable[[Pread, int], list[Segment]]


def detect(pread: Pread, size: int, path: str | None = None, aliases: Aliases | None = None) -> list[Segment]:
    """Tensors of the plain file of `size` bytes that pread(count, offset) reads, by ascending offset; none when it is
    opaque. OSError where it cannot be read.

    path: where it lies, if it may be external data of an ONNX model beside it; aliases: its other names.
    """

    def within(count: int, offset: int) -> bytes:
        return pread(min(count, size - offset), offset) if offset < size else b""

    for find in _candidates(within(9, 0)):
        try:
            return find(within, size)
        except Broken:
            continue
    return [] if path is None else onnx_external.find(path, size, aliases or Aliases())


def _candidates(start: bytes) -> Iterator[Finder]:
    """The parsers of the formats that a file with these first 9 bytes may have."""
    if start.startswith(gguf.MAGIC):
        yield gguf.find
    if start.startswith(zip_directory.MAGIC):
        yield _find_in_archive
    if start.startswith(npy.MAGIC):
        yield npy.find
    if start[8:] == b"{":
        yield safetensors.find
    if start and onnx.may_begin(start[0]):
        yield onnx.find


def _find_in_archive(pread: Pread, size: int) -> list[Segment]:
    """Of what torch.save made, or numpy.savez."""
    members = zip_directory.read_members(pread, size)
    return torch_zip.find(pread, size, members) or npy.find_members(pread, size, members)
