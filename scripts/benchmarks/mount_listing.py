"""`find` and `ls -lR` over many small containers in 1,000 folders, through the mount and over the source itself; and
what the daemon remembers of it.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from . import daemons, servers, table, verdicts
from .mount_work import MIB, Part, Work, say

NUM_FOLDERS = 1000
FIND_EXTRA_S, FIND_BAR = 1.0, 1.5
MEMORY_BAR = 64
"""MiB more after a `find`."""
COMMANDS = {"find": ["find"], "ls -lR": ["ls", "-lR"]}
RUNS = 3
SETTLE_S = 1.2
"""What the kernel believes of names is gone by then."""


def make(root: Path, num_files: int) -> Path:
    """A folder of equal containers, each a file of its own."""
    (root / "text").write_bytes(b"hello " * 2000)
    command = [sys.executable, "-m", "zipfs", "compress", str(root / "text"), str(root / "text.zipfs")]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    data = (root / "text.zipfs").read_bytes()
    for number in range(num_files):
        folder = root / "many" / f"folder{number % NUM_FOLDERS:04}"
        if number < NUM_FOLDERS:
            folder.mkdir(parents=True)
        (folder / f"model-{number // NUM_FOLDERS:05}.safetensors.zipfs").write_bytes(data)
    os.sync()
    return root / "many"


def seconds(command: list[str], path: str) -> float:
    time.sleep(SETTLE_S)
    start = time.perf_counter()
    subprocess.run([*command, path], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def mounted_and_found(source: Path, root: Path) -> float:
    """Seconds until a new mount is there and its first `find`, which reads each header, has ended."""
    start = time.perf_counter()
    with servers.folder_mount(source, root) as (mountpoint, _):
        subprocess.run([*COMMANDS["find"], str(mountpoint)], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def measure(work: Work) -> dict:
    """{num_files, found: mounted_and_found() of each run, grown: bytes, seconds: {server: {command: seconds per run}}};
    "source" has no mount.
    """
    say(f"{work.num_files} files")
    root = servers.make_folder(work.folder, "listing")
    many = make(root, work.num_files)
    found = [mounted_and_found(many, root) for _ in range(RUNS)]
    with contextlib.ExitStack() as stack:
        mountpoint, pid = stack.enter_context(servers.folder_mount(many, root))
        before = daemons.rss(pid)
        paths = {"source": str(many), "zipfs": str(mountpoint)}
        for name in work.drivers:
            paths[f"zipfs ({name})"] = str(stack.enter_context(servers.folder_mount(many, root, driver=name))[0])
        measured = {
            name: {title: [seconds(command, path) for _ in range(RUNS)] for title, command in COMMANDS.items()}
            for name, path in paths.items()
        }
        grown = daemons.rss(pid) - before
    return {"num_files": work.num_files, "found": found, "grown": grown, "seconds": measured}


def medians(result: dict, name: str) -> dict[str, float]:
    return {title: table.summary(values)["median"] for title, values in result["seconds"][name].items()}


def bars(result: dict) -> list[dict]:
    source, found = medians(result, "source")["find"], table.summary(result["found"])
    wanted = FIND_EXTRA_S + FIND_BAR * source
    name = f"{result['num_files']} files in {NUM_FOLDERS} folders"
    return [
        verdicts.ratio_bar(f"{name}: mounted and found, in s", found, "<=", wanted, f"plain find {source:.2f}"),
        verdicts.bar(f"{name}: daemon's RSS afterwards, MiB more", result["grown"] / MIB, "<=", MEMORY_BAR),
    ]


def markdown(result: dict) -> str:
    return table.markdown(
        [f"{result['num_files']} containers in {NUM_FOLDERS} folders, s", *COMMANDS],
        [[name, *(f"{median:.2f}" for median in medians(result, name).values())] for name in result["seconds"]],
    )


PART = Part("listing", measure, bars, markdown)
