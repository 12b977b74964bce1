"""Read codes in front of a camera, whose colors are not those of the video, and where landmarks place the head a pixel or two off.

The reader in an avatar's file has learned from frames whose pose was refined by their pixels, and takes a shift of the whole face for an
expression. From pictures of the first second follow the gain of every color channel, and how the avatar's picture changes with the pose:
what looks like such a change is taken out of every residual before it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.code_reader import GRIDS, CodeReader, reduce_parts
from deja_vu.avatars.gaussian.face_reader import FaceReader
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.heads.skinning import axis_angle_to_matrix

POSE_STEPS = (0.02, 0.02, 0.02, 0.002, 0.002, 0.006)
"""Change of the pose by which its effect is measured: three turns about the world's axes, radians, and three shifts, meters."""
RIDGE = 1e-4
"""Share of the effects' mean square that is added to each, so that two which look alike are told apart no further."""


@dataclass(frozen=True)
class LivePicture:
    """A picture of a camera, with what was tracked there."""

    image: UInt8[Tensor, "H W 3"]
    """sRGB."""
    params: HeadParams
    """Of the face [1]."""
    camera: Camera


@dataclass(frozen=True)
class Comparison:
    """What a picture says, reduced to the grids of all parts, one after the other: P cells of each color."""

    residual: Float[Tensor, " P"]
    """Picture less avatar."""
    seen: Float[Tensor, " P"]
    """The picture itself."""


class LiveReader:
    """Reads codes from a camera's pictures of the avatar's person; a snapshot of the avatar."""

    def __init__(self, avatar: GaussianAvatar, reader: CodeReader, rest: Sequence[LivePicture]) -> None:
        """Learn how this camera sees the person.

        Args:
            avatar: on the CPU, in evaluation mode.
            reader: the avatar's.
            rest: some pictures of the first second, at least one.
        """
        self._reader, self._face = reader, FaceReader(avatar, reader)
        compared = [self._compare(picture) for picture in rest]
        self._gain = find_gain(compared)
        effects = torch.stack([self._pose_effects(picture, found) for picture, found in zip(rest, compared, strict=True)]).mean(0)
        self._effects, self._remover = by_part(effects)

    @torch.no_grad()
    def read(self, picture: LivePicture) -> HeadParams:
        """Parameters with what the picture says beyond what was tracked; the pose stays."""
        found = self._compare(picture)
        residual = found.residual + (self._gain - 1) * found.seen
        unusual = residual - self._reader.mean
        return self._face.correct(picture.params, self._reader.read_cells(residual - (self._remover @ unusual) @ self._effects))

    @torch.no_grad()
    def _compare(self, picture: LivePicture, params: HeadParams | None = None) -> Comparison:
        """A picture beside the avatar as tracked, or with other parameters in the same windows."""
        vertices = self._face.vertices(picture.params)
        rows, columns = self._face.window(vertices, picture.camera)
        view = self._face.view(face_batch(picture, rows, columns), vertices)
        drawn = (picture.params, vertices) if params is None else (params, None)
        residuals = self._face.residuals(view, drawn[0], drawn[1])
        return Comparison(torch.cat(reduce_parts(residuals)), torch.cat(reduce_parts(view.targets)))

    def _pose_effects(self, picture: LivePicture, here: Comparison) -> Float[Tensor, "6 P"]:
        """How the residual changes with each of the steps of the pose."""
        moved = [move_head(picture.params, number) for number in range(len(POSE_STEPS))]
        return torch.stack([self._compare(picture, params).residual - here.residual for params in moved])


def face_batch(picture: LivePicture, rows: slice, columns: slice) -> Batch:
    """The part of a picture that shows the face, every pixel of it the person's."""
    image = picture.image[None, rows, columns] / 255
    every = torch.ones_like(image[..., :1])
    camera = picture.camera.crop(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    return Batch(
        positions=torch.zeros(1, dtype=torch.long),
        image=image,
        head=every,
        foreground=every,
        valid=every,
        loss_mask=every,
        eyes_mouth=every,
        params=picture.params,
        camera=camera,
    )


def move_head(params: HeadParams, number: int) -> HeadParams:
    """A head moved by one of the steps of the pose."""
    step = torch.zeros(6)
    step[number] = POSE_STEPS[number]
    pose = params.world_from_head.clone()
    pose[..., :3, :3] = axis_angle_to_matrix(step[:3]) @ pose[..., :3, :3]
    pose[..., :3, 3] += step[3:]
    return replace(params, world_from_head=pose)


def find_gain(compared: Sequence[Comparison]) -> Float[Tensor, " P"]:
    """Factor of every cell by which pictures best become the avatar's, the same for all cells of a color; least squares."""
    colors = torch.cat([torch.arange(3).repeat_interleave(rows * columns) for rows, columns in GRIDS])
    gain = torch.ones(len(colors))
    for color in range(3):
        seen = torch.stack([one.seen[colors == color] for one in compared])
        drawn = seen - torch.stack([one.residual[colors == color] for one in compared])
        gain[colors == color] = (seen * drawn).sum() / seen.square().sum().clamp_min(1e-6)
    return gain


def by_part(effects: Float[Tensor, "6 P"]) -> tuple[Float[Tensor, "m P"], Float[Tensor, "m P"]]:
    """Effects of the pose on every part by itself, and what says how much of each a residual holds.

    Args:
        effects: on all parts.
    """
    sizes = [3 * rows * columns for rows, columns in GRIDS]
    kept, removers = [], []
    for part, own in enumerate(effects.split(sizes, dim=1)):
        own = torch.nn.functional.pad(own, (sum(sizes[:part]), sum(sizes[part + 1 :])))
        system = own @ own.T
        system.diagonal().add_(RIDGE * system.diagonal().mean() + 1e-12)
        kept.append(own)
        removers.append(torch.linalg.solve(system, own))
    return torch.cat(kept), torch.cat(removers)
