"""One run on several processes, machines or GPUs, through `accelerate`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deja_vu.core.errors import ConfigError, MissingAssetError
from deja_vu.training.devices import pick_device
from deja_vu.training.prior_config import Precision


class Processes:
    """This process among all of a run; a plain run is the only one."""

    def __init__(self, precision: Precision, device: str = "auto") -> None:
        """Join the run that `torchrun` started, or be alone.

        Args:
            precision: of the network's convolutions; `auto` is bfloat16 where a GPU has it.
            device: see `pick_device`; one GPU by its number is for a run of one process.

        Raises:
            ConfigError: this machine has no such device, or one GPU is named for several processes.
        """
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise MissingAssetError(
                f"The generalize stage needs the package accelerate ({error}): pip install '.[train]' in the source folder"
            ) from error
        picked = pick_device(device)
        on_gpu = picked.type == "cuda"
        if picked.index is not None:
            if int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise ConfigError(f"Several processes cannot share {device}. Set device: cuda, and each takes a GPU of its own.")
            torch.cuda.set_device(picked)
        half = precision == "bfloat16" or (precision == "auto" and on_gpu and torch.cuda.is_bf16_supported())
        self._accelerator = Accelerator(cpu=not on_gpu, mixed_precision="bf16" if half else "no")
        self.device: torch.device = self._accelerator.device
        self.rank: int = self._accelerator.process_index
        self.count: int = self._accelerator.num_processes

    @property
    def lead(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model on this process' device; with others, its gradients become the mean over all processes."""
        return self._accelerator.prepare_model(model)

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which convolutions run in the run's precision."""
        return self._accelerator.autocast()

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Mean over all processes of values that lie on each one's device, in the same order everywhere."""
        return self._accelerator.reduce(values.float(), reduction="mean") if self.count > 1 else values

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the run."""
        self._accelerator.end_training()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
