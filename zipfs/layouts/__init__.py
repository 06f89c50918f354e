"""Which bytes of a plain file are elements of which dtype: docs/layouts.md.

    detect()  content -> a parser for its format -> Segment[] (zipfs/layouts/segment.py)

A format is recognised by content, never by name. A header that breaks a rule makes the file opaque, never refused: the
encoder guesses its layout, region by region. No parser does I/O but pread of headers, each in bounded memory and time;
nothing that a file holds is executed.
"""

from zipfs.layouts import safetensors
from zipfs.layouts.segment import DTYPES, Broken, Pread, Segment, forced

__all__ = ["DTYPES", "Segment", "detect", "forced"]


def detect(pread: Pread, size: int) -> list[Segment]:
    """Tensors of the plain file of `size` bytes that pread(count, offset) reads, by ascending offset; none when it is
    opaque. OSError where it cannot be read."""
    try:
        return safetensors.find(pread, size)
    except Broken:
        return []
