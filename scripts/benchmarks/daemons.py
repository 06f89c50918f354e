"""What a daemon holds: memory, descriptors, libraries. Its pid comes from servers.Served."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path


def rss(pid: int) -> int:
    """Bytes of memory that it has in RAM, now."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) << 10


def num_fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def has_loaded(pid: int, word: str) -> bool:
    """Whether a file whose path holds the word is mapped."""
    return word in Path(f"/proc/{pid}/maps").read_text()


@contextlib.contextmanager
def watching_rss(pid: int, interval_s: float = 0.1) -> Iterator[list[int]]:
    """A list that grows by the RSS every interval for as long as the block runs."""
    seen, done = [rss(pid)], threading.Event()

    def watch() -> None:
        while not done.wait(interval_s):
            seen.append(rss(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def wait_below(pid: int, size: int, timeout_s: float) -> tuple[float, int]:
    """(seconds until its RSS is below size, or the timeout; the RSS then)"""
    start = time.monotonic()
    while (held := rss(pid)) >= size and time.monotonic() - start < timeout_s:
        time.sleep(0.2)
    return time.monotonic() - start, held
