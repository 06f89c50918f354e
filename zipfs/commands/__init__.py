"""The commands of the command line, a module each.

A module has add(commands), which adds the command's parser with its function; this calls the library and returns the
exit code. common.py holds what they share.
"""

import argparse

from zipfs.commands import (
    compress,
    decompress,
    doctor,
    du,
    estimate,
    info,
    mount,
    report,
    run,
    stats,
    tune,
    umount,
    verify,
    warm,
)

IN_ORDER = (compress, decompress, mount, umount, run, stats, tune, warm, verify, info, du, report, estimate, doctor)
"""As `zipfs --help` lists them."""


def add_all(commands: argparse._SubParsersAction) -> None:
    for module in IN_ORDER:
        module.add(commands)
