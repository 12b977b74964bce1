"""Pinhole camera: the unit of rendering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.transfer import move


@dataclass(frozen=True)
class Camera:
    """One pinhole camera, or a batch of them with the same image size."""

    camera_from_world: Float[Tensor, "*b 4 4"]
    """Rigid transform into camera space (OpenCV axes), meters."""
    intrinsics: Float[Tensor, "*c 3 3"]
    """Focal lengths and principal point in pixels; a pixel's center lies at its index + 0.5."""
    width: int
    """Image width in pixels."""
    height: int
    """Image height in pixels."""

    @staticmethod
    def from_focal(focal: Float[Tensor, ""] | float, width: int, height: int) -> Camera:
        """Camera at the world's origin with square pixels and its principal point at the image center.

        Args:
            focal: focal length in pixels.
            width: image width in pixels.
            height: image height in pixels.
        """
        intrinsics = torch.eye(3)
        intrinsics[0, 0] = intrinsics[1, 1] = torch.as_tensor(focal)
        intrinsics[0, 2], intrinsics[1, 2] = width / 2, height / 2
        return Camera(torch.eye(4), intrinsics, width, height)

    @staticmethod
    def stack(cameras: Sequence[Camera]) -> Camera:
        """A batch of single cameras of one size."""
        first = cameras[0]
        poses, intrinsics = ([getattr(camera, name) for camera in cameras] for name in ("camera_from_world", "intrinsics"))
        return Camera(torch.stack(poses), torch.stack(intrinsics), first.width, first.height)

    @staticmethod
    def look_at(
        position: Sequence[float],
        target: Sequence[float] = (0.0, 0.0, 0.0),
        *,
        up: Sequence[float] = (0.0, 1.0, 0.0),
        fov: float = 0.5,
        width: int = 512,
        height: int = 512,
    ) -> Camera:
        """Camera at one point that looks at another, with square pixels and its principal point at the image center.

        Args:
            position: of the camera in the world, meters. A head without a pose of its own stands at the origin and looks along +z,
                with +y up: from (0, 0, 0.6) one sees its face.
            target: point in the middle of the picture, meters.
            up: direction that is up in the picture.
            fov: vertical angle of view, radians.
            width: image width in pixels.
            height: image height in pixels.

        Raises:
            ValueError: position and target are one point, or `up` points along the view.
        """
        eye, ahead = torch.tensor(position, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)
        forward = torch.nn.functional.normalize(ahead - eye, dim=0)
        right = torch.linalg.cross(forward, torch.tensor(up, dtype=torch.float32))
        if float(right.norm()) < 1e-6:
            raise ValueError(f"a camera at {tuple(position)} cannot look at {tuple(target)} with {tuple(up)} up: these lie on one line")
        right = torch.nn.functional.normalize(right, dim=0)
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
        pose = torch.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, -rotation @ eye
        return replace(Camera.from_focal(height / 2 / math.tan(fov / 2), width, height), camera_from_world=pose)

    def project(self, points: Float[Tensor, "*p n 3"]) -> tuple[Float[Tensor, "*q n 2"], Float[Tensor, "*q n"]]:
        """Pixel coordinates and depth (meters along the optical axis) of world points [*b n 3]."""
        rotation, translation = self.camera_from_world[..., :3, :3], self.camera_from_world[..., :3, 3]
        seen = points @ rotation.transpose(-1, -2) + translation[..., None, :]
        depth = seen[..., 2]
        homogeneous = seen @ self.intrinsics.transpose(-1, -2)
        return homogeneous[..., :2] / depth[..., None].clamp_min(1e-6), depth

    def resize(self, width: int, height: int) -> Camera:
        """The same view sampled on another pixel grid."""
        across, down, last = self.intrinsics.unbind(-2)  # by numbers: a tensor of them would have to be brought to the device
        intrinsics = torch.stack([across * (width / self.width), down * (height / self.height), last], -2)
        return replace(self, intrinsics=intrinsics, width=width, height=height)

    def crop(self, x0: float | Tensor, y0: float | Tensor, width: int, height: int) -> Camera:
        """The window of this view whose top left corner lies at pixel (x0, y0): numbers, or scalars on the camera's device."""
        shift = torch.zeros(3, 3, dtype=self.intrinsics.dtype, device=self.intrinsics.device)
        shift[0, 2], shift[1, 2] = -x0, -y0
        return replace(self, intrinsics=self.intrinsics + shift, width=width, height=height)

    def to(self, target: torch.device | torch.dtype | str) -> Camera:
        """The same camera on another device or in another precision."""
        return replace(self, camera_from_world=move(self.camera_from_world, target), intrinsics=move(self.intrinsics, target))

    def view(self, number: int) -> Camera:
        """One view of a batch; the same camera where there is only one."""
        pose, intrinsics = self.camera_from_world, self.intrinsics
        return replace(
            self,
            camera_from_world=pose[number] if pose.dim() == 3 else pose,
            intrinsics=intrinsics[number] if intrinsics.dim() == 3 else intrinsics,
        )
