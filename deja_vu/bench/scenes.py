"""Scenes for timing rasterizers: shells of random Gaussians like a head, and trained avatars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from deja_vu.avatars.io import load_avatar
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.sequence import TrackedSequence


@dataclass(frozen=True)
class Scene:
    """What a rasterizer is asked to draw."""

    name: str
    gaussians: Gaussians
    """Of one image."""
    camera: Camera
    """One view."""


def shell_scene(size: int, count: int) -> Scene:
    """A shell of `count` Gaussians in a square picture of `size` pixels."""
    return Scene(f"shell {size}x{size}", shell(count), view(size, torch.device("cpu")))


def avatar_scene(run: Path, size: int) -> Scene:
    """A trained avatar in the pose and view of its track's first frame.

    Args:
        run: folder of a finished `deja-vu personalize`.
        size: pixels a side.

    Raises:
        InputError: the folder holds no avatar or no track.
    """
    avatar, track = load_avatar(run / "avatar.safetensors"), TrackedSequence.load(run / "track")
    camera = track.camera.resize(size, size)
    pose, intrinsics = (matrix[0] if matrix.dim() == 3 else matrix for matrix in (camera.camera_from_world, camera.intrinsics))
    with torch.no_grad():
        gaussians = avatar.gaussians(track.params[0:1])[0]
    return Scene(f"avatar {size}x{size}", gaussians, Camera(pose, intrinsics, size, size))


def shell(count: int, seed: int = 0) -> Gaussians:
    """Flat Gaussians on an ellipsoid of a head's size (16 x 23 x 19 cm), as wide as 0.7 of their spacing.

    Args:
        count: Gaussians.
        seed: of the random generator.
    """
    generator = torch.Generator().manual_seed(seed)
    radii = torch.tensor([0.08, 0.115, 0.095])
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    area = 4 * torch.pi * (radii * radii.roll(1)).pow(1.6).mean() ** (1 / 1.6)  # Thomsen's formula
    spacing = (area / count).sqrt()
    scales = 0.7 * spacing * torch.exp(0.4 * torch.randn(count, 3, generator=generator))
    scales[:, 2] *= 0.2
    up = torch.tensor([0.0, 0.0, 1.0])  # the thin axis, turned onto the normal by the half-way quaternion
    quats = torch.cat([1 + (normals @ up)[:, None], torch.linalg.cross(up.expand_as(normals), normals)], dim=-1)
    opacities = torch.sigmoid(1 + 1.5 * torch.randn(count, generator=generator))
    return Gaussians(normals * radii, quats, scales, opacities, torch.randn(count, 1, 3, generator=generator))


def view(size: int, device: torch.device) -> Camera:
    """A square picture in which the shell fills three quarters of the height, seen from one meter."""
    camera = Camera.from_focal(0.75 * size / 0.23, size, size)
    camera.camera_from_world[2, 3] = 1.0
    return camera.to(device)
