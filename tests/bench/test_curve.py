from __future__ import annotations

import pytest

from deja_vu.bench.curve import crossing_times


def points(*psnr: float) -> list[dict[str, float]]:
    return [{"cpu_seconds": 10.0 * place, "psnr": value} for place, value in enumerate(psnr)]


def test_when_a_curve_is_there_for_the_first_time_and_when_to_stay():
    assert crossing_times(points(20, 24, 22, 26), 23) == pytest.approx((7.5, 22.5))
    assert crossing_times(points(24, 25), 23) == (0, 0), "from the start"
    assert crossing_times(points(24, 22, 25), 23) == pytest.approx((5.0, 40 / 3)), "left, and reached again"
    assert crossing_times(points(20, 24, 22), 23) is None, "lost again"
    distances = [{"cpu_seconds": 10.0 * place, "st_lpips": value} for place, value in enumerate((0.06, 0.02))]
    assert crossing_times(distances, 0.03, "st_lpips") == pytest.approx((7.5, 7.5)), "less is better"
    assert crossing_times(distances, 0.01, "st_lpips") is None
