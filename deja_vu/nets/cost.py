"""Multiply-adds of a computation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


@torch.no_grad()
def multiply_adds(run: Callable[[], object]) -> int:
    """Multiply-adds of all matrix products and convolutions; a transposed convolution is billed at its input's size.

    Element-wise work, gathers and native kernels are not counted.
    """
    with _Counter() as counter:
        run()
    return counter.operations // 2


class _Counter(TorchDispatchMode):
    """Adds up what torch's own table says of every operator that runs."""

    operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.operations += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out
