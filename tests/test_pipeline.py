"""Blocks in several threads: turns come in order, and a failure ends the run without a hang."""

import threading
import time

import pytest

from zipfs import pipeline as module
from zipfs.pipeline import Block, Pipeline, PipelinePool, Turnstile, _StoppedError


@pytest.fixture(scope="module", params=[1, 4])
def pipeline(request):
    with Pipeline(request.param, 16) as pipeline:
        yield pipeline


def test_turns_come_in_order(pipeline, rng):
    seen: list[int] = []
    pauses = rng.uniform(0, 0.002, 60)

    def work(block: Block) -> None:
        time.sleep(pauses[block.number])
        with block.turn():
            seen.append(block.number)

    pipeline.run(work, 60)
    assert seen == list(range(60))


def test_the_first_failure_is_raised_and_blocks_before_it_are_done(pipeline, rng):
    for _ in range(30):
        failing = int(rng.integers(1, 20))
        seen: list[int] = []

        def work(block: Block, failing=failing, seen=seen) -> None:
            if block.number >= failing:
                raise ValueError(block.number)
            time.sleep(0.0005)
            with block.turn():
                seen.append(block.number)

        with pytest.raises(ValueError, match=f"^{failing}$"):
            pipeline.run(work, 40)
        assert seen == list(range(failing))


def test_who_comes_after_the_turnstile_was_closed_gives_up():
    """It waited for ever, when the block that failed was faster."""
    turnstile = Turnstile()
    turnstile.close(0)
    ended = threading.Event()

    def come() -> None:
        with pytest.raises(_StoppedError), turnstile.turn(2):
            pass
        ended.set()

    threading.Thread(target=come, daemon=True).start()
    assert ended.wait(10)


def test_a_pool_keeps_the_latest_that_its_memory_has_room_for():
    with PipelinePool(1) as pool:
        made = [pool.get(log2) for log2 in (19, 20, 21)]
        assert [pool.get(log2) for log2 in (19, 20, 21)] == made
    with PipelinePool(64) as pool:
        for log2 in (19, 21, 16, 19, 20, 22):
            latest = pool.get(log2)
            assert pool.get(log2) is latest
            assert sum(kept.memory for kept in pool._kept.values()) <= module._MEMORY
