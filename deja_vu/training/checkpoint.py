"""Save a run so that it continues as if it had never stopped: model, optimizer, random state, step."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from deja_vu.core.documents import in_short
from deja_vu.core.errors import FormatError, OutputError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.files import whole

UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, AssertionError),
    *(pickle.UnpicklingError, struct.error),
)
"""What the unpickler of torch raises at damaged files: it trusts its stack, and the sizes that it reads."""
FORMAT = 3
"""Version of the file; raised whenever an older file would be misread."""


def save_checkpoint(
    path: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, Any] | None = None,
    *,
    whose: Mapping[str, str],
) -> None:
    """Write a checkpoint; a crash while writing leaves the former one whole.

    Args:
        path: file to write or replace.
        step: steps done.
        model: its state is saved, not its code.
        optimizer: its state, too.
        extra: plain values the trainer wants back: tensors, numbers, texts, lists and dictionaries of them.
        whose: fingerprints of what the run computes from, by name: recipe, video or photos.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "whose": dict(whose),
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "extra": dict(extra or {}),
    }
    with whole(path) as part:
        try:
            torch.save(content, part)
        except RuntimeError as error:  # which is what a full disk is to it
            raise OutputError(f"{path} could not be written ({error}). Make room or choose another place.") from error


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    whose: Mapping[str, str],
    expected: Mapping[str, type] = MappingProxyType({}),
) -> tuple[int, dict[str, Any]]:
    """Put model, optimizer and random state back, and return the steps done and the trainer's own values.

    Nothing is changed when the file is refused.

    Args:
        path: file written by `save_checkpoint`; nothing in it is executed.
        model: built from the same configuration.
        optimizer: built over the same parameters, in the same groups.
        whose: fingerprints of what this run computes from; the file of another run is refused.
        expected: names and types of the trainer's own values.

    Raises:
        FormatError: the file is missing, damaged, of another version, or belongs to another run, model or optimizer.
    """
    content = _read(path, expected)
    if other := sorted(name for name, print_ in whose.items() if content["whose"].get(name) != print_):
        raise FormatError(
            f"{path} belongs to a run with another {' and '.join(other)}. "
            "Resume with what the run was started with, or start it anew with --overwrite."
        )
    found, wanted = _shapes(content["model"]), _shapes(model.state_dict())
    if found != wanted:
        names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        listed = ", ".join(f"{name} (file {found.get(name, 'none')}, model {wanted.get(name, 'none')})" for name in names[:4])
        raise FormatError(f"{path} belongs to another model: {listed}. Resume with the configuration the run was started with.")
    try:
        theirs, ours = (_groups(state) for state in (content["optimizer"], optimizer.state_dict()))
        if theirs != ours:
            raise FormatError(
                f"{path} belongs to another optimizer: its parameter groups are {theirs}, expected {ours}. Resume with the same recipe."
            )
        _refuse_unfit(content["optimizer"]["state"], optimizer)
        optimizer.load_state_dict(content["optimizer"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} is not a readable checkpoint ({str(error)[:200]}). Start the run anew with --overwrite.") from error
    model.load_state_dict(content["model"])
    torch.set_rng_state(content["random"])
    if torch.cuda.is_available() and content["random_cuda"]:
        torch.cuda.set_rng_state_all(content["random_cuda"])
    return content["step"], content["extra"]


def fingerprint(*values: object) -> str:
    """Digest of some values: tensors, dataclasses of them, and whatever prints all of itself."""
    digest = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, Tensor):
            digest.update(f"{tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        elif is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                digest.update(field.name.encode())
                add(getattr(value, field.name))
        else:
            digest.update(repr(value).encode())
        digest.update(b"\0")

    for value in values:
        add(value)
    return digest.hexdigest()


def video_print(sequence: TrackedSequence) -> str:
    """Fingerprint of a tracked video, and of the frames that are taken of it."""
    return fingerprint(sequence.info, sequence.params, sequence.camera.intrinsics, sequence.index)


def spent_seconds(path: Path) -> float:
    """Seconds that went into a checkpoint, over all attempts of its run.

    Raises:
        FormatError: the file is missing, damaged, or of another version.
    """
    return _read(path, {"seconds": float})["extra"]["seconds"]


def _read(path: Path, expected: Mapping[str, type]) -> dict[str, Any]:
    """What a checkpoint holds; `expected` are names and types of the values in its entry `extra`."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise FormatError(f"{path} is not a readable checkpoint ({in_short(error)}). Start the run anew with --overwrite.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        version = content.get("format") if isinstance(content, dict) else None
        raise FormatError(f"{path} is a checkpoint of format {version}, this version reads {FORMAT}. Start the run anew with --overwrite.")
    kinds = {"whose": dict, "step": int, "model": dict, "optimizer": dict, "random": Tensor, "random_cuda": list, "extra": dict}
    if not _holds(content, kinds) or not _holds(content["extra"], expected) or not _is_random_state(content["random"]):
        raise FormatError(f"{path} is not a readable checkpoint: entries are missing or wrong. Start the run anew with --overwrite.")
    return content


def _is_random_state(state: Tensor) -> bool:
    """Whether a generator of random numbers can be put into a state; one that is thrown away is asked."""
    try:
        torch.Generator().set_state(state)
    except (RuntimeError, TypeError):
        return False
    return True


def _holds(values: Mapping[str, Any], kinds: Mapping[str, type]) -> bool:
    return all(isinstance(values.get(name), kind) for name, kind in kinds.items())


def _shapes(state: Mapping[str, Any]) -> dict[str, str]:
    """Shape and type of every tensor, as text; of what should be one and is not, what it is."""
    return {name: f"{list(value.shape)} {value.dtype}" if isinstance(value, Tensor) else repr(value) for name, value in state.items()}


def _groups(state: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Name and number of parameters of every group."""
    return [(group["name"], len(group["params"])) for group in state["param_groups"]]


def _refuse_unfit(state: Mapping[int, Mapping[str, Any]], optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer's state whose tensors are not of their parameters' shapes.

    Raises:
        ValueError: one is not.
    """
    for index, parameter in enumerate(parameter for group in optimizer.param_groups for parameter in group["params"]):
        for name, value in state.get(index, {}).items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"{name} of parameter {index} has shape {tuple(value.shape)}, expected {tuple(parameter.shape)}")
