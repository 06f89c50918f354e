"""A file of 1 TB, made for the test, and many opens of one file."""

import os
import time

from zipfs.pipeline import CHUNK_LOG2

from . import daemons, readers, servers, sparse_container, verdicts
from .mount_work import MIB, Part, Work, say

PLAIN_SIZE = 1 << 40
FIRST_BYTE_BAR_MS = 50
RSS_BAR, OPENS_RSS_BAR = 16, 2
"""MiB more after reads all over a file whose index has 64 MiB, and after the opens; nothing is kept, but malloc may."""
WARM_OPENS = 500
"""Before the first look."""


def first_byte_ms(path: str, source: str, offset: int) -> float:
    """Open, one byte and close, with neither in the page cache."""
    readers.drop_pages(path)
    readers.drop_pages(source)
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        found = os.pread(file.fileno(), 1, offset)
    taken = time.perf_counter() - start
    if found != sparse_container.VALUE:
        raise RuntimeError(f"{path}: a wrong byte at {offset}: {found!r}")
    return 1000 * taken


def measure_sparse(work: Work) -> dict:
    folder = servers.make_folder(work.folder, "sparse")
    container = folder / "sparse.zipfs"
    start = time.perf_counter()
    pages = -(-PLAIN_SIZE // (sparse_container.ENTRIES_PER_PAGE << CHUNK_LOG2))
    size = sparse_container.write(container, pages, CHUNK_LOG2)
    made = time.perf_counter() - start
    os.sync()
    with servers.zipfs_mount(work.folder, container, work.cache_size) as served:
        first = first_byte_ms(served.path, str(container), 0)  # of all, so the daemon opens the file anew
        before = daemons.rss(served.pid)
        offsets = [size * share // 16 for share in range(16)] + [size - 1]
        others = [first_byte_ms(served.path, str(container), offset) for offset in offsets]
        grown = daemons.rss(served.pid) - before
    return {
        "plain_size": size,
        "stored_size": container.stat().st_size,
        "made_s": made,
        "first_ms": first,
        "most_ms": max(others),
        "grown": grown,
    }


def open_often(path: str, num: int) -> None:
    for _ in range(num):
        fd = os.open(path, os.O_RDONLY)
        os.pread(fd, 1, 0)
        os.close(fd)


def measure_opens(work: Work) -> dict:
    """{num, fds, rss: more than before}"""
    num = 1000 if work.quick else 10_000
    with servers.zipfs_mount(work.folder, work.model().container, work.cache_size) as served:
        open_often(served.path, WARM_OPENS)
        time.sleep(0.5)
        fds, rss = daemons.num_fds(served.pid), daemons.rss(served.pid)
        open_often(served.path, num)
        time.sleep(0.5)  # releases come after close() has returned
        return {"num": num, "fds": daemons.num_fds(served.pid) - fds, "rss": daemons.rss(served.pid) - rss}


def measure(work: Work) -> dict:
    say("a file of 1 TB, and many opens")
    return {"sparse": measure_sparse(work), "opens": measure_opens(work)}


def bars(result: dict) -> list[dict]:
    sparse, opens = result["sparse"], result["opens"]
    num = f"{opens['num']} opens of one file"
    return [
        verdicts.bar("1 TB container: first byte, ms", sparse["first_ms"], "<=", FIRST_BYTE_BAR_MS),
        verdicts.bar("1 TB container: a byte anywhere, ms at most", sparse["most_ms"], "<=", FIRST_BYTE_BAR_MS),
        verdicts.bar("1 TB container: daemon's RSS, MiB more", sparse["grown"] / MIB, "<=", RSS_BAR),
        verdicts.bar(f"{num}: descriptors more", opens["fds"], "<=", 0),
        verdicts.bar(f"{num}: RSS, MiB more", opens["rss"] / MIB, "<=", OPENS_RSS_BAR),
    ]


def markdown(result: dict) -> str:
    sparse = result["sparse"]
    return (
        f"A container of {sparse['stored_size'] / MIB:.0f} MiB for a file of {sparse['plain_size'] / 2**40:.2f} TiB "
        f"(made in {sparse['made_s']:.1f} s): first byte after {sparse['first_ms']:.1f} ms, a byte elsewhere after "
        f"{sparse['most_ms']:.1f} ms at most, both with nothing in the page cache."
    )


PART = Part("scale", measure, bars, markdown)
