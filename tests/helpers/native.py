"""Fixtures of tests that call the native library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from deja_vu import native


@pytest.fixture(params=["base", "avx2", "avx512"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set this processor runs."""
    before = native.variant()
    try:
        native.select_variant(request.param)
    except native.NativeError as error:
        pytest.skip(str(error))
    yield request.param
    native.select_variant(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, whatever a test before it set, and the former number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
