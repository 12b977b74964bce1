from __future__ import annotations

import time

from deja_vu.core.stopwatch import Stopwatch, command_begins, command_begun


def test_stages_add_up_to_the_time_since_the_start_and_names_may_come_again() -> None:
    before = time.monotonic()
    watch = Stopwatch(before - 5)
    watch.end("start")
    time.sleep(0.02)
    watch.end("work")
    watch.end("rest")
    time.sleep(0.02)
    earlier = time.monotonic()
    watch.end("work")
    later = time.monotonic()
    assert list(watch.stages) == ["start", "work", "rest"]
    assert watch.stages["start"] >= 5
    assert watch.stages["work"] >= 0.04
    rounding = 1e-6
    assert 5 + earlier - before - rounding <= sum(watch.stages.values()) <= 5 + later - before + rounding
    assert sum(watch.stages.values()) <= watch.seconds


def test_a_command_began_when_its_block_did_and_outside_there_is_none() -> None:
    assert command_begun() is None
    before = time.monotonic()
    with command_begins():
        begun = command_begun()
        assert begun is not None
        assert before <= begun <= time.monotonic()
    assert command_begun() is None
