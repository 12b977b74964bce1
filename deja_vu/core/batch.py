"""A batch: the frames of one training or evaluation step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.image import Lines, cut_window
from deja_vu.core.sequence import Frame
from deja_vu.core.transfer import move

PICTURES = ("image", "head", "foreground", "valid", "loss_mask", "eyes_mouth")


@dataclass(frozen=True)
class Batch:
    """Frames with everything a loss needs, on one pixel grid."""

    positions: Int[Tensor, " B"]
    """Places in the sequence."""
    image: Float[Tensor, "B H W 3"]
    """Cropped frames, sRGB in [0, 1]."""
    head: Float[Tensor, "B H W 1"]
    """Head alpha."""
    foreground: Float[Tensor, "B H W 1"]
    """Alpha of the whole person, neck and torso included."""
    valid: Float[Tensor, "B H W 1"]
    """1 where the frame shows what was filmed, 0 beyond its border and behind bars."""
    loss_mask: Float[Tensor, "B H W 1"]
    """1 on the head and the true background, 0 on neck, torso and what is not known, which are ignored."""
    eyes_mouth: Float[Tensor, "B H W 1"]
    """1 on eyes and mouth."""
    params: HeadParams
    camera: Camera

    def whole_person(self) -> Batch:
        """The same pictures with neck and torso counted as the head is: what an avatar of the whole person must show."""
        return replace(self, head=self.foreground, loss_mask=self.valid)

    def with_neck(self) -> Batch:
        """The same pictures in which the head ends in no soft edge above the neck, and less counts below.

        What an avatar of the head must show that goes on in a neck, of which it knows no more than its color.
        """
        return replace(self, head=torch.where(self.head > 0, self.foreground, self.head), valid=self.loss_mask)

    def crop(self, rows: Lines, columns: Lines) -> Batch:
        """A window of the pictures, seen by the window's camera."""
        height, width = self.image.shape[1:3]
        if isinstance(rows, slice):
            assert isinstance(columns, slice), columns
            (top, bottom, _), (left, right, _) = rows.indices(height), columns.indices(width)
            rows, columns = slice(top, bottom), slice(left, right)
            camera = self.camera.crop(left, top, right - left, bottom - top)
        else:
            assert isinstance(columns, Tensor), columns
            camera = self.camera.crop(columns[0], rows[0], len(columns), len(rows))
        return replace(self, camera=camera)._with({name: cut_window(getattr(self, name), rows, columns) for name in PICTURES})

    def resize(self, width: int, height: int) -> Batch:
        """The pictures averaged over the pixels of a smaller grid."""
        if (height, width) == self.image.shape[1:3]:
            return self
        pictures = {name: interpolate(getattr(self, name).movedim(-1, 1), (height, width), mode="area").movedim(1, -1) for name in PICTURES}
        return replace(self, camera=self.camera.resize(width, height))._with(pictures)

    def to(self, device: torch.device) -> Batch:
        """The same frames on another device."""
        moved = replace(self, params=self.params.to(device), camera=self.camera.to(device))
        return moved._with({name: move(getattr(self, name), device) for name in PICTURES})

    def frame(self, number: int) -> Batch:
        """A batch of one of the frames."""
        part = slice(number, number + 1)
        pictures = {name: getattr(self, name)[part] for name in PICTURES}
        return replace(self, positions=self.positions[part], params=self.params[part], camera=self.camera.view(number), **pictures)

    def _with(self, pictures: dict[str, Tensor]) -> Batch:
        return replace(self, **cast("dict[str, Any]", pictures))


def stack_frames(frames: list[Frame], positions: Tensor, params: HeadParams, camera: Camera) -> Batch:
    """A batch of frames of one size.

    Args:
        frames: B frames.
        positions: what each is called in messages [B].
        params: of the B frames.
        camera: of all frames, or one each.
    """
    image, foreground, head, eyes_mouth, valid = (
        torch.stack([getattr(frame, name) for frame in frames]).float() / 255
        for name in ("image", "foreground", "head", "eyes_mouth", "valid")
    )
    loss_mask = (1 - (foreground - head).clamp_min(0)) * valid
    head, foreground, valid, loss_mask, eyes_mouth = (plane[..., None] for plane in (head, foreground, valid, loss_mask, eyes_mouth))
    return Batch(
        positions=positions,
        image=image,
        head=head,
        foreground=foreground,
        valid=valid,
        loss_mask=loss_mask,
        eyes_mouth=eyes_mouth,
        params=params,
        camera=camera,
    )
