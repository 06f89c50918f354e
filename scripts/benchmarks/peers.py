"""The codecs that `scripts/bench codec` sets side by side, each for one data set and on one thread.

A peer is made with (layout, plain) and has: `name`; `source()`, a fresh input for one encode (not timed);
`encode(source)`; `size(stored)`; `decode(stored)`, which leaves the plain bytes where the peer puts them;
`restored(stored)`, the plain bytes (not timed); `encode_once`, where encoding is slow or is measured already.
Peers that lack a library or a layout raise Missing with the reason.
"""

import mmap
import struct

import numpy as np

from zipfs import _native
from zipfs.chunk_size import chunk_log2_of
from zipfs.pipeline import CHUNK_LOG2

CHUNK_SIZE = 1 << CHUNK_LOG2
LEVEL_FAST, LEVEL_DEFAULT, LEVEL_MAX = 0, 1, 2
INDEX_PAGE_SIZE, INDEX_PAGE_ENTRIES = 4096, 127


class Missing(Exception):
    """This peer cannot run here, or not on this layout; the argument says why."""


class Peer:
    name: str
    encode_once = False

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


class Memcpy(Peer):
    """A plain copy, to where the pages exist already."""

    name = "memcpy"

    def __init__(self, layout: str, plain: bytes) -> None:
        super().__init__(layout, plain)
        self.target = np.ones(len(plain), dtype=np.uint8)

    def encode(self, source):
        np.copyto(self.target, np.frombuffer(source, dtype=np.uint8))
        return [source]

    def pieces(self, stored):
        np.copyto(self.target, np.frombuffer(stored[0], dtype=np.uint8))
        yield self.target


class MemcpyFresh(Memcpy):
    """A plain copy into newly mapped memory, whose page faults count: what nothing that decodes there can beat."""

    name = "memcpy into fresh memory"
    encode_once = True
    huge = False

    def pieces(self, stored):
        fresh = np.frombuffer(fresh_memory(len(self.plain), self.huge), dtype=np.uint8)
        np.copyto(fresh, np.frombuffer(stored[0], dtype=np.uint8))
        yield fresh


class MemcpyHuge(MemcpyFresh):
    name = "memcpy into fresh huge pages"
    huge = True


def fresh_memory(size: int, huge: bool) -> mmap.mmap:
    """Newly mapped; huge: the kernel is asked for huge pages, which fault less often."""
    fresh = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge:
        fresh.madvise(mmap.MADV_HUGEPAGE)
    return fresh


class Zipfs(Peer):
    """zipfs, each chunk decoded into the same chunk-sized buffer. encode() decodes and compares every chunk as well."""

    name = "zipfs"
    level = LEVEL_DEFAULT

    def __init__(self, layout: str, plain: bytes, chunk_log2: int | None = None) -> None:
        super().__init__(layout, plain)
        self.chunk_log2 = chunk_log2 or chunk_log2_of(self.level)
        self.codec = _native.Codec(self.chunk_log2)
        self.segments = struct.pack("<QQII", 0, len(plain), _native.LAYOUTS[layout], 0)
        self.payloads = bytearray(len(plain))
        self.chunk = memoryview(bytearray(1 << self.chunk_log2))

    def encode(self, source):
        return self.codec.encode(source, 0, self.segments, self.level, self.payloads)

    def size(self, stored) -> int:
        """Payloads and their share of the index, which is what a container needs to hold them."""
        return sum(entry[0] for entry in stored) + len(stored) * INDEX_PAGE_SIZE // INDEX_PAGE_ENTRIES

    def target(self, number: int, size: int) -> memoryview:
        return self.chunk[:size]

    def decode(self, stored) -> None:
        payloads, offset = memoryview(self.payloads), 0
        for number, entry in enumerate(stored):
            end = offset + entry[0]
            plain_size = min(1 << self.chunk_log2, len(self.plain) - (number << self.chunk_log2))
            self.codec.decode(payloads[offset:end], number, entry, self.target(number, plain_size))
            offset = end

    def restored(self, stored) -> bytes:
        whole = ZipfsFresh(self.layout, self.plain, self.chunk_log2)
        whole.payloads = self.payloads
        whole.decode(stored)
        return bytes(whole.memory)


class ZipfsFresh(Zipfs):
    """zipfs, decoded into newly mapped memory, whose page faults count."""

    name = "zipfs into fresh memory"
    encode_once = True
    huge = False

    def target(self, number: int, size: int) -> memoryview:
        offset = number << self.chunk_log2
        return self.memory[offset : offset + size]

    def decode(self, stored) -> None:
        self.memory = memoryview(fresh_memory(len(self.plain), self.huge))
        super().decode(stored)


class ZipfsHuge(ZipfsFresh):
    """The same in huge pages, as zipfs.open().pread() and zipfs.safetensors ask for where they make the memory."""

    name = "zipfs into fresh huge pages"
    huge = True


class ZipfsFast(Zipfs):
    name = "zipfs fast"
    level = LEVEL_FAST


class ZipfsMax(Zipfs):
    name = "zipfs max"
    level = LEVEL_MAX
    encode_once = True


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

    def __init__(self, layout: str, plain: bytes, threads: int = 1) -> None:
        super().__init__(layout, plain)
        if layout not in self.DTYPES:
            raise Missing(f"has no {layout}")
        try:
            import zipnn
        except ImportError:
            raise Missing(f"{self.name} is not installed") from None
        self.make = lambda: zipnn.ZipNN(input_format="byte", bytearray_dtype=self.DTYPES[layout], threads=threads)

    def source(self):
        """Copies: compress() writes into its input."""
        return [bytearray(self.plain[at : at + self.call_size]) for at in range(0, len(self.plain), self.call_size)]

    def encode(self, source):
        return [self.make().compress(part) for part in source]

    def pieces(self, stored):
        return (self.make().decompress(part) for part in stored)


class ZipNNSmallCalls(ZipNN):
    """ZipNN in calls of 1 MiB, where its buffers stay in the CPU's cache: the size at which it is fastest."""

    name = "ZipNN in 1 MiB calls"
    call_size = 1 << 20


class Zstd(Peer):
    """zstd level 3, on the chunk grid of zipfs."""

    name = "zstd -3"
    level = 3

    def __init__(self, layout: str, plain: bytes, chunk_size: int = CHUNK_SIZE) -> None:
        super().__init__(layout, plain)
        import zstandard

        self.chunk_size = chunk_size
        self.compressor = zstandard.ZstdCompressor(level=self.level)
        self.decompressor = zstandard.ZstdDecompressor()

    def encode(self, source):
        view, size = memoryview(source), self.chunk_size
        return [self.compressor.compress(view[at : at + size]) for at in range(0, len(view), size)]

    def pieces(self, stored):
        return map(self.decompressor.decompress, stored)


class Zstd19(Zstd):
    name = "zstd -19"
    level = 19
    encode_once = True


class OpenZL(Peer):
    """OpenZL, the whole data set in one call, with the one of its float graphs that makes the first MiBs smallest:
    exponents to the entropy coder, the other bits stored or their byte lanes to it as well; all byte lanes to it;
    elements of a byte as they are.
    """

    name = "OpenZL Huffman"
    coder = "Entropy"
    NUMPY = {"BF16": "u2", "F16": "u2", "I16": "u2", "F32": "u4", "I32": "u4", "F64": "u8", "I64": "u8"}
    DECONSTRUCT = {"BF16": "BFloat16Deconstruct", "F16": "Float16Deconstruct", "F32": "Float32Deconstruct"}
    SAMPLE_SIZE = 4 << 20

    def __init__(self, layout: str, plain: bytes) -> None:
        super().__init__(layout, plain)
        try:
            import openzl.ext
        except ImportError:
            raise Missing(f"{self.name} is not installed") from None
        self.zl = openzl.ext
        self.cctx, self.dctx = self.zl.CCtx(), self.zl.DCtx()
        dtype = self.NUMPY.get(layout, "u1")
        self.numbers = np.frombuffer(plain[: len(plain) - len(plain) % int(dtype[1])], dtype=dtype)
        self.tail = plain[self.numbers.nbytes :]
        sample = self.numbers[: self.SAMPLE_SIZE // self.numbers.itemsize]
        choices = ["lanes"] if self.numbers.itemsize > 1 else ["bytes"]
        choices += ["rest stored", "rest in lanes"] if layout in self.DECONSTRUCT else []
        self.compressor = min(map(self.make, choices), key=lambda made: len(self.compress(made, sample)))

    def make(self, choice: str):
        """A compressor for one of the choices of graph."""
        compressor = self.zl.Compressor()
        compressor.set_parameter(self.zl.CParam.FormatVersion, self.zl.MAX_FORMAT_VERSION)
        compressor.select_starting_graph(self.graph(compressor, choice))
        return compressor

    def graph(self, compressor, choice: str):
        nodes, graphs = self.zl.nodes, self.zl.graphs
        coder = getattr(graphs, self.coder)()
        if choice == "bytes":
            return coder(compressor)
        lanes = nodes.TransposeSplit()(compressor, coder)
        if choice == "lanes":
            return nodes.ConvertNumToStructLE()(compressor, lanes)
        rest = graphs.Store() if choice == "rest stored" else lanes
        return getattr(nodes, self.DECONSTRUCT[self.layout])()(compressor, sign_frac=rest, exponent=coder)

    def compress(self, compressor, numbers) -> bytes:
        self.cctx.ref_compressor(compressor)
        return self.cctx.compress([self.zl.Input(self.zl.Type.Numeric, numbers)])

    def encode(self, source):
        return [self.compress(self.compressor, self.numbers), self.tail]

    def pieces(self, stored):
        return (self.dctx.decompress(frame)[0] for frame in stored[:1])

    def restored(self, stored) -> bytes:
        return b"".join(piece.content.as_bytes() for piece in self.pieces(stored)) + stored[1]


class OpenZLFse(OpenZL):
    name = "OpenZL FSE"
    coder = "Fse"


PEERS = (
    *(Zipfs, ZipfsFresh, ZipfsHuge, ZipfsFast, ZipfsMax),
    *(ZipNN, ZipNNSmallCalls, Zstd, Zstd19, OpenZL, OpenZLFse),
    *(Memcpy, MemcpyFresh, MemcpyHuge),
)
