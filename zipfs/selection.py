"""What a user chose for the files that are compressed: which of them, at which level, of which dtype, for what saving.

A GLOB is matched against paths relative to the folder that is compressed, their parts joined by "/" (a file that was
named alone: its name):

    *        any characters but "/"; ? is one of them, [abc] one of these, [!abc] one of the others
    **       any number of folders, or at the end of the GLOB everything below
    w.bin    without "/" the name may be in any folder; "/w.bin" is only the one at the top
    cache    a GLOB that matches a folder matches all that is in it; "cache/" matches folders only

Rules are told apart by these orders, and by nothing else: what --exclude matches is never compressed; of the rest all
is, or with --include what one of these matches; of several levels or dtypes the last that matches holds.
"""

import functools
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zipfs.errors import UsageError
from zipfs.layouts import forced

LEVELS = {"fast": 0, "default": 1, "max": 2}
MIN_SAVING = 2.0
"""Percent; a file that shrinks by less is not worth a container."""


class Choice(NamedTuple):
    """What holds for one file: whether it is compressed, the number of its level, and the dtype of a file that names
    none itself (None: found out).
    """

    is_selected: bool
    level: int
    dtype: str | None


class Selection:
    """The rules of one run. Never changes; any thread.

    include, exclude: GLOBs; level: of files that `levels` (GLOB -> level) does not match; dtypes: GLOB -> dtype;
    min_saving: percent. UsageError for what is none of these.
    """

    def __init__(
        self,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        level: str = "default",
        levels: Mapping[str, str] | None = None,
        dtypes: Mapping[str, str] | None = None,
        min_saving: float = MIN_SAVING,
    ):
        if not 0 <= min_saving <= 100:
            raise UsageError(f"min_saving must be 0 to 100 percent, not {min_saving}")
        self.min_saving = min_saving
        self._include = [_pattern(glob) for glob in include]
        self._exclude = [_pattern(glob) for glob in exclude]
        self._level = level_number(level)
        self._levels = [(_pattern(glob), level_number(name)) for glob, name in (levels or {}).items()]
        self._dtypes = [(_pattern(glob), _dtype(name)) for glob, name in (dtypes or {}).items()]
        has_globs = self._include or self._exclude or self._levels or self._dtypes
        self._only = None if has_globs else Choice(True, self._level, None)

    def choice(self, path: str) -> Choice:
        """What holds for the file at `path`, relative to the folder that is compressed."""
        if self._only is not None:
            return self._only
        is_selected = not self._include or any(pattern.match(path) for pattern in self._include)
        is_excluded = any(pattern.match(path) for pattern in self._exclude)
        level = next((level for pattern, level in reversed(self._levels) if pattern.match(path)), self._level)
        dtype = next((dtype for pattern, dtype in reversed(self._dtypes) if pattern.match(path)), None)
        return Choice(is_selected and not is_excluded, level, dtype)

    def largest_worthwhile(self, plain_size: int) -> int:
        """Size of the largest container that saves enough."""
        return int(plain_size * (1 - self.min_saving / 100))


def level_number(level: str) -> int:
    if level not in LEVELS:
        raise UsageError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
    return LEVELS[level]


def relative(path: str, root: str | None) -> str:
    """`path` as GLOBs see it: below the folder `root`, or without one its name."""
    if root is None:
        return os.path.basename(path)
    top = os.path.join(root, "")
    return path[len(top) :] if path.startswith(top) else os.path.relpath(path, root)


def _dtype(name: str) -> str:
    forced(name, 0)  # raises for what is none
    return name


@functools.cache
def _pattern(glob: str) -> re.Pattern[str]:
    """Matches what `glob` does, and all below it."""
    parts = glob.strip("/").split("/")
    if not all(parts):
        raise UsageError(f"{glob!r} is no pattern of paths")
    if "/" not in glob.rstrip("/"):
        parts.insert(0, "**")
    if glob.endswith("/"):
        parts.append("**")
    last = len(parts) - 1
    regex = "".join(
        (".+" if i == last else "(?:[^/]+/)*") if part == "**" else _part(part) + ("" if i == last else "/")
        for i, part in enumerate(parts)
    )
    return re.compile(f"{regex}(?:/.*)?\\Z", re.DOTALL)


def _part(glob: str) -> str:
    """The expression for one part of a path."""
    result, at = "", 0
    while at < len(glob):
        character = glob[at]
        end = glob.find("]", at + (3 if glob.startswith("[!", at) else 2)) if character == "[" else -1
        if end > 0:
            negated, members = glob[at + 1] == "!", glob[at + 1 : end].removeprefix("!")
            result += f"[{'^/' if negated else ''}{_members(members)}]"
            at = end
        else:
            result += {"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character)
        at += 1
    return result


def _members(text: str) -> str:
    """The inside of a set; ranges such as a-z stay."""
    return re.sub(r"([\\\[\]^&~|])", r"\\\1", text)
