from __future__ import annotations

from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With a GPU they compute there, and belong to what `make gpu` runs."""
    if torch.cuda.is_available():
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def _triton() -> None:
    pytest.importorskip("triton", reason="needs Triton: `make kernels` installs it")


@pytest.fixture(params=[torch.float64, torch.float32], ids=["double", "single"])
def dtype(request) -> torch.dtype:
    return request.param


@pytest.fixture
def device() -> torch.device:
    """The GPU, or the CPU by Triton's interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
