"""A tracked video on disk: cropped frames, masks, and the head's parameters in every frame.

Layout of the folder (format version 1):
  track.json          subject, head, rate, source, crop, warnings
  params.safetensors  identity, expressions, joints, poses, intrinsics, source indices, times, split; the torso's motion and shape
                      where it was tracked
  frames/NNNNNN.jpg   the square head crop, named by source frame index
  masks/NNNNNN.png    four planes: person alpha, head alpha (the person without neck and torso), eyes_mouth, and
                      valid (0 beyond the frame's border and behind bars)
  person/NNNNNN.jpg   a wider square with neck and torso, of the same size in pixels; absent in folders that hold heads only
  person_masks/NNNNNN.png    the same four planes of it
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from safetensors import SafetensorError
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.documents import in_short, read_json
from deja_vu.core.errors import FormatError, InputError, refuse_other_version
from deja_vu.core.head import TORSO_SHAPE, HeadParams
from deja_vu.core.image import decode_picture
from deja_vu.core.tensor_file import open_tensors
from deja_vu.core.transfer import move

FORMAT_VERSION = 1

Window = Literal["head", "person"]
"""Parts of the video that are stored: the head close up, and as much of the person as was filmed."""
WINDOW_FOLDERS: dict[Window, tuple[str, str]] = {"head": ("frames", "masks"), "person": ("person", "person_masks")}
"""Folders of a window's pictures and of its masks."""
BORDER_SHARE = 0.04
"""Distance from the border of what was filmed up to which a translucent torso is ignored, sides of the window."""
UNDECIDED = (12, 243)
"""Alpha between which it is translucent, of 255."""


@dataclass(frozen=True)
class Frame:
    """One cropped frame with its masks."""

    image: UInt8[Tensor, "H W 3"]
    foreground: UInt8[Tensor, "H W"]
    """Foreground alpha: head, neck, torso."""
    head: UInt8[Tensor, "H W"]
    """Head alpha: the foreground above the fitted head's soft neck plane."""
    eyes_mouth: UInt8[Tensor, "H W"]
    """255 on eyes and mouth, where errors are seen first."""
    valid: UInt8[Tensor, "H W"]
    """255 where the frame shows what was filmed, 0 beyond its border and behind bars, and where `leave_out_undecided` says so."""

    def to(self, device: torch.device) -> Frame:
        """The same frame on another device."""
        return Frame(**{field.name: move(getattr(self, field.name), device) for field in fields(self)})


@dataclass(frozen=True)
class TrackInfo:
    """Description of a tracked folder."""

    subject: str
    head_name: str
    fps: float
    source: str
    """File name of the video."""
    source_sha256: str
    source_frames: int
    crop: tuple[int, int, int, int]
    """x0, y0, x1, y1 of the crop in source pixels, after the turn; may reach beyond the frame, where the picture repeats the nearest filmed
    pixel."""
    resolution: int
    """Side of the stored crop in pixels."""
    split: str
    """Choice of the test frames: tail or blocks."""
    warnings: tuple[str, ...] = ()
    version: int = FORMAT_VERSION
    person_crop: tuple[int, int, int, int] | None = None
    """The same of the window that holds neck and torso, stored at the same resolution; None where only the head is stored."""
    turn: int = 0
    """Quarter turns to the left by which the source's pictures were brought upright."""
    excluded: tuple[int, ...] = ()
    """Source frames with a face that are not among the tracked ones, for the fit failed in them."""


@dataclass(frozen=True)
class TrackedSequence:
    """A tracked video. Frames stay on disk and are read one at a time."""

    folder: Path
    info: TrackInfo
    params: HeadParams
    """T frames; the identity is the same in all of them."""
    camera: Camera
    """One fixed camera at the world's origin, on the crop's pixel grid."""
    index: Int[Tensor, " T"]
    """Index of each frame in the source video."""
    times: Float[Tensor, " T"]
    """Seconds."""
    test: Bool[Tensor, " T"]
    """Frames that training never sees."""
    torso_shape: Float[Tensor, " K"] | None = None
    """Coefficients of the bust's own components; None where the torso was not tracked."""
    window: Window = "head"
    """What frames and camera show."""

    def __len__(self) -> int:
        return len(self.index)

    def frame(self, position: int, resolution: int | None = None) -> Frame:
        """Read one frame, reduced to another resolution by pixel areas if asked.

        Raises:
            FormatError: the frame's files are missing, damaged or of another size.
        """
        name = f"{int(self.index[position]):06d}"
        pictures, planes = WINDOW_FOLDERS[self.window]
        image = decode_picture(self.folder / pictures / f"{name}.jpg")
        masks = decode_picture(self.folder / planes / f"{name}.png", cv2.IMREAD_UNCHANGED)
        side = self.info.resolution
        if image is None or masks is None or image.shape != (side, side, 3) or masks.shape != (side, side, 4):
            raise FormatError(f"{self.folder}: frame {name} is missing or damaged. Track the video again.")
        masks[..., 3] = leave_out_undecided(masks)
        if resolution is not None and resolution != side:
            size = (resolution, resolution)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            masks = cv2.resize(masks, size, interpolation=cv2.INTER_AREA)
            masks[..., 3] = np.where(masks[..., 3] == 255, 255, 0)  # part of such a pixel's matte is of what nobody filmed
        rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1]))
        return Frame(rgb, *torch.from_numpy(np.ascontiguousarray(masks.transpose(2, 0, 1))))

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the window in source pixels."""
        return self.info.crop if self.window == "head" or self.info.person_crop is None else self.info.person_crop

    @property
    def shows_person(self) -> bool:
        """Whether the window with neck and torso is stored."""
        return self.info.person_crop is not None

    def person_window(self) -> TrackedSequence:
        """The same frames in the window that holds neck and torso.

        Raises:
            InputError: only the head is stored.
        """
        if self.info.person_crop is None:
            raise InputError(f"{self.folder} holds the head alone. Track the video again to have neck and torso, or use --crop head.")
        camera = window_camera(self.camera, self.crop, self.info.person_crop)
        return replace(self, window="person", camera=camera)

    def select(self, frames: Tensor) -> TrackedSequence:
        """Some of the frames, by mask or index."""
        return replace(self, params=self.params[frames], index=self.index[frames], times=self.times[frames], test=self.test[frames])

    def train_part(self) -> TrackedSequence:
        """The frames that training may see."""
        return self.select(~self.test)

    def test_part(self) -> TrackedSequence:
        """The frames kept for evaluation."""
        return self.select(self.test)

    @staticmethod
    def load(folder: Path) -> TrackedSequence:
        """Read a tracked folder.

        Raises:
            InputError: the folder is not a tracked folder.
            FormatError: it is of another version, damaged, or holds values that are not finite.
        """
        description, parameters = folder / "track.json", folder / "params.safetensors"
        if not description.is_file() or not parameters.is_file():
            raise InputError(
                f"{folder} is not a tracked folder: expected track.json and params.safetensors in it. Make one with: deja-vu track"
            )
        try:
            fields = dict(read_json(description))
            refuse_other_version(f"{folder} has tracking format", fields.get("version"), FORMAT_VERSION, "Track the video again.")
            crops = {name: tuple(fields[name]) for name in ("crop", "person_crop") if fields.get(name) is not None}
            lists = {"warnings": tuple(fields["warnings"]), "excluded": tuple(fields.get("excluded", ()))}
            info = TrackInfo(**{**fields, **crops, **lists})
            with open_tensors(parameters) as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            count = len(tensors["index"])
            _check_shapes(tensors, count)
            shape = tensors["shape"].expand(count, -1)
            torso = {"torso": tensors["torso"]} if "torso" in tensors else {}
            params = HeadParams(shape, tensors["expression"], tensors["joints"], tensors["world_from_head"], **torso)
            camera = Camera(torch.eye(4), tensors["intrinsics"], info.resolution, info.resolution)
            own = tensors.get("torso_shape")
            sequence = TrackedSequence(folder, info, params, camera, tensors["index"], tensors["times"], tensors["test"], own)
        except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
            raise FormatError(f"{folder} is damaged ({in_short(error)}). Track the video again.") from error
        if not all(torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point()):
            raise FormatError(f"{folder}: parameters hold values that are not finite. Track the video again.")
        return sequence


def leave_out_undecided(masks: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H W"]:
    """The plane `valid` without what the matte leaves translucent of a torso near the border of what was filmed.

    There a matte knows one side only, and lets the ground shine through a shoulder that the picture cuts off.

    Args:
        masks: planes of a frame as they are stored.
    """
    foreground, head, valid = masks[..., 0], masks[..., 1], masks[..., 3]
    reach = round(BORDER_SHARE * len(masks))
    inside = cv2.erode(valid, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    torso = (foreground > UNDECIDED[0]) & (foreground < UNDECIDED[1]) & (head < foreground // 2)
    return np.where((inside < 255) & torso, 0, valid).astype(np.uint8)


def window_camera(camera: Camera, crop: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> Camera:
    """The camera of another square window of the same video, on as many pixels.

    Args:
        camera: of a window.
        crop: that window, x0, y0, x1, y1 in source pixels.
        other: the other one.
    """
    size, other_size = crop[2] - crop[0], other[2] - other[0]
    source = camera.resize(size, size).crop(other[0] - crop[0], other[1] - crop[1], other_size, other_size)
    return source.resize(camera.width, camera.height)


def _check_shapes(tensors: dict[str, Tensor], count: int) -> None:
    """Refuse tensors that do not belong to one video of `count` frames; sizes that depend on the head are None."""
    per_frame = {"index": (), "times": (), "test": (), "expression": (None,), "joints": (None, 3), "world_from_head": (4, 4)}
    per_frame |= {"torso": (4, 4)} if "torso" in tensors else {}
    expected = {"shape": (None,), "intrinsics": (3, 3)} | ({"torso_shape": (TORSO_SHAPE,)} if "torso_shape" in tensors else {})
    expected |= {name: (count, *size) for name, size in per_frame.items()}
    for name, sizes in expected.items():
        found = tuple(tensors[name].shape)
        if len(found) != len(sizes) or any(size not in (None, side) for side, size in zip(found, sizes, strict=True)):
            raise ValueError(f"{name} has shape {found}, expected {sizes}")
