"""The device on which a command computes."""

from __future__ import annotations

import functools
import re

import torch

from deja_vu.core.errors import ConfigError
from deja_vu.io.provenance import machine
from deja_vu.render.probe import find_fault


def pick_device(name: str = "auto", *, gaussians: bool = True) -> torch.device:
    """The device of a name.

    Args:
        name: `auto` is CUDA where it works, else the CPU, and says why if there is a GPU that cannot be used; `cpu`; `cuda` or, of
            several, `cuda:1`.
        gaussians: Gaussians will be drawn there, which wants gsplat: a tiny scene is drawn to see whether it works.

    Raises:
        ConfigError: the name is not known, or this machine has no such device, or cannot draw Gaussians on it.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ConfigError(f"There is no device '{name}'. Choose auto, cpu, cuda or cuda:0, cuda:1 and so on.")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name == "auto":
        return _automatic(gaussians)
    device = torch.device(name)
    if not torch.cuda.is_available():
        raise ConfigError(
            f"The device is set to {name}, but no CUDA device was found or this PyTorch is built without it. Use auto or cpu."
        )
    if (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"There is no device {name}: this machine has {torch.cuda.device_count()}. Use cuda:0 or another of them.")
    if gaussians and (fault := find_fault("gsplat", device)):
        raise ConfigError(f"Gaussians cannot be drawn on {name}. {fault}")
    return device


@functools.cache
def _automatic(gaussians: bool) -> torch.device:
    """CUDA where it works, else the CPU, with one line that says why."""
    device = torch.device("cuda")
    fault = find_fault("gsplat", device) if gaussians else None
    if fault is None:
        return device
    print(f"note: computing on the CPU, not on the GPU. {fault}")
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """Of the GPU, or of this machine's processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else machine()
