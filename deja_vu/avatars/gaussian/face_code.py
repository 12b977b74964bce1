"""The code: expressions and joint angles as one row of numbers, and where in a picture they show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.head import HeadParams, HeadSpec, HeadTopology
from deja_vu.core.image import WHITE, over
from deja_vu.heads.regions import PixelBox, followed_parts, points_box
from deja_vu.render.base import rasterize

MARGIN = 0.35
"""Share of a part's box added on every side."""


@dataclass(frozen=True)
class FaceCode:
    """Expressions, then the angles of all joints but the neck, whose turn belongs to the pose."""

    expressions: int
    joints: tuple[int, ...]
    limits: tuple[float, float] = (0.0, 1.0)
    """Least and largest coefficient of an expression that keeps its meaning."""

    @staticmethod
    def of(spec: HeadSpec) -> FaceCode:
        """The code of a head model."""
        return FaceCode(
            spec.num_expression, tuple(number for number, name in enumerate(spec.joint_names) if name != "neck"), spec.expression_limits
        )

    def __len__(self) -> int:
        return self.expressions + 3 * len(self.joints)

    def is_angle(self) -> Tensor:
        """Which of the numbers are angles, radians; the others are expressions."""
        return torch.arange(len(self)) >= self.expressions

    def pack(self, params: HeadParams) -> Float[Tensor, "*b D"]:
        """The code of some parameters."""
        return torch.cat([params.expression, params.joints[..., list(self.joints), :].flatten(-2)], -1)

    def put(self, code: Float[Tensor, "B D"], params: HeadParams) -> HeadParams:
        """The parameters of B faces with these codes.

        Args:
            code: of every face.
            params: what else they are, of each or of one for all.
        """
        count = len(code)
        joints = params.joints.expand(count, -1, -1).clone()
        joints[:, list(self.joints)] = code[:, self.expressions :].unflatten(1, (-1, 3))
        return HeadParams(
            shape=params.shape.expand(count, -1),
            expression=code[:, : self.expressions],
            joints=joints,
            world_from_head=params.world_from_head.expand(count, 4, 4),
            torso=params.torso.expand(count, 4, 4),
        )

    def bounds(self, tracked: Float[Tensor, "*b D"]) -> tuple[Float[Tensor, "*b D"], Float[Tensor, "*b D"]]:
        """Least and largest values that keep their meaning: expressions within the limits or as far beyond as tracked, any angle."""
        free, angle = torch.full_like(tracked, torch.inf), self.is_angle().to(tracked.device)
        return torch.where(angle, -free, tracked.clamp(max=self.limits[0])), torch.where(angle, free, tracked.clamp(min=self.limits[1]))


def fitted_parts(topology: HeadTopology) -> list[Int[Tensor, " _"]]:
    """Vertices of the parts whose pixels tell the code: the lips, and each eye with its brow; none on a head without lips and eyes."""
    parts = followed_parts(topology)
    eyes, brows = parts.get("eyes", []), parts.get("brows", [])
    sides = [torch.cat(side) for side in zip(eyes, brows, strict=True)] if brows else eyes
    return [*parts.get("lips", []), *sides]


@dataclass(frozen=True)
class FaceView:
    """The windows of one frame in which a face is compared with its avatar."""

    cameras: list[Camera]
    """One for each part, at the frame's own resolution."""
    targets: list[Float[Tensor, "_ _ 3"]]
    """What is filmed there of what the avatar draws, over white."""
    masks: list[Float[Tensor, "_ _ 1"]]
    """Weight of each pixel."""
    around: Camera
    """Of the least window that holds them all: one picture of it takes half the time of one for each part."""
    windows: list[PixelBox]
    """Where the parts lie in that picture."""

    @staticmethod
    def of(batch: Batch, vertices: Float[Tensor, "V 3"], parts: list[Int[Tensor, " _"]]) -> FaceView:
        """Windows around the parts of one frame.

        Args:
            batch: the frame, its subject as the avatar draws it.
            vertices: the posed head's.
            parts: vertices of every part.
        """
        windows, white = [points_box(vertices[part], batch.camera, MARGIN) for part in parts], WHITE.to(batch.image.device)
        rows, columns = (slice(min(one.start for one in side), max(one.stop for one in side)) for side in zip(*windows, strict=True))
        return FaceView(
            [crop_camera(batch.camera, window) for window in windows],
            [over(batch.image[0][window], batch.head[0][window], white) for window in windows],
            [batch.loss_mask[0][window] for window in windows],
            crop_camera(batch.camera, (rows, columns)),
            [(shift(down, -rows.start), shift(across, -columns.start)) for down, across in windows],
        )

    def draw(self, gaussians: Gaussians, scale: float = 1.0) -> list[Float[Tensor, "_ _ 3"]]:
        """Pictures of one face [1 N] in every window, over white.

        Args:
            gaussians: the face's.
            scale: share of the frame's rows and columns with which they are drawn, before they are enlarged to all of them; at most 1.
        """
        width, height = self.around.width, self.around.height
        camera = self.around.resize(math.ceil(scale * width), math.ceil(scale * height))
        picture = rasterize(gaussians, camera, WHITE.to(gaussians.means.device), depth=False).rgb
        if scale < 1:
            picture = interpolate(picture.movedim(-1, 1), (height, width), mode="bilinear").movedim(1, -1)
        return [picture[0][window] for window in self.windows]


def shift(part: slice, by: int) -> slice:
    """A part of a row or column, moved."""
    return slice(part.start + by, part.stop + by)


def crop_camera(camera: Camera, window: PixelBox) -> Camera:
    """The camera that sees a window of the picture."""
    rows, columns = window
    return camera.crop(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
