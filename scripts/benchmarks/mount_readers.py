"""Several readers at once, of one file and of eight: who reads what others read costs no second decoding."""

import functools
import os
from pathlib import Path

import zipfs

from . import counters, crowd, readers, servers, table, verdicts
from .mount_work import Part, Work, say, write_model

READERS = (1, 2, 4, 8)
NUM_FILES = 8
WAYS = ("read", "O_DIRECT")
DECODES_BAR, SPEED_BAR = 1.0, 1.0


def make_files(work: Work) -> Path:
    """A folder of eight containers, as large as the model together."""
    plain, packed = work.folder / "eight.plain", work.folder / "eight"
    packed.mkdir()
    for number in range(NUM_FILES):
        write_model(plain, "bf16", work.size // NUM_FILES)
        zipfs.compress(plain, packed / f"{number}.zipfs")
    plain.unlink()
    work.add_evictor(packed)
    os.sync()
    return packed


def read_all(paths: list[str], way: str) -> int:
    return sum(readers.WAYS[way](path) for path in paths)


def read_together(shares: list[list[str]], mountpoint: str, way: str) -> tuple[float, int]:
    """(GB/s of all readers together, chunks decoded); each reader reads its share of the files."""
    servers.empty_cache(mountpoint)
    for path in {path for share in shares for path in share}:
        readers.drop_pages(path)
    with counters.counting(mountpoint) as counted:
        total, seconds = crowd.run([functools.partial(read_all, share, way) for share in shares])
    return total / seconds / 1e9, counted["chunks_decoded"]


def measure_shares(by_readers: dict[int, list[list[str]]], mountpoint: str, way: str, runs: int, chunks: int) -> list:
    """[{readers, speed, over_one, decodes: chunks decoded over chunks there are, the most of a run}]"""
    speeds: dict[int, list[float]] = {num: [] for num in by_readers}
    decodes = dict.fromkeys(by_readers, 0.0)
    for run in range(runs):
        for num in by_readers if run % 2 == 0 else reversed(by_readers):
            speed, decoded = read_together(by_readers[num], mountpoint, way)
            speeds[num].append(speed)
            decodes[num] = max(decodes[num], decoded / chunks)
    return [
        {
            "readers": num,
            "speed": table.summary(values),
            "over_one": verdicts.ratios(values, speeds[1]),
            "decodes": decodes[num],
        }
        for num, values in speeds.items()
    ]


def num_chunks(containers: list[Path], chunk_size: int) -> int:
    sizes = [os.stat(path).st_size for path in containers]
    return sum(-(-size // chunk_size) for size in sizes)


def measure(work: Work) -> list[dict]:
    """The rows of measure_shares() with `files` and `way`."""
    model, rows = work.model(), []
    with servers.zipfs_mount(work.folder, model.container, work.cache_size) as served:
        readers.warm_pages(str(model.container))
        by_readers = {num: [[served.path]] * num for num in READERS}
        chunks = num_chunks([Path(served.path)], model.chunk_size)
        for way in WAYS:
            say(f"readers of one file, {way}")
            found = measure_shares(by_readers, served.mountpoint, way, work.runs, chunks)
            rows += [row | {"files": 1, "way": way} for row in found]
    folder = make_files(work)
    with servers.folder_mount(folder, work.folder, cache_size=work.cache_size) as (mountpoint, _):
        for container in folder.iterdir():
            readers.warm_pages(str(container))
        paths = [str(mountpoint / str(number)) for number in range(NUM_FILES)]
        by_readers = {num: [paths[first::num] for first in range(num)] for num in READERS}
        chunks = num_chunks([Path(path) for path in paths], model.chunk_size)
        for way in WAYS:
            say(f"readers of eight files, {way}")
            found = measure_shares(by_readers, str(mountpoint), way, work.runs, chunks)
            rows += [row | {"files": NUM_FILES, "way": way} for row in found]
    return rows


def bars(rows: list[dict]) -> list[dict]:
    found = []
    for row in rows:
        if row["readers"] > 1:
            name = f"{row['readers']} readers of {row['files']} file(s), {row['way']}"
            found.append(verdicts.bar(f"{name}: decodes of a chunk", row["decodes"], "<=", DECODES_BAR))
            found.append(verdicts.ratio_bar(f"{name}: throughput over one reader's", row["over_one"], ">=", SPEED_BAR))
    return found


def markdown(rows: list[dict]) -> str:
    return table.markdown(
        ["files", "way", "readers", "GB/s together", "over one reader", "decodes of a chunk"],
        [
            [
                str(row["files"]),
                row["way"],
                str(row["readers"]),
                table.spread(row["speed"]),
                table.spread(row["over_one"]),
                f"{row['decodes']:.3f}",
            ]
            for row in rows
        ],
    )


PART = Part("readers", measure, bars, markdown)
