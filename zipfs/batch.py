"""Finished outputs on their way to disk and to their names, many at a time: one sync puts all of them there."""

import os
import threading
from collections.abc import Callable

from zipfs.errors import ZipfsError
from zipfs.output import Output
from zipfs.signals import held_back
from zipfs.syncing import sync_directories, sync_file_system


class Batch:
    """Finished outputs on their way to disk and to their names: small ones wait for each other and share one sync.

    A full batch is synced while the next is made, then gets its names, and is settled once these are synced as well,
    which the next batch's sync does along with its own. failures: what went wrong on the way; latest: what was added
    last. A context manager: leaving it publishes what waits, or discards it after an error.
    """

    MAX_WAITING = 128
    MAX_WAITING_BYTES = 64 << 20

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.latest: Output | None = None
        self._waiting: list[Output] = []
        self._bytes = 0
        self._devices: dict[int, int] = {}
        """An open file of each file system that something waits on."""
        self._syncing: list[Output] = []
        self._named: list[Output] = []
        self._sync: _Sync | None = None
        self._directories: set[str] = set()

    def add(self, output: Output) -> None:
        """Takes over a finished output."""
        self.latest = output
        self._waiting.append(output)
        status = os.fstat(output.fd)
        self._bytes += status.st_size
        self._devices[status.st_dev] = output.fd
        if len(self._waiting) >= self.MAX_WAITING or self._bytes >= self.MAX_WAITING_BYTES:
            self._send()

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting or self._syncing or self._named)

    def touched(self, directory: str) -> None:
        """Names in this folder are to be put on disk as well."""
        self._directories.add(directory)

    def flush(self) -> None:
        """Publishes what waits, and returns when that is done."""
        while self.is_waiting or self._directories:
            self._send()
            self._land()

    def _send(self) -> None:
        """Has a thread sync what waits, and the names of what has got them, once it is done with what it had before."""
        self._land()
        with held_back():
            self._syncing, self._waiting = self._waiting, []
            directories, self._directories = self._directories, set()
            devices, self._devices = self._devices, {}
            self._bytes = 0
            self._sync = _Sync(self._syncing, devices, directories)

    def _land(self) -> None:
        """Takes the next step with what the thread has synced, and lets no signal end that in the middle."""
        if self._sync is None:
            return
        self._sync.wait()
        with held_back():
            self._settle_all(self._sync.failures)
            self._name_all(self._sync.failure)
            self._sync = None

    def _settle_all(self, failures: list[OSError]) -> None:
        """failures: of folders. The name of an output may be lost where one of its folders did not get to disk, so
        nothing goes because of it.
        """
        self.failures += failures
        unsynced = {error.filename for error in failures}
        self._each(self._named, lambda output: self._settle(output, unsynced))
        self._named.clear()

    def _settle(self, output: Output, unsynced: set[str]) -> None:
        if unsynced.isdisjoint(output.directories):
            self._directories.update(output.settle())
        else:
            output.discard()

    def _name_all(self, failure: OSError | None) -> None:
        """After a sync that failed nobody knows what is on disk, so all of that is discarded."""
        if failure is not None:
            self.failures += [OSError(failure.errno, failure.strerror, output.path) for output in self._syncing]
            _discard(self._syncing)
        self._each(self._syncing, lambda output: output.rename())
        self._directories.update(*(output.directories for output in self._syncing))
        self._named, self._syncing = self._syncing, []

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

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            if self._sync is not None:
                self._sync.wait()
            for outputs in (self._named, self._syncing, self._waiting):
                _discard(outputs)


class _Sync:
    """Puts outputs on disk, and the names in folders, in a thread of its own, at once.

    devices: an open file of each of the outputs' file systems. When it has ended, failure is that of the outputs, and
    failures are those of the folders.
    """

    def __init__(self, outputs: list[Output], devices: dict[int, int], directories: set[str]):
        self.failure: OSError | None = None
        self.failures: list[OSError] = []
        self._outputs, self._devices, self._directories = outputs, devices, directories
        self._thread = threading.Thread(target=self._run, name="zipfs-sync")
        self._thread.start()

    def wait(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        """A folder whose file system was synced needs no more: it would wait for what was begun there meanwhile."""
        synced: set[int] = set()
        try:
            if len(self._outputs) == 1:
                os.fsync(self._outputs[0].fd)
            else:
                for device, fd in self._devices.items():
                    sync_file_system(fd)
                    synced.add(device)
        except OSError as error:
            self.failure = error
        self.failures = sync_directories(path for path in self._directories if _device(path) not in synced)


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def _discard(outputs: list[Output]) -> None:
    while outputs:
        outputs.pop().discard()
