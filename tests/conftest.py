"""Shared by all tests: one thread, as on the machines that run them, and repeatable random numbers."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Tests marked `gpu` are skipped with their reason where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _repeatable():
    torch.manual_seed(0)


# A shell starts background jobs with Ctrl-C ignored, and Python then installs no handler; the tests of interrupts need the usual one.
signal.signal(signal.SIGINT, signal.default_int_handler)
