"""Exports of flame-head-tracker, as Gaussian Deja-vu learns from: a folder of one .npz a frame, with the picture in it.

The camera's pose is yaw, pitch, roll and a place, its axes turned to OpenCV's; classes of a parsing network say what belongs to the head.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deja_vu.core.errors import FormatError, InputError
from deja_vu.datasets.imavatar import NOT_HEAD
from deja_vu.datasets.recording import RecordedFrame, Recording, one_lens, read_npz, refuse_other_flame, take, take_all

FITTED_SIDE = 256
"""Pixels a side of the pictures for which the intrinsics are stated."""
BACKGROUND = 0
"""Class of what is no part of the person."""


def read_head_tracker(folder: Path) -> Recording:
    """A folder that flame-head-tracker filled.

    Raises:
        InputError: something is missing.
        FormatError: something is damaged, or of another head model.
    """
    files = sorted((path for path in folder.glob("*.npz") if path.stem.isdecimal()), key=lambda path: int(path.stem))
    if not files:
        raise InputError(f"{folder} is not an export of flame-head-tracker: expected files such as 0.npz, one a frame, in it.")
    arrays = [_without_pictures(path) for path in files]
    shape = take_all(files, arrays, "shape", (1, None))[:, 0]
    expression = take_all(files, arrays, "exp", (1, None))[:, 0]
    refuse_other_flame(folder, shape, expression)

    def rows(name: str, width: int, *, needed: bool = True) -> np.ndarray:
        given = arrays if needed else [{name: np.zeros((1, width))} | part for part in arrays]
        return take_all(files, given, name, (1, width))[:, 0]

    joints = np.concatenate([rows("neck_pose", 3, needed=False), rows("jaw_pose", 3), rows("eye_pose", 6)], 1).reshape(-1, 4, 3)
    side = _picture(files[0]).shape[0]
    return Recording(
        name=folder.name,
        flame="flame2020",
        shape=shape.mean(0),
        expression=expression,
        joints=joints,
        root=rows("head_pose", 3, needed=False),
        translation=np.zeros((len(files), 3)),
        camera_from_model=np.stack([camera_from_model(pose) for pose in rows("cam", 6)]),
        intrinsics=one_lens(folder, [_intrinsics(path, part, side) for path, part in zip(files, arrays, strict=True)]),
        index=np.array([int(path.stem) for path in files]),
        read=lambda position: _read(files[position]),
    )


def camera_from_model(pose: np.ndarray) -> np.ndarray:
    """The motion into the camera's space of yaw, pitch, roll (radians) and place of a camera [6]: R = Rz(roll) Ry(yaw) Rx(pitch)."""
    yaw, pitch, roll = pose[:3]
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    model_from_camera = np.eye(4)
    model_from_camera[:3, :3] = about_z @ about_y @ about_x @ np.diag([1.0, -1.0, -1.0])
    model_from_camera[:3, 3] = pose[3:]
    return np.linalg.inv(model_from_camera)


def _without_pictures(path: Path) -> dict[str, np.ndarray]:
    return {name: value for name, value in read_npz(path).items() if value.dtype.kind == "f" and value.size < 4096}


def _intrinsics(path: Path, arrays: dict[str, np.ndarray], side: int) -> np.ndarray:
    if "K" in arrays:
        scale = side / FITTED_SIDE
        return np.diag([scale, scale, 1.0]) @ take(path, arrays, "K", (1, 3, 3))[0]
    angle = np.radians(float(np.ravel(arrays["fov"])[0])) if "fov" in arrays else np.nan
    if not 0 < angle < np.pi:
        raise FormatError(f"{path} has neither `K` nor a usable `fov`. Track the video again with a newer version of the tracker.")
    focal = 0.5 * side / np.tan(0.5 * angle)
    return np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])


def _picture(path: Path) -> np.ndarray:
    picture = read_npz(path).get("img")
    if picture is None or picture.dtype != np.uint8 or picture.ndim != 4 or picture.shape[1] != picture.shape[2] or picture.shape[3] != 3:
        raise FormatError(f"{path} has no square picture `img` of 8 bits in it. Export frames with their pictures.")
    return picture[0]


def _read(path: Path) -> RecordedFrame:
    image, classes = _picture(path), read_npz(path).get("parsing")
    if classes is None or classes.shape != (1, *image.shape[:2]):
        raise InputError(f"{path} has no `parsing` of its picture, which says where the head is. Track the video with face parsing.")
    person, head = classes[0] != BACKGROUND, ~np.isin(classes[0], NOT_HEAD)
    return RecordedFrame(image, np.where(person, 255, 0).astype(np.uint8), np.where(head, 255, 0).astype(np.uint8))
