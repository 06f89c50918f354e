"""`mount.zipfs` and `mount.fuse.zipfs`: what mount(8) runs for `mount -t zipfs SRC MNT` and for lines of fstab.

Both are links to zipfs, which knows them by the name it is called by. mount(8) calls `mount.zipfs SRC MNT [-sfnv]
[-N namespace] [-o options] [-t type]` and takes exit codes of its own.
"""

import argparse
import os
from collections.abc import Iterable

from zipfs.commands import common
from zipfs.errors import MountError, UsageError, ZipfsError
from zipfs.names import MOUNT_HELPERS, show

USAGE_EXIT_CODE = 1
FAILURE_EXIT_CODE = 32
FOR_OTHERS = {
    *("defaults", "auto", "noauto", "nofail", "_netdev", "user", "users", "nouser", "owner", "group"),
    *("atime", "noatime", "relatime", "norelatime", "strictatime", "diratime", "nodiratime", "lazytime", "nolazytime"),
    *("async", "exec", "silent", "loud"),
    *("rw", "dev", "suid"),
}
"""Words that tell mount(8) or systemd something, or the kernel what means nothing here; and those that ask for what
never is: a mount is read-only, without devices and setuid bits.
"""
PREFIXES_FOR_OTHERS = ("x-", "X-", "comment=", "user=", "uhelper=", "helper=")


def main(arguments: list[str]) -> int:
    """Mounts as mount(8) asks; its exit codes: 0, 1 for wrong usage, 32 when the mount failed."""
    try:
        return _mount(**vars(_parser().parse_args(arguments)))
    except SystemExit as error:  # how argparse ends
        return USAGE_EXIT_CODE if error.code else 0
    except UsageError as error:
        common.complain(str(error))
        return USAGE_EXIT_CODE
    except (ZipfsError, OSError) as error:
        common.complain(common.describe(error))
        return FAILURE_EXIT_CODE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(MOUNT_HELPERS[0], description="Mounts SRC at MNT, as mount(8) has it done.")
    parser.add_argument("src", metavar="SRC")
    parser.add_argument("mnt", metavar="MNT")
    parser.add_argument("-s", dest="sloppy", action="store_true", help="pass over options that are unknown")
    parser.add_argument("-f", dest="fake", action="store_true", help="mount nothing, only check")
    parser.add_argument("-n", dest="_", action="store_true", help="means nothing")
    parser.add_argument("-v", dest="verbose", action="store_true", help="say what is in force")
    parser.add_argument("-t", dest="_", metavar="TYPE", help="means nothing")
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="OPT,…", help="as of zipfs mount")
    return parser


def _mount(src: str, mnt: str, sloppy: bool, fake: bool, verbose: bool, options: list[str], **_: object) -> int:
    from zipfs.mount import mount_command, prepare
    from zipfs.mount_options import choose

    chosen = list(select_words(options, sloppy))
    if _is_mounted(src, mnt):
        common.complain(f"{show(mnt)}: mounted already")
        return 0
    if fake:
        prepare(src, mnt, choose(options=chosen).flags)
        return 0
    return mount_command(src, mnt, options=chosen, verbose=verbose)


def _is_mounted(src: str, mnt: str) -> bool:
    """Whether src is there already: `mount -a` asks for each line of fstab whose source the kernel does not list, and
    it lists zipfs for all.
    """
    from zipfs.stats import read_stats

    try:
        return read_stats(mnt)["source"] == os.path.realpath(src)
    except MountError:
        return False


def select_words(options: Iterable[str], sloppy: bool) -> Iterable[str]:
    """Those that are for zipfs, the last of exec and noexec among them. UsageError for unknown ones, unless sloppy."""
    from zipfs.mount_options import parse_options

    words = [word for part in options for word in part.split(",") if word]
    is_exec = [word for word in words if word in ("exec", "noexec")][-1:] == ["exec"]
    for word in words:
        if word in FOR_OTHERS or word.startswith(PREFIXES_FOR_OTHERS) or (is_exec and word == "noexec"):
            continue
        try:
            parse_options(word)
        except UsageError:
            if not sloppy:
                raise
            common.complain(f"-o {word}: unknown, passed over")
            continue
        yield word
