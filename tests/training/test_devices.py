from __future__ import annotations

import pytest
import torch

from deja_vu.core.errors import ConfigError
from deja_vu.training.devices import pick_device, set_threads


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_auto_takes_cuda_exactly_where_it_works() -> None:
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match="auto or cpu"):
        pick_device("cuda")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="'gpu'"):
        pick_device("gpu")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set_threads(1) == torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert set_threads() == 1  # the user's own setting is respected
    with pytest.raises(ConfigError, match="1 or more"):
        set_threads(0)
