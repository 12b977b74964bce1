"""Adam over named groups of parameters, each with a learning rate of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from deja_vu.training.config import AdamConfig


def make_adam(groups: Mapping[str, list[nn.Parameter]], rates: Any, config: AdamConfig) -> torch.optim.Adam:
    """The optimizer of a run; `set_rates` gives every group its rate before a step.

    Args:
        groups: parameters by name. Those without gradients are left out, and so are groups that are empty or never move.
        rates: dataclass with a field for every group: its learning rate over that of the phase, 0 to leave the group as it is.
        config: numbers.
    """
    relative = asdict(rates)
    trained = {
        name: [parameter for parameter in parameters if parameter.requires_grad]
        for name, parameters in groups.items()
        if relative[name] > 0
    }
    return torch.optim.Adam(
        [{"name": name, "params": params, "lr": 0.0, "relative": relative[name]} for name, params in trained.items() if params],
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=config.fused or None,
    )
