from __future__ import annotations

import time

import torch

from deja_vu.bench.speed import measure_speed


def test_the_machine_is_measured_on_the_threads_that_work_has_and_within_its_time() -> None:
    started, before = time.monotonic(), torch.get_num_threads()
    speed = measure_speed(0.01)
    assert time.monotonic() - started < 10
    assert speed.threads == before == torch.get_num_threads()
    # The slowest processor that runs the native code at all, and the fastest of a server: three orders of magnitude are no accident.
    assert 1 < speed.matmul_gflops < 20_000
    assert 0.1 < speed.copy_gb_s < 2_000
    assert 0.5 < speed.raster_ms < 5_000


def test_figures_are_printed_with_their_units() -> None:
    text = "\n".join(measure_speed(0.0).lines())
    assert all(unit in text for unit in ("GFLOP/s", "GB/s", " ms,", "cores"))
