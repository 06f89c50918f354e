"""The command line of scripts/soak: readers of every kind on one mount, its source replaced under them.

Fails when a byte is wrong, when a reader gets an error or hangs, when the daemon ends, or when it keeps memory, threads
or descriptors that it did not have before.
"""

import argparse
import functools
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks import corpus, counters, daemons, soak_readers
from benchmarks.crowd import FORKED

import zipfs
from zipfs.drivers.native import MAX_THREADS
from zipfs.mount import Daemon, start, stop, umount_command

MIB = 1 << 20
NUM_FILES, NUM_VERSIONS = 4, 3
HANG_S = 90
"""A reader that has done nothing for so long hangs."""
MEMORY_MORE = 64 * MIB
MORE_THREADS = 3 + (os.cpu_count() or 1)
"""Those of the daemon besides what serves requests: the main one, what decodes, what reads the source ahead, and what
gives memory back."""
WARM_UP_S, SETTLE_S = 2, 15
PAUSE_S = 0.05
"""Between two replacements."""
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
DROP_EVERY_S = 15


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument(
        "--mib", type=int, default=24, help="size of a file; the cache is the sixth of all (default 24)"
    )
    parser.add_argument("--driver", help="default: the best there is")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "little"))
    parser.add_argument("--drop-caches", action="store_true", help="the whole machine's, too (as root)")
    return parser.parse_args()


class Files:
    """The source folder, all versions of its files, and what replaces one by another."""

    def __init__(self, work: Path, size: int, seed: int) -> None:
        self.source, self._spare = work / "source", work / "spare"
        self.source.mkdir()
        self._containers = [
            [self._make(work, f"{number}-{version}", size - 4321 * version, seed + 7 * number + version)
             for version in range(NUM_VERSIONS)]
            for number in range(NUM_FILES)
        ]  # fmt: skip
        for number in range(NUM_FILES):
            self.replace(number, 0)

    def _make(self, work: Path, name: str, size: int, seed: int) -> tuple[bytes, bytes]:
        """(container, plain bytes)"""
        plain = b"".join(values.tobytes() for values in corpus.tensors("bf16", size, seed))[:size]
        (work / name).write_bytes(plain)
        zipfs.compress(work / name, work / f"{name}.zipfs")
        return (work / f"{name}.zipfs").read_bytes(), plain

    def replace(self, number: int, version: int) -> None:
        self._spare.write_bytes(self._containers[number][version][0])
        os.replace(self._spare, self.source / f"file{number}.zipfs")

    def mounted(self, mountpoint: Path) -> list[soak_readers.File]:
        return [
            soak_readers.File(
                str(mountpoint / f"file{number}"),
                str(self.source / f"file{number}.zipfs"),
                {plain[: soak_readers.TOLD_BY]: memoryview(plain) for _, plain in versions},
            )
            for number, versions in enumerate(self._containers)
        ]


class Readers:
    """The processes, and what they have told: a time, a count of each way, and bytes."""

    def __init__(self, files: list[soak_readers.File], num: int, seconds: float, seed: int) -> None:
        self._beats = FORKED.Array("d", [time.monotonic()] * num, lock=False)
        self._done = FORKED.Array("Q", num * len(soak_readers.WAYS), lock=False)
        self._checked = FORKED.Array("Q", num, lock=False)
        self._processes = [
            FORKED.Process(target=self._run, args=(one, files, seed + one, seconds)) for one in range(num)
        ]
        for process in self._processes:
            process.start()

    def _run(self, one: int, files: list[soak_readers.File], seed: int, seconds: float) -> None:
        try:
            soak_readers.read_on(files, seed, seconds, functools.partial(self._note, one))
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _note(self, one: int, way: int, checked: int) -> None:
        self._beats[one] = time.monotonic()
        self._done[one * len(soak_readers.WAYS) + way] += 1
        self._checked[one] += checked

    def running(self) -> bool:
        return any(process.is_alive() for process in self._processes)

    def failed(self) -> list[str]:
        """What is wrong with them, by now."""
        wrong = [f"reader {process.pid} failed" for process in self._processes if process.exitcode]
        for process, beat in zip(self._processes, self._beats, strict=True):
            if process.is_alive() and time.monotonic() - beat > HANG_S:
                wrong.append(f"reader {process.pid} hangs: {where_it_waits(process.pid)}")
        return wrong

    def join(self) -> None:
        for process in self._processes:
            process.join()

    def end(self) -> None:
        """Also those that hang, whose mount was aborted."""
        for process in self._processes:
            process.kill()
            process.join(SETTLE_S)

    def counts(self) -> dict[str, int]:
        ways = soak_readers.WAYS
        return {way.__name__: sum(self._done[number :: len(ways)]) for number, way in enumerate(ways)}

    def checked(self) -> int:
        return sum(self._checked)


def where_it_waits(pid: int) -> str:
    try:
        return " < ".join(line.split()[-1] for line in Path(f"/proc/{pid}/stack").read_text().splitlines())
    except OSError as error:
        return str(error)


def abort_mount(daemon: Daemon) -> None:
    """Wakes whoever waits for it: readers of a daemon that hangs cannot be killed."""
    minor = daemon.mount.device.split(":")[1]
    try:
        Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")
    except OSError:
        daemon.process.kill()


def held(pid: int) -> dict[str, int]:
    return {"descriptors": daemons.num_fds(pid), "threads": len(os.listdir(f"/proc/{pid}/task"))}


def leaks(daemon: Daemon, most: dict[str, int]) -> list[str]:
    """What the daemon still has too much of after a while."""
    deadline, found = time.monotonic() + SETTLE_S, ["?"]
    while found and time.monotonic() < deadline:
        time.sleep(0.5)
        os.statvfs(daemon.mount.mountpoint)  # at which it closes files that nobody has asked for lately
        now = held(daemon.process.pid)
        found = [f"{now[name]} {name}, not {most[name]}" for name in most if now[name] > most[name]]
    return found


def soak(arguments: argparse.Namespace, files: Files, daemon: Daemon, most_rss: int) -> list[str]:
    """What went wrong."""
    mounted = files.mounted(Path(daemon.mount.mountpoint))
    Readers(mounted, arguments.processes, WARM_UP_S, arguments.seed).join()  # the daemon starts what it keeps
    most = held(daemon.process.pid) | {"threads": MAX_THREADS + MORE_THREADS}
    readers = Readers(mounted, arguments.processes, 60 * arguments.minutes, arguments.seed)
    wrong, peak, replaced = watch(readers, files, daemon, random.Random(arguments.seed), arguments.drop_caches)
    if wrong:
        abort_mount(daemon)
    readers.end()
    print(f"scripts/soak: {readers.checked() / 1e9:.1f} GB compared, {replaced} replacements, {readers.counts()}")
    if wrong:
        return wrong
    total = counters.read(daemon.mount.mountpoint)
    print(f"scripts/soak: RSS {peak / MIB:.0f} MiB at most of {most_rss / MIB:.0f}, {total}")
    wrong = [f"{total['errors']} read errors"] if total["errors"] else []
    if peak > most_rss:
        wrong.append(f"RSS {peak / MIB:.0f} MiB, not {most_rss / MIB:.0f} MiB")
    return wrong + leaks(daemon, most)


def watch(
    readers: Readers, files: Files, daemon: Daemon, rng: random.Random, drops: bool
) -> tuple[list[str], int, int]:
    """(what went wrong, most RSS, replacements) until all readers have ended, or something is wrong."""
    wrong, peak, replaced, dropped = [], 0, 0, time.monotonic()
    while not wrong and (readers.running() or replaced == 0):
        files.replace(rng.randrange(NUM_FILES), rng.randrange(NUM_VERSIONS))
        if drops and time.monotonic() - dropped > DROP_EVERY_S:
            DROP_CACHES.write_text(rng.choice("123"))
            dropped = time.monotonic()
        replaced += 1
        time.sleep(PAUSE_S)
        if daemon.process.poll() is not None:
            return ["the daemon ended"], peak, replaced
        wrong, peak = readers.failed(), max(peak, daemons.rss(daemon.process.pid))
    return wrong or readers.failed(), peak, replaced


def run(arguments: argparse.Namespace) -> list[str]:
    cache_size = NUM_FILES * arguments.mib * MIB // 6
    with tempfile.TemporaryDirectory(prefix="zipfs-soak-") as folder:
        work = Path(folder)
        files, mountpoint = Files(work, arguments.mib * MIB, arguments.seed), work / "mnt"
        mountpoint.mkdir()
        daemon = start(files.source, mountpoint, cache_size=cache_size, driver=arguments.driver)
        try:
            wrong = soak(arguments, files, daemon, cache_size + MEMORY_MORE)
            if not wrong:
                umount_command(mountpoint)
                if status := daemon.process.wait(SETTLE_S):
                    wrong.append(f"the daemon ended with status {status}")
            return wrong
        finally:
            stop(daemon)


def main() -> int:
    arguments = parse_arguments()
    print(f"scripts/soak: seed {arguments.seed}, {arguments.minutes:g} minutes", flush=True)
    wrong = run(arguments)
    for line in wrong:
        print(f"scripts/soak: FAILED: {line}", file=sys.stderr)
    print("scripts/soak: " + ("failed" if wrong else "no hang, no wrong byte, no leak"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
