"""Pictures and tensors as files, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from deja_vu.core.errors import OutputError
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
