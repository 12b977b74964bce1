"""Fused kernels in Triton for CUDA, each with a counterpart in plain torch that defines its result; imported when they are used.

`DEJA_VU_TRITON=off` in the environment leaves everything to the twins.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import warnings

import torch
from torch import Tensor

SWITCH = "DEJA_VU_TRITON"
"""Environment variable: `off` for plain torch."""


def can_fuse(*tensors: Tensor) -> bool:
    """Whether a computation is left to its fused kernel: all it reads is float32 on a CUDA device, and kernels can be compiled."""
    return all(tensor.is_cuda and tensor.dtype == torch.float32 for tensor in tensors) and available()


@functools.cache
def available() -> bool:
    """Whether kernels are wanted and can be compiled; where they cannot, a warning says once what is missing."""
    if os.environ.get(SWITCH) == "off":
        return False
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("gcc", "clang", "cc")), None)
    lacking = [name for name, there in (("triton", importlib.util.find_spec("triton")), ("a C compiler", compiler)) if not there]
    if lacking:
        warnings.warn(f"plain torch takes the place of fused kernels, which need {' and '.join(lacking)}", stacklevel=3)
    return not lacking
