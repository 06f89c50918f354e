"""How a mount serves its readers: profiles, options as after mount's `-o`, and what they come to together."""

import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from zipfs import drivers
from zipfs.errors import UsageError
from zipfs.sizes import parse_size

MAX_JOBS = 1024
ALWAYS_ON = {"ro", "nosuid", "nodev", "default_permissions"}
FLAGS = {"allow_other", "noexec"}
DEFAULT_PROFILE = "serving"


class Profile(NamedTuple):
    """What a mount uses for one way of reading. Sizes in bytes, those of MountOptions."""

    readahead_kb: int
    cache_size: int
    ahead_size: int
    drop_source_cache: bool
    idle_s: int


PROFILES = {
    "serving": Profile(
        readahead_kb=2048, cache_size=256 << 20, ahead_size=16 << 20, drop_source_cache=False, idle_s=10
    ),
    "random": Profile(readahead_kb=128, cache_size=256 << 20, ahead_size=16 << 20, drop_source_cache=False, idle_s=600),
    "low-memory": Profile(readahead_kb=512, cache_size=32 << 20, ahead_size=4 << 20, drop_source_cache=True, idle_s=2),
}
"""serving: files are read from end to end, by read or mmap. Measured on 2 cores, 1 GiB of BF16, 9 interleaved runs:
over 1024 KiB of readahead, reading is 1.11 times as fast (quartiles 0.97 to 1.51) and mapping 1.07 times (0.94 to 1.18); on
busy cores 1.16 to 1.31 and 1.16. 4096 maps slower.

random: a page fault, which reads the whole window, takes 0.16 ms instead of 1.2.

ahead_size is for many streams of small requests at once, of 1 MiB each, and costs nothing where there is none. Measured
on 2 cores, over none, at a window of 128 KiB: read 1.16 times as fast, mmap 1.18, O_DIRECT 128 KiB 1.5.

low-memory: for daemons in small containers, whose memory the system's page cache counts in.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MountOptions:
    """readahead_kb: how far the kernel reads ahead of a reader; cache_size: bytes of decoded chunks and buffers that
    the daemon may hold; ahead_size: of these, for chunks decoded ahead of sequential readers; drop_source_cache: whether
    containers are dropped from the page cache behind sequential readers; idle_s: seconds after which a daemon that
    nobody reads from gives its memory back, 1 to 2 times that; resident_size: bytes of memory for files that are kept whole
    once they were read; jobs: threads that decode and copy at one time, 0: one per
    CPU; flags: options for mount(8); driver: one of zipfs.drivers.NAMES, None for the best there is.
    """

    profile: str
    readahead_kb: int
    cache_size: int
    ahead_size: int
    drop_source_cache: bool
    idle_s: int
    resident_size: int = 0
    jobs: int = 0
    flags: dict[str, bool]
    driver: str | None = None
    log_file: str | bytes | os.PathLike | None = None


def choose(*, options: str | Iterable[str] = (), **given: Any) -> MountOptions:
    """Those of the profile, but for what is given: by name, or else as words after `-o` such as
    `allow_other,readahead_kb=4096`. None is not given.

    UsageError names what is unknown or cannot be.
    """
    unknown = set(given) - {field.name for field in dataclasses.fields(MountOptions)} | given.keys() & {"flags"}
    if unknown:
        raise TypeError(f"unknown mount options: {', '.join(sorted(unknown))}")
    flags, values = parse_options(options)
    values |= {name: value for name, value in given.items() if value is not None}
    profile = values.pop("profile", DEFAULT_PROFILE)
    check_name("profile", profile, PROFILES)
    chosen = MountOptions(profile=profile, flags=flags, **(PROFILES[profile]._asdict() | values))
    if chosen.driver is not None:
        check_name("driver", chosen.driver, drivers.NAMES)
    if not (0 if "jobs" not in values else 1) <= chosen.jobs <= MAX_JOBS:
        raise UsageError(f"jobs {chosen.jobs}: must be 1 to {MAX_JOBS}")
    for name, least, end in (
        ("cache_size", 0, 1 << 63),
        ("ahead_size", 0, 1 << 63),
        ("resident_size", 0, 1 << 63),
        ("readahead_kb", 0, 1 << 31),
        ("idle_s", 1, 1 << 31),
    ):
        value = getattr(chosen, name)
        if not least <= value < end:
            raise UsageError(f"{name.replace('_', ' ')} {value}: must be {least} or more, and below {end}")
    return chosen


def check_name(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise UsageError(f"{what} {name!r}: unknown; known are {', '.join(known)}")


VALUES: dict[str, Callable[[str], Any]] = {
    "profile": str,
    "cache_size": parse_size,
    "ahead_size": parse_size,
    "resident_size": parse_size,
    "readahead_kb": int,
    "idle_s": int,
    "jobs": int,
    "driver": str,
    "log_file": str,
}
"""Options of the form name=value."""


def parse_options(options: str | Iterable[str]) -> tuple[dict[str, bool], dict[str, Any]]:
    """(flags for mount(8), values by name) from `allow_other,cache_size=1G`. UsageError names what is not known.

    What always holds (ro, nosuid, nodev, default_permissions) may be said.
    """
    flags: dict[str, bool] = {}
    values: dict[str, Any] = {}
    words = options.split(",") if isinstance(options, str) else [word for part in options for word in part.split(",")]
    for word in filter(None, words):
        name, has_value, text = word.partition("=")
        if has_value and text and name in VALUES:
            values[name] = parse_value(word)
        elif word == "drop_source_cache":
            values[word] = True
        elif word in FLAGS:
            flags[word] = True
        elif word not in ALWAYS_ON:
            known = [*sorted(FLAGS | ALWAYS_ON), "drop_source_cache", *(f"{name}=…" for name in VALUES)]
            raise UsageError(f"-o {word}: unknown mount option; known are {', '.join(known)}")
    return flags, values


def parse_value(word: str) -> Any:
    name, _, text = word.partition("=")
    try:
        return VALUES[name](text)
    except ValueError as error:
        raise UsageError(f"-o {word}: {error}") from None
