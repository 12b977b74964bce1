"""Pictures and tensors as files, written whole or not at all, and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from deja_vu.core.documents import in_short
from deja_vu.core.errors import FormatError, OutputError
from deja_vu.core.tensor_file import open_tensors
from deja_vu.io.files import whole, write_atomic


def write_picture(path: Path, image: UInt8[np.ndarray, "H W *C"], options: Sequence[int] = (), *, durable: bool = True) -> None:
    """Write a picture in one step; grey, or in OpenCV's channel order. See `whole`.

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
        raise FormatError(f"{path} is damaged or no safetensors file ({in_short(error)}).") from error


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
