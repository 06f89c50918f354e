"""Processes that do something at the same time."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Sequence

FORKED = multiprocessing.get_context("fork")
PATIENCE_S = 600


def run(tasks: Sequence[Callable[[], int]]) -> tuple[int, float]:
    """(sum of what the tasks returned, seconds from the first start to the last end); each is a process of its own,
    and none begins before all are there.
    """
    ready, results = FORKED.Barrier(len(tasks)), FORKED.SimpleQueue()
    processes = [FORKED.Process(target=one, args=(task, ready, results), daemon=True) for task in tasks]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    if any(total is None for total, _, _ in found):
        raise RuntimeError("a reading process failed; see above")
    totals, starts, ends = zip(*found, strict=True)
    return sum(totals), max(ends) - min(starts)


def one(task: Callable[[], int], ready, results) -> None:
    ready.wait(PATIENCE_S)
    start = time.perf_counter()
    try:
        results.put((task(), start, time.perf_counter()))
    except BaseException:
        traceback.print_exc()
        results.put((None, 0.0, 0.0))
        os._exit(1)
