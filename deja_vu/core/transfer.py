"""Copying tensors from one device to another."""

from __future__ import annotations

import torch
from torch import Tensor


def move(tensor: Tensor, target: torch.device | torch.dtype | str) -> Tensor:
    """The same tensor on another device or in another precision; on its way from the host nobody waits for it.

    That is safe from pageable memory too, which CUDA copies before the call returns. On the way back one has to wait.

    Args:
        tensor: on any device.
        target: a device or its name, or a type of numbers.
    """
    waits = isinstance(target, torch.dtype) or torch.device(target).type == "cpu"
    return tensor.to(target, non_blocking=not waits)
