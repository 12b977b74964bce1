"""Recordings of metrical-tracker, which are also the data of INSTA: checkpoint/*.frame, pictures and masks of the same names.

A .frame is a pickle that torch wrote. It is read as numbers and texts alone; nothing in it is run. The camera stands in FLAME's space, the
root does not turn; jaw and eyes are the first two rows of their rotation matrices.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deja_vu.core.errors import FormatError, InputError
from deja_vu.datasets.recording import (
    RecordedFrame,
    Recording,
    one_lens,
    read_image,
    read_plane,
    refuse_other_flame,
    refuse_scaled,
    rigid,
    take_all,
)
from deja_vu.heads.skinning import matrix_to_axis_angle

PICTURES = ("images", "imgs", "input", "matted")
"""Folders in which the pictures are looked for: INSTA's, FlashAvatar's, the tracker's own."""
MASKS = ("matted", "alpha", "mask", "masks")
"""Folders in which masks are: pictures with alpha, or gray ones."""
SUFFIXES = (".png", ".jpg", ".jpeg")
_ARRAY, _SCALAR = np.zeros(1).__reduce__()[0], np.float64(1).__reduce__()[0]  # type: ignore[index]
HARMLESS: list[Any] = [
    *(
        (function, f"{module}.multiarray.{name}")
        for function, name in ((_ARRAY, "_reconstruct"), (_SCALAR, "scalar"))
        for module in ("numpy.core", "numpy._core")
    ),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "u1", "i4", "i8", "u4", "u8", "?")),
]
"""What a .frame may name: how NumPy makes arrays of bytes."""


def read_insta(folder: Path) -> Recording:
    """A recording of metrical-tracker's or INSTA's layout.

    Raises:
        InputError: something is missing.
        FormatError: something is damaged, unsafe, or of another head model.
    """
    files = sorted((folder / "checkpoint").glob("*.frame"))
    if not files:
        raise InputError(f"{folder} is not a recording of metrical-tracker or INSTA: expected checkpoint/*.frame in it.")
    pictures = [_find(folder, PICTURES, file.stem) for file in files]
    masks = [_find(folder, MASKS, file.stem) for file in files]
    for file, picture in zip(files, pictures, strict=True):
        if picture is None:
            raise InputError(f"{folder}: {file.name} has no picture with its name in {', '.join(PICTURES)}. Fetch the pictures, too.")
        if not file.stem.isdecimal():
            raise InputError(f"{file}: expected a number for a name, as 00012.frame.")
    frames = [_read_frame(file) for file in files]
    params = [take_part(file, frame, "flame") for file, frame in zip(files, frames, strict=True)]
    cameras = [take_part(file, frame, "opencv") for file, frame in zip(files, frames, strict=True)]

    def rows(parts: list[dict[str, Any]], name: str, *shape: int | None) -> np.ndarray:
        return take_all(files, parts, name, (1, *shape))[:, 0]

    shape, expression = rows(params, "shape", None), rows(params, "exp", None)
    refuse_other_flame(folder, shape, expression)
    rotations = rows(cameras, "R", 3, 3)
    for rotation in rotations:
        refuse_scaled(folder, rotation)
    lids = max((np.abs(part["eyelids"]).max() for part in params if "eyelids" in part), default=0.0)
    turns = np.concatenate([rows(params, "jaw", 6)[:, None], rows(params, "eyes", 12).reshape(-1, 2, 6)], 1)
    joints = np.concatenate([np.zeros((len(files), 1, 3)), rotation_vectors(turns)], 1)
    chosen = [(picture, mask) for picture, mask in zip(pictures, masks, strict=True) if picture is not None]
    return Recording(
        name=folder.name,
        flame="flame2020",
        shape=shape.mean(0),
        expression=expression,
        joints=joints,
        root=np.zeros((len(files), 3)),
        translation=np.zeros((len(files), 3)),
        camera_from_model=np.stack([rigid(turn, place) for turn, place in zip(rotations, rows(cameras, "t", 3), strict=True)]),
        intrinsics=one_lens(folder, list(rows(cameras, "K", 3, 3))),
        index=np.array([int(file.stem) for file in files]),
        read=lambda position: _read(*chosen[position]),
        notes=("its two shapes of the eyelids, which FLAME does not have, are left out",) if lids > 1e-3 else (),
    )


def rotation_vectors(rows: np.ndarray) -> np.ndarray:
    """Axis-angle rotations [.. 3] of the first two rows of matrices [.. 6], which need not be orthonormal (Zhou et al., CVPR 2019)."""
    first, second = rows[..., :3], rows[..., 3:]
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = second - (first * second).sum(-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    matrix = np.stack([first, second, np.cross(first, second)], -2)
    return matrix_to_axis_angle(torch.from_numpy(matrix)).numpy()


def take_part(file: Path, frame: dict[str, Any], name: str) -> dict[str, Any]:
    """A dictionary inside a frame's.

    Raises:
        FormatError: there is none.
    """
    part = frame.get(name)
    if not isinstance(part, dict):
        raise FormatError(f"{file} has no `{name}`. Expected a checkpoint of metrical-tracker; track the recording again.")
    return part


def _read_frame(file: Path) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of pickles that are none of its own: they are refused by what they name
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, EOFError, OSError, KeyError, AttributeError) as error:
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(
            f"{file} is damaged, or names code that only its own program would run ({why}). Track the recording again."
        ) from error
    if not isinstance(content, dict):
        raise FormatError(f"{file} is not a checkpoint of metrical-tracker: expected a dictionary. Track the recording again.")
    return {
        name: {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in part.items()}
        if isinstance(part, dict)
        else part
        for name, part in content.items()
    }


def _find(folder: Path, places: tuple[str, ...], stem: str) -> Path | None:
    candidates = (folder / place / f"{stem}{suffix}" for place in places for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _read(picture: Path, mask: Path | None) -> RecordedFrame:
    image = read_image(picture)
    if image[..., 3].min() < 255:
        return RecordedFrame(image[..., :3], image[..., 3])
    if mask is None or mask == picture:
        raise InputError(f"{picture} has no alpha, and there is no mask with its name in {', '.join(MASKS)}. Every frame needs one.")
    return RecordedFrame(image[..., :3], read_plane(mask, image.shape[:2]))
