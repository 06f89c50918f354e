"""The C module (native/module.c): codec, containers, cache and read path. See native/zipfs.h for the contracts.

Every call that codes, decodes or reads drops the GIL. Buffers are any contiguous object with the buffer protocol.
Failures raise `OSError` where the system failed, `MemoryError`, `ValueError` for wrong arguments and closed objects,
`RuntimeError` where ZIPFS_KERNEL cannot be had, and `FormatError` with `status` (a name of docs/format.md, "BAD_MAGIC")
where a container breaks a rule.
"""

from typing import Any, NamedTuple

Buffer = bytes | bytearray | memoryview | Any

class FormatError(Exception):
    """A container breaks a rule of docs/format.md. args: (status, where). Base of zipfs.errors.FormatError."""

    status: str

def kernel() -> str:
    """Name of the kernel in use; RuntimeError when ZIPFS_KERNEL demands one that cannot be had."""

def kernels() -> list[tuple[str, bool, str | None]]:
    """(name, built, lacks) of each kernel, best first; lacks: a feature of CPUs that this one lacks for it, or None."""

def hash(data: Buffer, seed: int = 0) -> int:
    """XXH3-64."""

LAYOUTS: dict[str, int]
"""Layout ids by name, docs/format.md section 4.1, GUESS, and the formats of blocks (Q4_K)."""

class Codec:
    """Scratch memory for one thread at a time (RuntimeError when used by two at once)."""

    def __init__(self, chunk_log2: int) -> None: ...
    def encode(
        self, src: Buffer, number: int, segments: Buffer, level: int, dst: Buffer, copies: Buffer = b""
    ) -> list[tuple[int, int, int, int]]:
        """Encodes the consecutive chunks that src holds, the first of them chunk `number`.

        src must end at a chunk's or the file's end. segments: packed struct zipfs_segment records (`<QQII`, last word
        zero), sorted; dst: at least len(src) bytes, receives the payloads packed; copies: packed records `<QQQ` (plain
        offset, size, offset of the same bytes before the record's chunk), sorted, at most 8 in a chunk and none across
        two: they become COPY runs (docs/format.md section 8). Returns (stored_size, kind, stored_hash, plain_hash) per
        chunk. Each chunk was decoded again and compared, but for what it copies.
        """
    def decode(
        self, payload: Buffer, number: int, entry: tuple[int, int, int, int], dst: Buffer, copies: bool = False
    ) -> list[tuple[int, int, int]]:
        """Decodes one chunk into dst, whose length must be the chunk's plain size.

        copies: whether the container may hold them. Returns (at, size, target) of each: plain bytes [target, target +
        size) of the file are missing in dst at `at`. The caller checks that each target ends before the chunk.
        """

def chunk_runs(payload: Buffer, plain_size: int) -> list[tuple[int, int, int, int]]:
    """(layout, phase, plain_size, stored_size) of each run of a payload of kind runs."""

def header_parse(data: Buffer, file_size: int) -> dict[str, Any]:
    """The fields of struct zipfs_header by name (sha256: bytes or None)."""

def header_write(fields: dict[str, Any]) -> bytes:
    """The inverse: 256 bytes."""

class Reader:
    """An open container, without a cache. Threads may share it. Context manager."""

    def __init__(self, fd: int) -> None:
        """Duplicates fd; header and root are read and checked."""
    header: dict[str, Any]
    def entry(self, number: int) -> tuple[int, tuple[int, int, int, int]]:
        """(offset, entry)"""
    def read_chunk(self, codec: Codec, number: int, dst: Buffer, check_plain: bool = False) -> None: ...
    def check_chunk(self, codec: Codec, number: int) -> None:
        """Checks the payload's stored_hash."""
    def close(self) -> None: ...

class Cache:
    """Decoded chunks, LRU by bytes, for Files."""

    def __init__(
        self, budget: int, jobs: int = 0, *, ahead_size: int = 0, drop_source: bool = False
    ) -> None:
        """As struct zipfs_cache_options: budget and ahead_size in bytes."""
    def stats(self) -> dict[str, int]:
        """The counters of struct zipfs_stats by name."""
    def report(self) -> bytes:
        """One JSON object: settings, total (as stats()), and files: a list, open ones first, then those closed lately,
        of name (json.loads() and os.fsencode() give back its bytes), size, is_open and the counters of
        struct zipfs_file_stats.
        """
    def trim(self) -> None:
        """Gives back all memory that is held for later: cached chunks, spare buffers."""

class File:
    """A container (decoded) or another file (passed through), read through a Cache.

    Threads may share it. Context manager.
    """

    def __init__(self, cache: Cache, fd: int, name: str | bytes, plain: bool = False) -> None:
        """Takes ownership of fd once it returns."""
    size: int
    header: dict[str, Any] | None
    num_reads: int
    """Reads so far, also those through handles."""
    def pread(self, size: int, offset: int) -> bytes: ...
    def pread_into(self, dst: Buffer, offset: int) -> int: ...
    def stats(self) -> dict[str, int]:
        """The counters of struct zipfs_file_stats by name; they go on from those of the last File of that name."""
    def handle(self) -> int:
        """Address for fuse_file_info.fh, with one reference that release() returns."""
    def close(self) -> None: ...

def release(handle: int) -> None:
    """Gives back a reference made by File.handle()."""

def fuse_read_address(libfuse_major: int) -> int:
    """Address of the C read operation for libfuse 2 or 3."""

def open_beneath(dir_fd: int, path: bytes, flags: int) -> int:
    """openat2 beneath dir_fd without symlinks; OSError."""

Stat = tuple[int, int, int, int, int, int, int, int, int, int, int, int]
"""(dev, ino, mode, nlink, uid, gid, size, blocks, blksize, atime_ns, mtime_ns, ctime_ns)"""

Found = tuple[Stat, Stat, bool]
"""(attributes in the source, attributes as shown, whether it is a container)"""
Scan = Any
"""A capsule of a struct zipfs_scan."""

def entries(scan: Scan) -> list[tuple[bytes, Found]]:
    """What a scan found, by name, unsorted."""

class Headers:
    """What the source holds, and which of it are containers: their headers are remembered by version. Any thread."""

    num_reads: int
    """Files whose header was read so far."""
    def find(self, dir_fd: int, path: bytes, suffix: bytes) -> Found:
        """What is at path. Only a file whose name ends with suffix, and is longer, is looked at for a header. OSError."""
    def scan(self, dir_fd: int, path: bytes, suffix: bytes, hidden: bytes = ...) -> Scan:
        """The same of the files, folders and symlinks of a folder. OSError.

        With hidden (which may be empty) of what is shown: containers without the suffix unless something else is shown
        by that name, and nothing that would be shown as `hidden`.
        """

api: Any
"""A capsule with the functions that zipfs._fuse uses (native/api.h)."""

def log_to_fd(fd: int) -> None:
    """Where damage is told; -1 for syslog."""

def log(line: str | bytes) -> None: ...
def tune_malloc() -> None:
    """For a daemon: keep freed reply buffers of up to 32 MiB on the heap instead of mapping each anew.

    Page faults cost more than decoding.
    """

def zstd_compress(data: Buffer) -> bytes:
    """One frame in the form of docs/format.md section 4.2 (coding ZSTD), level 3."""

def zstd_decompress(frame: Buffer, size: int) -> bytes:
    """The inverse; FormatError BAD_ZSTD when the frame does not hold exactly size bytes."""
