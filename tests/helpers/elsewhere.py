"""A device that is not the CPU on a machine that has no other: it computes, and refuses to mix devices as CUDA does.

PyTorch's `meta` device refuses too but has no values, so that whatever looks at them, as a solver does, cannot be followed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only

ELSEWHERE = torch.device("meta")
"""What its tensors give as their device."""
INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten._index_put_impl_.default}
"""May be given indices that lie on the host, as on CUDA."""


class Distant(Tensor):
    """A tensor whose values lie in another one, on the CPU, that nobody else sees."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> Distant:
        facts = {"strides": values.stride(), "storage_offset": values.storage_offset(), "dtype": values.dtype}
        made = Tensor._make_wrapper_subclass(cls, values.shape, device=ELSEWHERE, **facts)
        made.values = values
        return made

    def __repr__(self) -> str:
        return f"Distant({self.values})"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None) -> Any:
        """Numbers that are given as such would lose their values on the way to `meta`."""
        if func is Tensor.new_tensor:
            return Distant(args[0].values.new_tensor(*args[1:], **(kwargs or {})))
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            args = (args[0], tuple(torch.tensor(part) if isinstance(part, list) else part for part in index), *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None) -> Any:
        return dispatch(func, args, kwargs or {})


class Factories(TorchDispatchMode):
    """Makes what is asked for on the device there, and takes copies to it and from it across."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        return dispatch(func, args, kwargs or {})


def dispatch(func, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Compute on the values; the result lies where the arguments do, or where `device` says."""
    distant: list[Distant] = []
    near: list[Tensor] = []

    def look(value: Tensor) -> Tensor:
        if isinstance(value, Distant):
            distant.append(value)
            return value.values
        if value.dim() and value.numel():
            near.append(value)
        return value

    plain_args, plain_kwargs = tree_map_only(Tensor, look, (args, kwargs))
    target = plain_kwargs.get("device")
    away = bool(distant) if target is None else torch.device(target) == ELSEWHERE
    copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    if distant and near and not copies and func not in INDEXING:
        raise RuntimeError(f"{func}: a tensor {tuple(near[0].shape)} lies on the CPU, the others elsewhere")
    if target is not None:
        plain_kwargs["device"] = "cpu"
    found = func(*plain_args, **plain_kwargs)
    if func._schema.name.endswith("_") and not func._schema.name.endswith("__"):
        return args[0]
    return tree_map(lambda value: Distant(value) if away and isinstance(value, Tensor) else value, found)


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """The device, while it is there."""
    with Factories():
        yield ELSEWHERE
