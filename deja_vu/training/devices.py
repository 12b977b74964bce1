"""Where a run computes."""

from __future__ import annotations

import os
from typing import Literal

import torch

from deja_vu.core.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda"]


def pick_device(name: DeviceName = "auto") -> torch.device:
    """The device of a name; `auto` is CUDA where it works, else the CPU.

    Raises:
        ConfigError: the name is not known, or CUDA is asked for and this machine has none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"There is no device {name!r}; choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("The device is set to cuda, but no CUDA device was found or this PyTorch is built without it. Use auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def set_threads(count: int | None = None) -> int:
    """Let PyTorch use this many threads, and return how many it uses.

    Args:
        count: threads; None takes the cores this process may run on, or OMP_NUM_THREADS where the user has set it.

    Raises:
        ConfigError: `count` is below one.
    """
    if count is not None and count < 1:
        raise ConfigError(f"{count} threads cannot work; give 1 or more, or leave the setting out.")
    if count is None and "OMP_NUM_THREADS" not in os.environ:
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if count is not None:
        torch.set_num_threads(count)
    return torch.get_num_threads()
