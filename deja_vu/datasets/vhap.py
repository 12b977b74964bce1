"""Exports of VHAP, which are also the data of GaussianAvatars (NeRSemble): transforms.json, images/, fg_masks/, flame_param/*.npz.

Cameras are poses in the world with OpenGL's axes; FLAME's root turns about its own joint and is moved by `translation`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deja_vu.core.errors import FormatError, InputError
from deja_vu.datasets.recording import (
    OPENCV_FROM_OPENGL,
    RecordedFrame,
    Recording,
    one_lens,
    read_image,
    read_json,
    read_npz,
    read_plane,
    refuse_other_flame,
    refuse_scaled,
    rigid,
    take,
    take_all,
)

DIVISIONS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
"""Lists of GaussianAvatars; in its data val are other cameras at times of training, and test other times."""
WHOLE = "transforms.json"


def read_vhap(folder: Path, camera: int | None = None) -> Recording:
    """One camera of an export.

    Args:
        folder: with transforms.json, or with GaussianAvatars' three lists.
        camera: its `camera_index`; None takes the only one.

    Raises:
        InputError: something is missing, or which of several cameras is not said.
        FormatError: something is damaged, or of another head model.
    """
    frames, held_out = _read_lists(folder)
    cameras = sorted({int(frame.get("camera_index", 0)) for frame in frames})
    if (len(cameras) > 1) if camera is None else (camera not in cameras):
        shown = ", ".join(map(str, cameras))
        raise InputError(f"{folder} has the cameras {shown}. A tracked folder shows what one camera saw: choose with --camera.")
    frames = [frame for frame in frames if int(frame.get("camera_index", 0)) == (cameras[0] if camera is None else camera)]
    by_time = {int(frame["timestep_index"]): frame for frame in frames}
    index = sorted(by_time)
    listed = [by_time[number] for number in index]
    params = [_read_params(folder, frame) for frame in listed]
    shape = take(folder, params[0], "shape", (None,))
    expression = take_all([folder] * len(params), params, "expr", (1, None))[:, 0]
    refuse_other_flame(folder, shape, expression)
    notes = []
    if "static_offset" in params[0]:
        size = 1000 * np.linalg.norm(take(folder, params[0], "static_offset", (1, None, 3))[0], axis=-1).mean()
        notes.append(f"its offsets of single vertices ({size:.1f} mm in the mean) are left out: avatars learn what FLAME's identity lacks")

    def rows(name: str, width: int) -> np.ndarray:
        return take_all([folder] * len(params), params, name, (1, width))[:, 0]

    joints = np.concatenate([rows("neck_pose", 3), rows("jaw_pose", 3), rows("eyes_pose", 6)], 1).reshape(-1, 4, 3)
    return Recording(
        name=folder.name,
        flame="flame2023",
        shape=shape,
        expression=expression,
        joints=joints,
        root=rows("rotation", 3),
        translation=rows("translation", 3),
        camera_from_model=np.stack([_camera(folder, frame) for frame in listed]),
        intrinsics=one_lens(folder, [_intrinsics(folder, frame) for frame in listed]),
        index=np.array(index),
        read=lambda position: _read(folder, listed[position]),
        test=np.array([number in held_out for number in index]) if held_out else None,
        notes=tuple(notes),
    )


def _read_lists(folder: Path) -> tuple[list[dict[str, Any]], set[int]]:
    """Frames of all lists, and the times that are for test alone."""
    what = "an export of VHAP or a subject of GaussianAvatars"
    present = [name for name in DIVISIONS if (folder / name).is_file()]
    lists = {name: read_json(folder / name, what)["frames"] for name in present or [WHOLE]}
    frames = [frame for listed in lists.values() for frame in listed]
    if not all(isinstance(frame, dict) and isinstance(frame.get("timestep_index"), int) for frame in frames):
        raise FormatError(f"{folder}: a frame has no `timestep_index`. Expected {what}; for INSTA's transforms use the kind insta.")
    return frames, {int(frame["timestep_index"]) for frame in lists.get(DIVISIONS[2], [])}


def _read_params(folder: Path, frame: dict[str, Any]) -> dict[str, np.ndarray]:
    if not isinstance(frame.get("flame_param_path"), str):
        raise InputError(
            f"{folder}: frame {frame['timestep_index']} names no FLAME parameters (`flame_param_path`). Export it with its parameters, "
            "not with meshes."
        )
    return read_npz(folder / frame["flame_param_path"])


def _camera(folder: Path, frame: dict[str, Any]) -> np.ndarray:
    pose = take(folder, frame, "transform_matrix", (4, 4))
    refuse_scaled(folder, pose[:3, :3])
    return rigid(OPENCV_FROM_OPENGL, np.zeros(3)) @ np.linalg.inv(pose)


def _intrinsics(folder: Path, frame: dict[str, Any]) -> np.ndarray:
    focal_x, focal_y, center_x, center_y = (float(take(folder, frame, name, ())) for name in ("fl_x", "fl_y", "cx", "cy"))
    return np.array([[focal_x, 0, center_x], [0, focal_y, center_y], [0, 0, 1]])


def _read(folder: Path, frame: dict[str, Any]) -> RecordedFrame:
    if not isinstance(frame.get("file_path"), str):
        raise FormatError(f"{folder}: frame {frame['timestep_index']} names no picture (`file_path`). Export it again.")
    image = read_image(_place(folder, frame["file_path"]))
    if isinstance(frame.get("fg_mask_path"), str):
        return RecordedFrame(image[..., :3], read_plane(_place(folder, frame["fg_mask_path"]), image.shape[:2]))
    if image[..., 3].min() == 255:
        raise InputError(
            f"{folder}: frame {frame['timestep_index']} has no mask (`fg_mask_path`) and its picture no alpha. Export with masks: "
            "VHAP's preprocessing makes them."
        )
    return RecordedFrame(image[..., :3], image[..., 3])


def _place(folder: Path, name: str) -> Path:
    """A file that a list names, relative to its folder; without a suffix it is a PNG."""
    path = folder / name
    return path if Path(name).suffix else path.with_suffix(".png")
