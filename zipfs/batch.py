"""Finished outputs on their way to disk and to their names, many at a time: one sync puts all of them there."""

import functools
import os
from collections.abc import Callable, Iterable

from zipfs.errors import ZipfsError
from zipfs.output import Output
from zipfs.signals import held_back
from zipfs.syncing import InBackground, sync_directories, sync_file_system


class Batch:
    """Finished outputs on their way to disk and to their names: small ones wait for each other and share one sync.

    failures: what went wrong when they were to get their names; latest: what was added last. ahead: a full batch is put
    on disk while the next is made, and published then; else it is published as soon as it is full. A context manager:
    leaving it publishes what waits, or discards it after an error.
    """

    MAX_WAITING = 128
    MAX_WAITING_BYTES = 64 << 20

    def __init__(self, ahead: bool = False) -> None:
        self.failures: list[Exception] = []
        self.latest: Output | None = None
        self._ahead = ahead
        self._waiting: list[Output] = []
        self._bytes = 0
        self._devices: dict[int, int] = {}
        """An open file of each file system that something waits on."""
        self._syncing: list[Output] = []
        self._sync: InBackground | None = None
        self._directories: set[str] = set()

    def add(self, output: Output) -> None:
        """Takes over a finished output."""
        self.latest = output
        self._waiting.append(output)
        status = os.fstat(output.fd)
        self._bytes += status.st_size
        self._devices[status.st_dev] = output.fd
        if len(self._waiting) >= self.MAX_WAITING or self._bytes >= self.MAX_WAITING_BYTES:
            if self._ahead:
                self._send()
            else:
                self.flush()

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def touched(self, directory: str) -> None:
        """Names in this folder are to be put on disk as well."""
        self._directories.add(directory)

    def flush(self) -> None:
        """Publishes what waits, and lets no signal end that in the middle."""
        self._land()
        failure = None
        try:
            _sync(self._waiting, self._devices.values())
        except OSError as error:
            failure = error
        with held_back():
            self._publish(self._waiting, failure)
            self._devices.clear()
            self._bytes = 0

    def _send(self) -> None:
        """Has a thread put on disk what waits, once what one had before is published."""
        self._land()
        with held_back():
            self._syncing, self._waiting = self._waiting, []
            fds = list(self._devices.values())
            self._devices.clear()
            self._bytes = 0
            self._sync = InBackground(functools.partial(_sync, self._syncing, fds))

    def _land(self) -> None:
        """Publishes what the thread has put on disk."""
        if self._sync is None:
            return
        failure = self._sync.wait()
        with held_back():
            self._publish(self._syncing, failure)
            self._sync = None

    def _publish(self, outputs: list[Output], failure: OSError | None) -> None:
        """After a sync that failed nobody knows what is on disk, so all of that is discarded. Empties the list."""
        if failure is not None:
            self.failures += [OSError(failure.errno, failure.strerror, output.path) for output in outputs]
            _discard(outputs)
        self._each(outputs, lambda output: output.rename())
        self._directories.update(*(output.directories for output in outputs))
        unsynced = self._sync_directories()
        self._each(outputs, lambda output: self._settle(output, unsynced))
        self._sync_directories()
        outputs.clear()

    def _settle(self, output: Output, unsynced: set[str]) -> None:
        """The name of an output may be lost where its folder did not get to disk, so nothing goes because of it."""
        if unsynced.isdisjoint(output.directories):
            self._directories.update(output.settle())
        else:
            output.discard()

    def _each(self, outputs: list[Output], action: Callable[[Output], None]) -> None:
        """Calls it for all of them; what fails is discarded and taken out."""
        done = []
        for output in outputs:
            try:
                action(output)
                done.append(output)
            except (OSError, ZipfsError) as error:
                output.discard()
                self.failures.append(error)
        outputs[:] = done

    def _sync_directories(self) -> set[str]:
        """Returns those that failed."""
        failures = sync_directories(self._directories)
        self._directories.clear()
        self.failures += failures
        return {error.filename for error in failures}

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            if self._sync is not None:
                self._sync.wait()
            _discard(self._syncing)
            _discard(self._waiting)


def _sync(outputs: list[Output], fds: Iterable[int]) -> None:
    """Puts outputs on disk; fds: an open file of each of their file systems."""
    if len(outputs) == 1:
        os.fsync(outputs[0].fd)
    else:
        for fd in fds:
            sync_file_system(fd)


def _discard(outputs: list[Output]) -> None:
    while outputs:
        outputs.pop().discard()
