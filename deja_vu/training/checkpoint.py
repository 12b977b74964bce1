"""Save a run so that it continues as if it had never stopped: model, optimizer, random state, step."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deja_vu.core.errors import FormatError
from deja_vu.io.files import whole

FORMAT = 2
"""Version of the file; raised whenever an older file would be misread."""


def save_checkpoint(
    path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, extra: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint; a crash while writing leaves the former one whole.

    Args:
        path: file to write or replace.
        step: steps done.
        model: its state is saved, not its code.
        optimizer: its state, too.
        extra: plain values the trainer wants back: tensors, numbers, texts, lists and dictionaries of them.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "extra": dict(extra or {}),
    }
    with whole(path) as part, part.open("wb") as file:
        torch.save(content, file)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, Any]]:
    """Put model, optimizer and random state back, and return the steps done and the trainer's own values.

    Nothing is changed when the file is refused.

    Args:
        path: file written by `save_checkpoint`; nothing in it is executed.
        model: built from the same configuration.
        optimizer: built over the same parameters, in the same groups.

    Raises:
        FormatError: the file is missing, damaged, of another version, or belongs to another model or optimizer.
    """
    content = _read(path)
    found, wanted = _shapes(content["model"]), _shapes(model.state_dict())
    if found != wanted:
        names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        listed = ", ".join(f"{name} (file {found.get(name, 'none')}, model {wanted.get(name, 'none')})" for name in names[:4])
        raise FormatError(f"{path} belongs to another model: {listed}. Resume with the configuration the run was started with.")
    theirs, ours = (_groups(state) for state in (content["optimizer"], optimizer.state_dict()))
    if theirs != ours:
        raise FormatError(
            f"{path} belongs to another optimizer: its parameter groups are {theirs}, expected {ours}. Resume with the same recipe."
        )
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["random"])
    if torch.cuda.is_available() and content["random_cuda"]:
        torch.cuda.set_rng_state_all(content["random_cuda"])
    return content["step"], content["extra"]


def spent_seconds(path: Path) -> float:
    """Seconds that went into a checkpoint, over all attempts of its run.

    Raises:
        FormatError: the file is missing, damaged, or of another version.
    """
    return _read(path)["extra"]["seconds"]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise FormatError(f"{path} is no readable checkpoint ({error}). Start the run anew with --overwrite.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        version = content.get("format") if isinstance(content, dict) else None
        raise FormatError(f"{path} is a checkpoint of format {version}, this version reads {FORMAT}. Start the run anew with --overwrite.")
    return content


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Shape and type of every tensor, as text."""
    return {name: f"{list(value.shape)} {value.dtype}" for name, value in state.items()}


def _groups(state: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Name and number of parameters of every group."""
    return [(group["name"], len(group["params"])) for group in state["param_groups"]]
