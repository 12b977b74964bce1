"""Read codes from frames of a person at camera rate: only the face is posed, and drawn no finer than the reader needs."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.base import Avatar
from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.code_fit import FittedCode
from deja_vu.avatars.gaussian.code_reader import GRIDS, CodeReader, Example
from deja_vu.avatars.gaussian.face_code import MARGIN, FaceCode, FaceView, fitted_parts
from deja_vu.avatars.gaussian.part import AvatarPart
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.heads.regions import PixelBox, points_box

AROUND = 0.35
"""Share of the face's width or height by which what is drawn reaches beyond eyes, brows and lips."""
BEHIND = 0.08
"""How far it reaches behind the middle of the head, meters: temples and hair beside them show in the windows, the back does not."""
CELL_PIXELS = 2
"""Pixels drawn for every cell of the reader's grids, across and down, where frames have more."""


class FaceReader:
    """Reads codes of one person's frames; a snapshot of the avatar, to be made anew when that has been trained on."""

    def __init__(self, avatar: GaussianAvatar, reader: CodeReader) -> None:
        """Prepare what is drawn.

        Args:
            avatar: on the CPU, in evaluation mode.
            reader: the avatar's.
        """
        self._avatar, self._reader, self._code = avatar, reader, FaceCode.of(avatar.head.spec)
        parts = fitted_parts(avatar.head.topology)
        self._part = AvatarPart(avatar, torch.cat(parts), AROUND, BEHIND)
        self._vertices = [self._part.places[vertices] for vertices in parts]

    @torch.no_grad()
    def read(self, batch: Batch) -> HeadParams:
        """Parameters of a frame, with what its picture says beyond what was tracked.

        Args:
            batch: one frame with its tracked parameters, in the window of the head.
        """
        vertices = self.vertices(batch.params)
        view = self.view(batch, vertices)
        return self.correct(batch.params, self._reader.read(self.residuals(view, batch.params, vertices)))

    def vertices(self, params: HeadParams) -> Float[Tensor, "1 V 3"]:
        """Posed vertices of what is drawn, world space."""
        return self._part.vertices(params)

    def view(self, batch: Batch, vertices: Float[Tensor, "1 V 3"]) -> FaceView:
        """The windows of a frame.

        Args:
            batch: one frame.
            vertices: what `vertices` says of its parameters.
        """
        return FaceView.of(self._avatar.subject(batch), vertices[0], self._vertices)

    def window(self, vertices: Float[Tensor, "1 V 3"], camera: Camera) -> PixelBox:
        """Rows and columns of a picture in which the windows of all parts lie."""
        return points_box(vertices[0, torch.cat(self._vertices)], camera, MARGIN)

    def correct(self, params: HeadParams, missed: Float[Tensor, " D"]) -> HeadParams:
        """Parameters with what their code has missed, within its bounds."""
        tracked = self._code.pack(params)
        low, high = self._code.bounds(tracked)
        return self._code.put((tracked + missed).clamp(low, high), params)

    @torch.no_grad()
    def example(self, batch: Batch, fitted: FittedCode) -> Example:
        """What a frame and the code that was fitted to it say to the reader."""
        poses = [self._code.put(code[None], batch.params) for code in (fitted.tracked, fitted.code)]
        at_tracked, at_fitted = (self.residuals(fitted.view, params) for params in poses)
        return Example.of(fitted, at_tracked, at_fitted)

    def residuals(self, view: FaceView, params: HeadParams, vertices: Float[Tensor, "1 V 3"] | None = None) -> list[Float[Tensor, "_ _ 3"]]:
        """Frame less avatar in every window, 0 where no pixel counts.

        Args:
            view: of the frame.
            params: with which the avatar is drawn.
            vertices: what `vertices` says of them, where that is known.
        """
        vertices = self.vertices(params) if vertices is None else vertices
        sizes = zip(view.targets, GRIDS, strict=True)
        scale = max(CELL_PIXELS * max(rows / len(target), columns / target.shape[1]) for target, (rows, columns) in sizes)
        shown = view.draw(self._part.gaussians(params, vertices), min(scale, 1.0))
        return [(target - picture) * mask for target, picture, mask in zip(view.targets, shown, view.masks, strict=True)]


def codes_reader(avatar: Avatar) -> Callable[[Batch], HeadParams]:
    """What says the parameters of a frame of the avatar's own person: as tracked, and as the avatar reads where it has learned to.

    Args:
        avatar: in evaluation mode, on any device; frames are read on the CPU.
    """
    if not isinstance(avatar, GaussianAvatar) or avatar.reader is None:
        return lambda batch: batch.params
    still = avatar if avatar.device.type == "cpu" else deepcopy(avatar).cpu()
    assert still.reader is not None
    return FaceReader(still, still.reader).read
