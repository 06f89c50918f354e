"""`find` and `ls -lR` over many small containers in 1,000 folders, through the mount and over the source itself."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from . import servers, table

NUM_FOLDERS = 1000
FIND_EXTRA_S, FIND_BAR = 1.0, 1.5
COMMANDS = {"find": ["find"], "ls -lR": ["ls", "-lR"]}
SETTLE_S = 1.2
"""What the kernel believes of names is gone by then."""


def make(root: Path, num_files: int) -> None:
    """Equal containers, each a file of its own."""
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


def seconds(command: list[str], path: str) -> float:
    time.sleep(SETTLE_S)
    start = time.perf_counter()
    subprocess.run([*command, path], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def run(work: Path, num_files: int, drivers: list[str], runs: int) -> dict:
    """{num_files, mounted_s, seconds: {server: {command: seconds per run}}}; "source" is without a mount."""
    root = servers.make_folder(work, "listing")
    make(root, num_files)
    with contextlib.ExitStack() as stack:
        start = time.perf_counter()
        mounts = [stack.enter_context(servers.folder_mount(root / "many", root / "zipfs"))]
        mounted = time.perf_counter() - start
        mounts += [stack.enter_context(servers.folder_mount(root / "many", root / name, name)) for name in drivers]
        paths = {"source": str(root / "many")}
        paths |= {"zipfs" if path.name == "zipfs" else f"zipfs ({path.name})": str(path) for path in mounts}
        measured = {
            name: {title: [seconds(command, path) for _ in range(runs)] for title, command in COMMANDS.items()}
            for name, path in paths.items()
        }
    return {"num_files": num_files, "mounted_s": mounted, "seconds": measured}


def medians(listing: dict, name: str) -> dict[str, float]:
    return {title: table.summary(values)["median"] for title, values in listing["seconds"][name].items()}


def bars(listing: dict) -> list[dict]:
    source, shown = medians(listing, "source")["find"], medians(listing, "zipfs")["find"]
    wanted = FIND_EXTRA_S + FIND_BAR * source
    name = f"{listing['num_files']} files: mounted and found, in s"
    return [table.bar(name, listing["mounted_s"] + shown, "<=", wanted)]


def to_markdown(listing: dict) -> str:
    return table.markdown(
        [f"{listing['num_files']} containers in {NUM_FOLDERS} folders, s", *COMMANDS],
        [[name, *(f"{median:.2f}" for median in medians(listing, name).values())] for name in listing["seconds"]],
    )
