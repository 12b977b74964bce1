"""Write a tracked folder, as laid out in `deja_vu.core.sequence`: frames and masks first, then the files that complete it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from deja_vu.core.sequence import WINDOW_FOLDERS, TrackedSequence, Window
from deja_vu.io.arrays import write_picture, write_tensors
from deja_vu.io.files import write_json

JPEG_QUALITY = 97
PRIVATE = 0o700
"""Mode of folders that hold what was filmed, or less where the umask is stricter."""


def make_frame_folders(folder: Path, windows: Sequence[Window]) -> list[Path]:
    """Make the folders of some windows' pictures and masks, closed to other users of this machine; returns them.

    Raises:
        OSError: one cannot be made.
    """
    places = [folder / name for window in windows for name in WINDOW_FOLDERS[window]]
    for place in places:
        place.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    return places


def write_frame(folder: Path, index: int, image: UInt8[np.ndarray, "H W 3"], window: Window = "head") -> None:
    """Store one crop in a tracked folder.

    Raises:
        OutputError: it could not be written.
    """
    path = folder / WINDOW_FOLDERS[window][0] / f"{index:06d}.jpg"
    write_picture(path, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY], durable=False)


def write_masks(folder: Path, index: int, planes: UInt8[np.ndarray, "H W 4"], window: Window = "head") -> None:
    """Store one frame's foreground, head, eyes_mouth and valid masks in a tracked folder.

    Raises:
        OutputError: they could not be written.
    """
    write_picture(folder / WINDOW_FOLDERS[window][1] / f"{index:06d}.png", planes, [cv2.IMWRITE_PNG_COMPRESSION, 1], durable=False)


def write_sequence(sequence: TrackedSequence) -> None:
    """Write params.safetensors, and then track.json, beside frames that are already there.

    Raises:
        OutputError: they could not be written.
    """
    params = sequence.params
    tensors = {
        "shape": params.shape[0],
        "expression": params.expression,
        "joints": params.joints,
        "world_from_head": params.world_from_head,
        "intrinsics": sequence.camera.intrinsics,
        "index": sequence.index,
        "times": sequence.times,
        "test": sequence.test,
    }
    if not torch.equal(params.torso, torch.eye(4).expand_as(params.torso)):
        tensors["torso"] = params.torso
    if sequence.torso_shape is not None:
        tensors["torso_shape"] = sequence.torso_shape
    write_tensors(sequence.folder / "params.safetensors", tensors)
    write_json(sequence.folder / "track.json", asdict(sequence.info))
