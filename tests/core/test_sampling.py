from __future__ import annotations

import pytest

from deja_vu.core.sampling import evenly_spaced


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [(3, 11, [0, 5, 10]), (4, 10, [0, 3, 6, 9]), (8, 3, [0, 1, 2]), (1, 9, [0]), (5, 1, [0]), (4, 0, []), (0, 7, [])],
)
def test_the_first_and_the_last_are_taken_and_all_where_there_are_few(count: int, total: int, expected: list[int]) -> None:
    assert evenly_spaced(count, total).tolist() == expected


def test_gaps_differ_by_one_at_most() -> None:
    for total in range(2, 200):
        gaps = evenly_spaced(17, total).diff()
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1
