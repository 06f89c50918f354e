"""A cache by bytes whose values are made once for all who wait for them."""

import os
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from cachetools import LRUCache

_caches: "weakref.WeakSet[Cache]" = weakref.WeakSet()


class Cache:
    """Values by key, the least recently used first out. Any thread; a forked child begins with an empty one.

    budget: bytes that are kept; charge(value): bytes of one. What is larger than the budget is served and not kept.
    """

    def __init__(self, budget: int, charge: Callable[[Any], int]):
        self._budget, self._charge = budget, charge
        self._clear()
        _caches.add(self)

    def _clear(self) -> None:
        self._values: LRUCache = LRUCache(self._budget, self._charge)
        self._making: dict[Hashable, Future] = {}
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        with self._lock:
            return int(self._values.currsize)

    def get(self, keys: Sequence[Any], load: Callable[[list[Any]], Iterable[Any]]) -> list[Any]:
        """The value of each key. Those that are neither kept nor being made are made by one load(keys), in this thread.

        load never waits for another get() of the same kind of values: two could wait for each other. What it raises,
        all who wait for one of its keys get, and it is tried again when one of them is wanted again.
        """
        found: dict[Any, Any] = {}
        waiting: dict[Any, Future] = {}
        mine: dict[Any, Future] = {}
        with self._lock:
            for key in keys:
                if key in self._values:
                    found[key] = self._values[key]
                elif key in self._making:
                    waiting[key] = self._making[key]
                else:
                    mine[key] = self._making[key] = Future()
        if mine:
            self._make(mine, load)
        for key, future in (mine | waiting).items():
            found[key] = future.result()
        return [found[key] for key in keys]

    def _make(self, mine: dict[Any, Future], load: Callable[[list[Any]], Iterable[Any]]) -> None:
        try:
            values = list(load(list(mine)))
        except BaseException as error:
            with self._lock:
                for key in mine:
                    del self._making[key]
            for future in mine.values():
                future.set_exception(error)
            return
        with self._lock:
            for key, value in zip(mine, values, strict=True):
                del self._making[key]
                if self._values.getsizeof(value) <= self._values.maxsize:
                    self._values[key] = value
        for future, value in zip(mine.values(), values, strict=True):
            future.set_result(value)


def _clear_all() -> None:
    """What threads of the parent were at, nobody will end here."""
    for cache in list(_caches):
        cache._clear()


os.register_at_fork(after_in_child=_clear_all)
