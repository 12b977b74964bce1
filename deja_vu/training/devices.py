"""Where a run computes."""

from __future__ import annotations

import re

import torch

from deja_vu.core.errors import ConfigError


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name.

    Args:
        name: `auto` is CUDA where it works, else the CPU; `cpu`; `cuda` or, of several, `cuda:1`.

    Raises:
        ConfigError: the name is not known, or this machine has no such device.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ConfigError(f"There is no device '{name}'. Choose auto, cpu, cuda or cuda:0, cuda:1 and so on.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"The device is set to {name}, but no CUDA device was found or this PyTorch is built without it. Use auto or cpu."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"There is no device {name}: this machine has {torch.cuda.device_count()}. Use cuda:0 or another of them.")
    return device
