"""Pictures and tensors as files, written completely or not at all, and read back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Module

from deja_vu.core.documents import in_short
from deja_vu.core.errors import FormatError, OutputError
from deja_vu.core.tensor_file import open_tensors
from deja_vu.io.files import whole, write_atomic


def write_picture(path: Path, image: UInt8[np.ndarray, "H W *C"], options: Sequence[int] = (), *, durable: bool = True) -> None:
    """Write a picture in one step; gray, or in OpenCV's channel order. See `whole`.

    Raises:
        OutputError: it cannot be written; a former file is kept.
    """
    encoded, data = cv2.imencode(path.suffix, image, options)
    assert encoded, path.suffix
    write_atomic(path, data.tobytes(), durable=durable)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file in one step. See `whole`.

    Raises:
        OutputError: it cannot be written; a former file is kept.
    """
    with whole(path) as part:
        try:
            plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            save_file(plain, part, None if header is None else dict(header))
        except SafetensorError as error:  # which is what a full disk is to it
            raise OutputError(f"{path} could not be written ({error}). Make room or choose another place.") from error


def read_tensors(path: Path | str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a safetensors file.

    Raises:
        FormatError: it is damaged, or none.
    """
    try:
        with open_tensors(path) as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path} is damaged or not a safetensors file ({in_short(error)}).") from error


WEIGHTS_SHA256 = "weights_sha256"
"""Entry of a network's header: the digest of its tensors."""


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, types and shapes, in the order of their names; what a file's header says is not in it."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_weights(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a network's tensors, and their digest into the header. See `write_tensors`.

    Raises:
        OutputError: the file cannot be written; a former one is kept.
    """
    write_tensors(path, tensors, {**header, WEIGHTS_SHA256: tensors_digest(tensors)})


def read_weights(path: Path | str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a network's file; the header has their digest, whether or not an older version wrote it.

    Raises:
        FormatError: it is damaged, none, or its tensors are not those that were written.
    """
    header, tensors = read_tensors(path)
    found = tensors_digest(tensors)
    if header.get(WEIGHTS_SHA256, found) != found:
        raise FormatError(f"{path} is damaged: its tensors are not those whose digest its header has. Copy it again, or train it again.")
    return {**header, WEIGHTS_SHA256: found}, tensors


def read_asset(path: Path | str, format: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a file that comes with the package.

    Args:
        path: safetensors file.
        format: kind and version that its header must name.

    Raises:
        FormatError: it is damaged, or of another kind or version.
    """
    try:
        header, tensors = read_tensors(path)
    except FormatError as error:
        raise FormatError(f"{error} Install the package again to restore it.") from error
    if (found := header.get("format", "none")) != format:
        raise FormatError(f"{path} has format {found!r}, expected {format!r}. Install the package again, or bake the file.")
    return header, tensors


def load_weights(network: Module, tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Give a network, built as a file's header describes it, the file's tensors.

    Args:
        network: to be filled, in place.
        tensors: of the file.
        path: of the file, for the message.

    Raises:
        FormatError: they do not fit, or are not finite.
    """
    expected, found = ({name: tuple(value.shape) for name, value in side.items()} for side in (network.state_dict(), tensors))
    if expected != found or not all(torch.isfinite(value).all() for value in tensors.values()):
        raise FormatError(f"{path}: its tensors do not fit the network that its header describes, or are not finite.")
    network.load_state_dict(tensors)
