"""A recording by another program: one person in front of one camera, in FLAME's parameters and this project's axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from deja_vu.core import array_archive, documents
from deja_vu.core.errors import FormatError, InputError
from deja_vu.core.image import decode_picture

MAX_SHAPE = 300
"""FLAME's identity components."""
MAX_EXPRESSION = 100
"""FLAME's expression components."""
SAME_LENS = 0.005
"""Most by which focal lengths of one recording may differ, over their mean."""
OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])
"""Camera axes of OpenGL (y up, z backwards) as OpenCV's (y down, z forwards)."""


@dataclass(frozen=True)
class RecordedFrame:
    """One picture of a recording, with what its files say of its pixels."""

    image: UInt8[np.ndarray, "H W 3"]
    """sRGB."""
    foreground: UInt8[np.ndarray, "H W"]
    """Alpha of the person."""
    head: UInt8[np.ndarray, "H W"] | None = None
    """Alpha of the head with its hair, without neck and clothes; None where the files do not say."""


@dataclass(frozen=True)
class Recording:
    """T frames of one person. Pictures stay on disk."""

    name: str
    flame: str
    """Version of FLAME for which the parameters are made: flame2020 or flame2023."""
    shape: Float[np.ndarray, " S"]
    expression: Float[np.ndarray, "T E"]
    joints: Float[np.ndarray, "T 4 3"]
    """Axis-angle rotations of neck, jaw, left and right eye, radians."""
    root: Float[np.ndarray, "T 3"]
    """Axis-angle rotation of the root about its own joint, radians."""
    translation: Float[np.ndarray, "T 3"]
    """Of the whole model, after that, meters."""
    camera_from_model: Float[np.ndarray, "T 4 4"]
    """OpenCV axes, meters."""
    intrinsics: Float[np.ndarray, "3 3"]
    """Of the pictures, pixels."""
    index: Int[np.ndarray, " T"]
    """Number of each frame, ascending."""
    read: Callable[[int], RecordedFrame]
    """Decodes the picture at a position."""
    test: Bool[np.ndarray, " T"] | None = None
    """Frames that the data set keeps for test; None where it does not say."""
    notes: tuple[str, ...] = ()
    """What of the files a tracked folder cannot hold."""

    def __len__(self) -> int:
        return len(self.index)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON file that holds an object.

    Args:
        path: file.
        what: it is, as `a data set of VHAP`.

    Raises:
        InputError: it is not there.
        FormatError: it is damaged.
    """
    if not path.is_file():
        raise InputError(f"{path.parent} is not {what}: expected {path.name} in it. Give the folder that holds this file.")
    content = documents.read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list) or not content["frames"]:
        raise FormatError(f"{path} lists no frames. Expected an object with `frames` in it; fetch it again.")
    return content


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Plain arrays of an archive; nothing in it is run.

    Raises:
        InputError: it is not there.
        FormatError: it is damaged, or holds anything else.
    """
    if not path.is_file():
        raise InputError(f"There are no parameters of a frame at {path}. Track that frame, or remove it from the list of frames.")
    return array_archive.read_npz(path, "Export it again.")


def take(source: Path, values: Mapping[str, Any], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """One array in float64, of the shape expected (None: any size).

    Args:
        source: where it is from, for messages.
        values: by name.
        name: its own.
        shape: what it must have.

    Raises:
        FormatError: it is missing, of another shape, or not finite.
    """
    try:
        value = np.asarray(values[name], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{source}: a frame has no `{name}`, or it is not made of numbers. Expected shape {shape}.") from error
    if value.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, value.shape, strict=True)):
        raise FormatError(f"{source}: `{name}` has shape {value.shape}, expected {shape} (None: any). It is for another FLAME, or damaged.")
    if not np.isfinite(value).all():
        raise FormatError(f"{source}: `{name}` holds values that are not finite. Track the frame again.")
    return value


def take_all(sources: Sequence[Path], frames: Sequence[Mapping[str, Any]], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """One array of every frame, one above the other; see `take`.

    Raises:
        FormatError: one is missing, of another shape than expected or than the others, or not finite.
    """
    found = [take(source, frame, name, shape) for source, frame in zip(sources, frames, strict=True)]
    for source, value in zip(sources, found, strict=True):
        if value.shape != found[0].shape:
            raise FormatError(
                f"{source}: `{name}` has shape {value.shape}, that of other frames {found[0].shape}. They are for different FLAMEs."
            )
    return np.stack(found)


def refuse_other_flame(source: Path, shape: np.ndarray, expression: np.ndarray) -> None:
    """Check that there are no more coefficients than FLAME has components.

    Raises:
        FormatError: there are.
    """
    found, most = (shape.shape[-1], expression.shape[-1]), (MAX_SHAPE, MAX_EXPRESSION)
    if not (0 < found[0] <= most[0] and 0 < found[1] <= most[1]):
        raise FormatError(
            f"{source} holds {found[0]} coefficients of identity and {found[1]} of expression; FLAME 2020 and 2023 have up to {most[0]} "
            f"and {most[1]}. It was made with another head model, which cannot be read."
        )


def one_lens(source: Path, intrinsics: Sequence[np.ndarray]) -> np.ndarray:
    """The intrinsics that all frames share.

    Raises:
        InputError: they do not.
    """
    every = np.stack(intrinsics)
    mean = every.mean(0)
    if np.abs(every - mean).max() > SAME_LENS * mean[0, 0]:
        raise InputError(
            f"{source}: the focal length or the principal point changes from frame to frame (focal {every[:, 0, 0].min():.0f} to "
            f"{every[:, 0, 0].max():.0f} pixels). A tracked folder has one lens; import pictures of one camera, not re-cropped ones."
        )
    return mean


def read_image(path: Path) -> UInt8[np.ndarray, "H W 4"]:
    """A picture as RGB and alpha, 255 where the file has none.

    Raises:
        InputError: it is missing or damaged.
    """
    picture = decode_picture(path, cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint8:
        raise InputError(f"The picture {path} is missing, damaged or not of 8 bits. Fetch the data set again, or remove the frame.")
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    alpha = picture[..., 3:] if picture.shape[2] == 4 else np.full((*picture.shape[:2], 1), 255, np.uint8)
    return np.ascontiguousarray(np.concatenate([picture[..., 2::-1], alpha], -1))


def read_plane(path: Path, size: tuple[int, int], *, classes: bool = False) -> UInt8[np.ndarray, "H W"]:
    """A mask, brought to a picture's size.

    Args:
        path: file.
        size: height and width.
        classes: values are numbers of classes, which do not mix.

    Raises:
        InputError: it is missing or damaged.
    """
    plane = decode_picture(path, cv2.IMREAD_UNCHANGED)
    if plane is None or plane.dtype != np.uint8:
        raise InputError(f"The mask {path} is missing or damaged. Every frame needs one: make them with the data set's own tools.")
    plane = plane if plane.ndim == 2 else plane[..., 3] if plane.shape[2] == 4 and not classes else plane[..., 0]
    if plane.shape != size:
        plane = cv2.resize(plane, size[::-1], interpolation=cv2.INTER_NEAREST if classes else cv2.INTER_AREA)
    return np.ascontiguousarray(plane)


def rigid(rotation: np.ndarray, translation: np.ndarray) -> Float[np.ndarray, "4 4"]:
    """A motion as a matrix."""
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation, translation
    return motion


def refuse_scaled(source: Path, rotation: np.ndarray) -> None:
    """Check that a camera's axes are orthonormal and right-handed.

    Raises:
        FormatError: they are not.
    """
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2) or np.linalg.det(rotation) < 0:
        raise FormatError(
            f"{source}: a camera's axes are no rotation (scaled or mirrored). Expected a rigid pose in the data set's own axes."
        )


def to_tensor(values: np.ndarray) -> Tensor:
    """float32."""
    return torch.from_numpy(np.ascontiguousarray(values)).float()
