"""Clips of IMavatar and PointAvatar: a folder with flame_params.json, image/ and mask/, perhaps semantic/.

The camera looks along -z with y up; the model is FLAME times four, so that it fills a unit ball; its root turns, the camera stands still.
`intrinsics` are focal lengths (the first one negative) and principal point over the side of the square pictures; in an older form pixels
of 512.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deja_vu.core.errors import FormatError, InputError
from deja_vu.datasets.recording import (
    OPENCV_FROM_OPENGL,
    RecordedFrame,
    Recording,
    read_image,
    read_json,
    read_plane,
    refuse_other_flame,
    refuse_scaled,
    rigid,
    take,
    take_all,
)

SCALE = 4.0
"""Of the model in its files, over meters."""
FILE = "flame_params.json"
OLD_SIDE = 512
"""Pixels a side of the pictures for which the older form states intrinsics."""
NOT_HEAD = (0, 14, 15, 16)
"""Classes of the parsing network (CelebAMask-HQ's order) that are no part of the head: background, neck, necklace, clothes."""


def read_imavatar(folder: Path) -> Recording:
    """A clip of IMavatar's or PointAvatar's layout.

    Raises:
        InputError: something is missing.
        FormatError: something is damaged, or of another head model.
    """
    path = folder / FILE
    content = read_json(path, "a clip of IMavatar or PointAvatar")
    frames = sorted(content["frames"], key=partial(_number, path))
    shape = take(path, content, "shape_params", (None,))
    expression = take_all([path] * len(frames), frames, "expression", (None,))
    refuse_other_flame(path, shape, expression)
    pose = take_all([path] * len(frames), frames, "pose", (15,)).reshape(-1, 5, 3)
    cameras = take_all([path] * len(frames), frames, "world_mat", (3, 4))
    for rotation in cameras[:, :, :3]:
        refuse_scaled(path, rotation)
    camera = [rigid(OPENCV_FROM_OPENGL @ view[:, :3], OPENCV_FROM_OPENGL @ view[:, 3] / SCALE) for view in cameras]
    pictures = [_find(folder / "image", frame["file_path"]) for frame in frames]
    if not (folder / "mask").is_dir():
        raise InputError(f"{folder} has no folder mask/. Every frame needs its mask: make them with the data set's preprocessing.")
    first = read_image(pictures[0])
    return Recording(
        name=folder.name,
        flame="flame2020",
        shape=shape,
        expression=expression,
        joints=pose[:, 1:],
        root=pose[:, 0],
        translation=np.zeros((len(frames), 3)),
        camera_from_model=np.stack(camera),
        intrinsics=_intrinsics(path, content, first.shape[0], first.shape[1]),
        index=np.array([_number(path, frame) for frame in frames]),
        read=lambda position: _read(folder, pictures[position]),
    )


def _number(path: Path, frame: Any) -> int:
    try:
        return int(Path(frame["file_path"]).stem)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{path}: a frame's `file_path` is not a numbered picture such as ./image/12. Fetch the data set again."
        ) from error


def _find(folder: Path, file_path: str) -> Path:
    name = Path(file_path)
    return folder / (name.name if name.suffix in (".png", ".jpg") else f"{name.name}.png")


def _intrinsics(path: Path, content: dict[str, Any], height: int, width: int) -> np.ndarray:
    focal_x, focal_y, center_x, center_y = take(path, content, "intrinsics", (4,))
    if focal_x > 0 or focal_y < 0:
        raise FormatError(
            f"{path}: its focal lengths are {focal_x:g} and {focal_y:g}; expected the first one negative and the second positive, as for a "
            "camera that looks along -z. These are other axes: convert them, or ask for another kind of data set."
        )
    side = OLD_SIDE if center_y > 1 else 1
    scale = np.array([width, height, width, height]) / side
    focal_x, focal_y, center_x, center_y = np.array([-focal_x, focal_y, center_x, center_y]) * scale
    return np.array([[focal_x, 0, center_x], [0, focal_y, center_y], [0, 0, 1]])


def _read(folder: Path, picture: Path) -> RecordedFrame:
    image = read_image(picture)
    size = image.shape[:2]
    foreground = read_plane(folder / "mask" / picture.name, size)
    semantic = folder / "semantic" / picture.name
    if not semantic.is_file():
        return RecordedFrame(image[..., :3], foreground)
    classes = read_plane(semantic, size, classes=True)
    return RecordedFrame(image[..., :3], foreground, np.where(np.isin(classes, NOT_HEAD), 0, foreground).astype(np.uint8))
