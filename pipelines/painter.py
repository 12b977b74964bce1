"""Pictures of an avatar over a color or a picture, or with straight alpha."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deja_vu.avatars import Avatar
from deja_vu.core.camera import Camera
from deja_vu.core.errors import InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.image import decode_picture, to_uint8

Background: TypeAlias = Float[Tensor, "3"] | UInt8[np.ndarray, "H W 3"]
"""A color in [0, 1], or a picture."""
COLORS = {"white": "ffffff", "black": "000000", "gray": "808080", "green": "00b140", "blue": "0047bb"}
"""Backgrounds by name; green and blue are the usual key colors."""

DRAWN_PIXELS = 1 << 24
"""Pixels that a GPU draws at once: sixteen pictures of 1024 a side."""
DRAWN_FRAMES = 16
"""Frames that it draws at once at most."""


def open_background(text: str) -> Background:
    """A color or a picture.

    Raises:
        InputError: neither.
    """
    code = COLORS.get(text, text).removeprefix("#")
    if re.fullmatch(r"[0-9a-fA-F]{6}", code):
        return torch.tensor([int(code[place : place + 2], 16) / 255 for place in (0, 2, 4)])
    picture = decode_picture(Path(text))
    if picture is None:
        raise InputError(f"The background '{text}' is no color ({', '.join(COLORS)}, or RRGGBB), and no picture that can be read.")
    return np.ascontiguousarray(picture[..., ::-1])


class Painter:
    """Pictures of an avatar over a color or a picture, or with straight alpha."""

    def __init__(self, avatar: Avatar, camera: Camera, background: Background | None) -> None:
        self._device = avatar.device
        self._avatar, self._camera, self._transparent = avatar, camera.to(self._device), background is None
        self._picture = fill_frame(background, camera.width, camera.height) if isinstance(background, np.ndarray) else None
        self._color = background if isinstance(background, Tensor) else torch.zeros(3)

    @property
    def together(self) -> int:
        """Frames that are best drawn at once: many small ones on a GPU, which would wait for each; one by one on a CPU."""
        if self._device.type == "cpu" or "gaussians" not in self._avatar.capabilities:
            return 1
        return max(1, min(DRAWN_FRAMES, DRAWN_PIXELS // (self._camera.width * self._camera.height)))

    def __call__(self, params: HeadParams, camera: Camera | None = None) -> UInt8[np.ndarray, "H W C"]:
        """One picture, RGB or RGBA.

        Args:
            params: one frame.
            camera: of the same size, instead of the first one.
        """
        return self._draw(params, self._camera if camera is None else camera)[0]

    def stream(
        self, frames: Iterable[HeadParams], cameras: Iterable[Camera] | None = None, *, together: int
    ) -> Iterator[UInt8[np.ndarray, "H W C"]]:
        """Pictures in turn, so many drawn at once.

        Args:
            frames: one by one.
            cameras: one for each frame, of the same size as the first one, which is used without them.
            together: see the property; 1 for frames that are to be seen as they come.
        """
        shown = zip(frames, repeat(self._camera) if cameras is None else cameras)  # noqa: B905 (one of them is endless)
        while group := list(islice(shown, together)):
            camera = self._camera if cameras is None else Camera.stack([camera for _, camera in group])
            yield from self._draw(HeadParams.cat([params for params, _ in group]), camera)

    @torch.no_grad()
    def _draw(self, params: HeadParams, camera: Camera) -> UInt8[np.ndarray, "B H W C"]:
        out = self._avatar.render(params.to(self._device), camera.to(self._device), self._color.to(self._device))
        if self._transparent:
            return to_uint8(torch.cat([out.rgb / out.alpha.clamp_min(1e-3), out.alpha], -1))
        return to_uint8(out.rgb if self._picture is None else out.rgb + (1 - out.alpha) * self._picture.to(self._device))


def fill_frame(picture: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> Float[Tensor, "H W 3"]:
    """The middle of a picture, scaled to fill a frame."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    size = (max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale)))
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return torch.from_numpy(resized[top : top + height, left : left + width]).float() / 255
