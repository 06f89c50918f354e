"""`zipfs stats`."""

import json
import sys
import time

from zipfs.commands import common

_INTERVAL_S = 1
_CLEAR = "\x1b[H\x1b[J"
_DESCRIPTION = """\
Tells what the mount at MNT has counted since it began, for each file and in
total: reads and bytes served; bytes decoded, and how many for each byte
served (ampl.); chunks that were in the cache (hits) or that somebody else
was decoding (waits); seconds of decoding, of all threads; bytes decoded
ahead of readers that were used or wasted; reads that failed. --json has more.
Until somebody asks nothing is put together. What the kernel reads by itself
(files that are no containers, and resident ones, where root mounts) is not
counted.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "stats", _stats, "what a mount has read, decoded and kept", _DESCRIPTION)
    parser.add_argument("mnt", metavar="MNT", help="where it is mounted")
    parser.add_argument("--watch", action="store_true", help="every second, until it is interrupted or the mount ends")
    common.add_json(parser)


def _stats(mnt: str, watch: bool, as_json: bool) -> int:
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
        time.sleep(_INTERVAL_S)
