"""What a mount's daemon counted: the evidence that a reader got decoded bytes, and not what somebody kept."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from zipfs import names


class Counts(dict):
    """Counters by name; one that this daemon does not have is 0."""

    def __missing__(self, name: str) -> int:
        return 0


def read(mountpoint: str) -> Counts:
    """All counters of the mount, of all files together. The one place that knows how to ask for them."""
    return Counts(json.loads((Path(mountpoint) / names.STATS).read_bytes())["total"])


@contextlib.contextmanager
def counting(mountpoint: str) -> Iterator[Counts]:
    """What the counters grew by in the block; filled in at its end."""
    grown, before = Counts(), read(mountpoint)
    yield grown
    grown.update({name: value - before[name] for name, value in read(mountpoint).items()})


def decoded_share(counts: Counts) -> float:
    """Bytes decoded over bytes read."""
    return counts["bytes_decoded"] / counts["bytes_read"] if counts["bytes_read"] else 0.0
