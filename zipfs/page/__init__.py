"""The page of `zipfs report`: what a folder of containers stores, and what was saved where.

    info (zipfs/info.py) -> summed up by dtype, kind, file and tensor (sums.py, kinds.py) -> HTML (html.py, page.css)

One file without scripts that loads nothing. Reads headers and segment tables, no chunk.
"""

import os

from zipfs import names
from zipfs.info import file_info, info
from zipfs.output import refuse_existing
from zipfs.page.html import render
from zipfs.page.sums import Sums


def write_report(path: str, output: str, force: bool = False) -> list[Exception]:
    """Writes the page about the container or folder `path` to the file `output`; returns what could not be read.

    OutputExistsError when `output` is there and not to be replaced.
    """
    refuse_existing(output, force)
    if os.path.isdir(path):
        facts, failures = info(path)
        files = facts["files"]
    else:
        files, failures = [file_info(path)], []
    page = render(path, Sums(path, files), failures).encode()
    temporary = os.path.join(os.path.dirname(output), names.temporary_name(os.path.basename(output)))
    try:
        with open(temporary, "xb") as file:
            file.write(page)
        os.rename(temporary, output)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
    return failures
