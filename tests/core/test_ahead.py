"""Work in threads comes out as work in turn."""

from __future__ import annotations

import threading

import pytest

from deja_vu.core.ahead import compute_ahead, run_in_background


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 30])
def test_results_come_in_the_order_of_their_items(workers, count):
    assert list(compute_ahead(lambda item: item * item, iter(range(count)), workers)) == [item * item for item in range(count)]


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_items_are_drawn_than_are_computed_ahead(workers):
    drawn = []

    def items():
        for item in range(20):
            drawn.append(item)
            yield item

    for number, result in enumerate(compute_ahead(lambda item: item, items(), workers)):
        assert result == number
        assert len(drawn) <= number + 1 + workers


def test_so_many_items_are_computed_at_once():
    together = threading.Barrier(3, timeout=10)  # breaks unless three threads meet
    assert len(list(compute_ahead(lambda item: together.wait(), range(9), workers=3))) == 9


def test_an_error_comes_where_its_result_would_have_come():
    def refuse_three(item):
        if item == 3:
            raise ValueError("three")
        return item

    results = compute_ahead(refuse_three, range(9), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_whoever_leaves_early_leaves_no_work_behind():
    begun, ended = [], []

    def note(item):
        begun.append(item)
        ended.append(item)
        return item

    before = threading.active_count()
    results = compute_ahead(note, iter(range(1000)), workers=2)
    next(results)
    results.close()
    assert begun == ended
    assert len(begun) <= 3
    assert threading.active_count() == before


def test_a_block_waits_for_the_job_beside_it():
    goes, done = threading.Event(), []

    def job(stopped):
        assert goes.wait(10)
        done.append(stopped.is_set())

    with run_in_background(job):
        assert done == []
        goes.set()
    assert done == [False]


def test_a_jobs_error_comes_at_the_end_of_the_block():
    def job(stopped):
        raise ValueError("job")

    reached = []
    with pytest.raises(ValueError, match="job"), run_in_background(job):
        reached.append(True)
    assert reached == [True]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_a_block_that_fails_stops_its_job_and_says_its_own_error(kind):
    ended, before = [], threading.active_count()

    def job(stopped):
        assert stopped.wait(10)
        ended.append(True)
        raise ValueError("job")

    with pytest.raises(kind, match="block"), run_in_background(job):
        raise kind("block")
    assert ended == [True]
    assert threading.active_count() == before
