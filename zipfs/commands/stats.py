"""`zipfs stats`."""

import json
import sys
import time

from zipfs.commands import common

_CLEAR = "\x1b[H\x1b[J"
_DESCRIPTION = """\
Tells what the mount at MNT has counted since it began, for each file and in
total: reads and bytes served; bytes decoded, and how many for each byte
served (ampl.); chunks that were in the cache (hits) or that somebody else
was decoding (waits); seconds of decoding, of all threads; bytes decoded
ahead of readers that were used or wasted; reads that failed. --json has more.
Until somebody asks nothing is put together.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "stats", _stats, "what a mount has read, decoded and kept", _DESCRIPTION)
    parser.add_argument("mnt", metavar="MNT")
    parser.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=1.0,
        metavar="SECONDS",
        help="again and again, until it is interrupted or the mount ends (default: every second)",
    )
    common.add_json(parser)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1 << 20:
        raise ValueError(text)
    return seconds


def _stats(mnt: str, watch: float | None, as_json: bool) -> int:
    from zipfs.stats import describe_stats, read_stats

    while True:
        facts = read_stats(mnt)
        if as_json:
            print(json.dumps(facts, indent=None if watch else 2), flush=True)
        else:
            clear = _CLEAR if watch and sys.stdout.isatty() else ""
            print(clear + describe_stats(facts), flush=True)
        if not watch:
            return 0
        time.sleep(watch)
