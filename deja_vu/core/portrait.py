"""A photo of a head with the head fitted to it: what a frame is to a video."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import torch
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import Frame


@dataclass(frozen=True)
class Portrait:
    """One square head crop with its masks and its fit."""

    key: str
    """Name that no other portrait of a collection has."""
    identity: str
    """Person it shows; portraits of one person never stand on both sides of a split."""
    frame: Frame
    params: HeadParams
    """The fit, a batch of one; world space is the camera's."""
    camera: Camera
    """On the crop's pixel grid, at the world's origin."""

    def resize(self, side: int) -> Portrait:
        """Reduced by pixel areas to a smaller grid."""
        if side == self.camera.width:
            return self
        planes = {name: _reduce(getattr(self.frame, name), side) for name in ("image", "foreground", "head", "eyes_mouth", "valid")}
        return replace(self, frame=Frame(**planes), camera=self.camera.resize(side, side))


def _reduce(plane: Tensor, side: int) -> Tensor:
    return torch.from_numpy(cv2.resize(plane.numpy(), (side, side), interpolation=cv2.INTER_AREA))
