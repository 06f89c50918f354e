"""The codecs that `scripts/bench codec` sets side by side, each for one data set and on one thread.

A peer is made with (layout, plain) and has: `name`; `source()`, a fresh input for one encode (not timed);
`encode(source)`; `size(stored)`; `decode(stored)`, which leaves the plain bytes where the peer puts them;
`restored(stored)`, the plain bytes (not timed).
Peers that lack a library or a layout raise Missing with the reason.
"""

import mmap
import struct

import numpy as np

from zipfs import _native
from zipfs.pipeline import CHUNK_LOG2

CHUNK_SIZE = 1 << CHUNK_LOG2
LEVEL_DEFAULT = 1
INDEX_PAGE_SIZE, INDEX_PAGE_ENTRIES = 4096, 127


class Missing(Exception):
    """This peer cannot run here, or not on this layout; the argument says why."""


class Peer:
    name: str

    def __init__(self, layout: str, plain: bytes) -> None:
        self.layout, self.plain = layout, plain

    def source(self):
        return self.plain

    def size(self, stored) -> int:
        return sum(map(len, stored))

    def decode(self, stored) -> None:
        """Takes the pieces that a peer decodes to and keeps none, so that it may use its memory again."""
        for _ in self.pieces(stored):
            pass

    def restored(self, stored) -> bytes:
        return b"".join(self.pieces(stored))


class Zipfs(Peer):
    """zipfs, each chunk decoded into the same chunk-sized buffer. encode() decodes and compares every chunk as well."""

    name = "zipfs"

    def __init__(self, layout: str, plain: bytes) -> None:
        super().__init__(layout, plain)
        self.codec = _native.Codec(CHUNK_LOG2)
        self.segments = struct.pack("<QQII", 0, len(plain), _native.LAYOUTS[layout], 0)
        self.payloads = bytearray(len(plain))
        self.chunk = memoryview(bytearray(CHUNK_SIZE))

    def encode(self, source):
        return self.codec.encode(source, 0, self.segments, LEVEL_DEFAULT, self.payloads)

    def size(self, stored) -> int:
        """Payloads and their share of the index, which is what a container needs to hold them."""
        return sum(entry[0] for entry in stored) + len(stored) * INDEX_PAGE_SIZE // INDEX_PAGE_ENTRIES

    def target(self, number: int, size: int) -> memoryview:
        return self.chunk[:size]

    def decode(self, stored) -> None:
        payloads, offset = memoryview(self.payloads), 0
        for number, entry in enumerate(stored):
            end = offset + entry[0]
            plain_size = min(CHUNK_SIZE, len(self.plain) - (number << CHUNK_LOG2))
            self.codec.decode(payloads[offset:end], number, entry, self.target(number, plain_size))
            offset = end

    def restored(self, stored) -> bytes:
        whole = ZipfsFresh(self.layout, self.plain)
        whole.payloads = self.payloads
        whole.decode(stored)
        return bytes(whole.memory)


class ZipfsFresh(Zipfs):
    """zipfs, decoded into newly mapped memory, whose page faults count."""

    name = "zipfs, fresh memory"

    def target(self, number: int, size: int) -> memoryview:
        offset = number << CHUNK_LOG2
        return self.memory[offset : offset + size]

    def decode(self, stored) -> None:
        self.memory = memoryview(mmap.mmap(-1, len(self.plain), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        super().decode(stored)


class ZipNN(Peer):
    """ZipNN, the whole data set in one call as it is used on a tensor; its results always lie in fresh memory."""

    name = "ZipNN"
    call_size = 1 << 62
    DTYPES = {
        "BF16": "bfloat16",
        "F16": "float16",
        "F32": "float32",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
    }

    def __init__(self, layout: str, plain: bytes) -> None:
        super().__init__(layout, plain)
        if layout not in self.DTYPES:
            raise Missing(f"has no {layout}")
        try:
            import zipnn
        except ImportError:
            raise Missing("not installed") from None
        self.make = lambda: zipnn.ZipNN(input_format="byte", bytearray_dtype=self.DTYPES[layout], threads=1)

    def source(self):
        """Copies: compress() writes into its input."""
        return [bytearray(self.plain[at : at + self.call_size]) for at in range(0, len(self.plain), self.call_size)]

    def encode(self, source):
        return [self.make().compress(part) for part in source]

    def pieces(self, stored):
        return (self.make().decompress(part) for part in stored)


class ZipNNSmallCalls(ZipNN):
    """ZipNN in calls of 1 MiB, where its buffers stay in the CPU's cache: the size at which it is fastest."""

    name = "ZipNN, 1 MiB calls"
    call_size = 1 << 20


class Zstd(Peer):
    """zstd level 3 on the chunk grid of zipfs."""

    name = "zstd -3"

    def __init__(self, layout: str, plain: bytes) -> None:
        super().__init__(layout, plain)
        import zstandard

        self.compressor, self.decompressor = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()

    def encode(self, source):
        view = memoryview(source)
        return [self.compressor.compress(view[at : at + CHUNK_SIZE]) for at in range(0, len(view), CHUNK_SIZE)]

    def pieces(self, stored):
        return map(self.decompressor.decompress, stored)


class OpenZL(Peer):
    """OpenZL with the float graph that came out smallest for each layout when all of its nodes were tried:
    BF16: exponents to the entropy coder, the rest stored; wider types: byte lanes, each to the entropy coder; FP8: the
    entropy coder.
    """

    name = "OpenZL Huffman"
    coder = "Huffman"
    NUMPY = {"BF16": "u2", "F16": "u2", "F32": "u4", "F64": "u8", "F8_E4M3": "u1", "F8_E5M2": "u1"}

    def __init__(self, layout: str, plain: bytes) -> None:
        super().__init__(layout, plain)
        try:
            import openzl.ext
        except ImportError:
            raise Missing("not installed") from None
        self.zl = openzl.ext
        self.compressor = self.zl.Compressor()
        self.compressor.set_parameter(self.zl.CParam.FormatVersion, self.zl.MAX_FORMAT_VERSION)
        self.compressor.select_starting_graph(self.graph())
        self.cctx, self.dctx = self.zl.CCtx(), self.zl.DCtx()
        self.numbers = np.frombuffer(plain, dtype=self.NUMPY[layout])

    def graph(self):
        nodes, graphs = self.zl.nodes, self.zl.graphs
        coder = {"Huffman": graphs.Entropy, "FSE": graphs.Fse}[self.coder]()
        if self.layout == "BF16":
            return nodes.BFloat16Deconstruct()(self.compressor, sign_frac=graphs.Store(), exponent=coder)
        if self.NUMPY[self.layout] == "u1":
            return coder(self.compressor)
        lanes = nodes.TransposeSplit()(self.compressor, coder)
        return nodes.ConvertNumToStructLE()(self.compressor, lanes)

    def encode(self, source):
        self.cctx.ref_compressor(self.compressor)
        return [self.cctx.compress([self.zl.Input(self.zl.Type.Numeric, self.numbers)])]

    def pieces(self, stored):
        return (self.dctx.decompress(frame)[0] for frame in stored)

    def restored(self, stored) -> bytes:
        return b"".join(piece.content.as_bytes() for piece in self.pieces(stored))


class OpenZLFse(OpenZL):
    name = "OpenZL FSE"
    coder = "FSE"


PEERS = (Zipfs, ZipfsFresh, ZipNN, ZipNNSmallCalls, Zstd, OpenZL, OpenZLFse)
