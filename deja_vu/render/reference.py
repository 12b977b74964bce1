"""The rasterizer that defines the answer: 3D Gaussian Splatting in plain torch, differentiable, in any precision, slow.

The mathematics are those of gsplat 1.5 in its classic mode (Kerbl et al., SIGGRAPH 2023; Zwicker et al., EWA splatting, 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.image import RenderOutput
from deja_vu.core.sampling import true_rows
from deja_vu.render.sh import sh_sum

NEAR = 0.01
"""Gaussians whose center lies nearer than this are not drawn, meters."""
BLUR = 0.3
"""Added to the variance of every projected Gaussian, square pixels."""
ALPHA_MIN = 1 / 255
"""A Gaussian weaker than this leaves the pixel as it is."""
ALPHA_MAX = 0.999
OPAQUE = 1e-4
"""A pixel takes no further Gaussian when its transmittance would fall to this."""
TILE = 32
"""Pixels a side that are composited at once; the result does not depend on it."""


@dataclass(frozen=True)
class Projected:
    """Gaussians of one image, in front of the camera, nearest first."""

    centers: Float[Tensor, "n 2"]
    """Pixels."""
    conics: Float[Tensor, "n 3"]
    """Inverse covariance: xx, xy, yy, per square pixel."""
    reach: Float[Tensor, "n 2"]
    """Half size of the box outside of which alpha stays under `ALPHA_MIN`, pixels."""
    depths: Float[Tensor, " n"]
    opacities: Float[Tensor, " n"]
    colors: Float[Tensor, "n 3"]


def rasterize(gaussians: Gaussians, camera: Camera, background: Float[Tensor, "b 3"], depth: bool = True) -> RenderOutput:
    """Render a batch; see `deja_vu.render.base.rasterize`, which checks the arguments.

    Args:
        gaussians: batch of b.
        camera: batch of b.
        background: color behind each image.
        depth: give it too.
    """
    views = [
        Camera(pose, intrinsics, camera.width, camera.height)
        for pose, intrinsics in zip(camera.camera_from_world, camera.intrinsics, strict=True)
    ]
    images = [_composite(project(gaussians[b], view), view, background[b]) for b, view in enumerate(views)]
    rgb, alpha, distance = (torch.stack(parts) for parts in zip(*images, strict=True))
    return RenderOutput(rgb, alpha, distance if depth else None)


def rotation_matrices(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Rotation matrices of quaternions wxyz, normalized first."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _linearize(seen: Float[Tensor, "n 3"], camera: Camera) -> Float[Tensor, "n 2 3"]:
    """Derivative of pixel by camera-space position, with x/z and y/z clamped to 15 % of the image outside its borders."""
    size = camera.intrinsics.new_tensor([camera.width, camera.height])
    focal, middle = camera.intrinsics.diagonal()[:2], camera.intrinsics[:2, 2]
    depth = seen[:, 2:]
    slope = torch.minimum(torch.maximum(seen[:, :2] / depth, -(middle + 0.15 * size) / focal), (size - middle + 0.15 * size) / focal)
    return torch.cat([torch.diag_embed(focal / depth), -(focal * slope / depth)[..., None]], dim=-1)


def project(gaussians: Gaussians, camera: Camera) -> Projected:
    """The visible Gaussians of one image on the image plane.

    Args:
        gaussians: of one image.
        camera: one view.
    """
    rotation, translation = camera.camera_from_world[:3, :3], camera.camera_from_world[:3, 3]
    seen = gaussians.means @ rotation.T + translation
    keep = (seen[:, 2] >= NEAR) & (gaussians.opacities >= ALPHA_MIN)
    order = torch.argsort(seen[:, 2], stable=True)
    order = order[true_rows(keep[order])]
    gaussians, seen = gaussians[order], seen[order]

    axes = rotation @ rotation_matrices(gaussians.quats) * gaussians.scales[:, None, :]
    u, v = (_linearize(seen, camera) @ axes).unbind(-2)
    xx, xy, yy = (u * u).sum(-1) + BLUR, (u * v).sum(-1), (v * v).sum(-1) + BLUR
    minors = torch.linalg.cross(u, v)  # det(MM') as a sum of squares: it cannot cancel
    determinant = (minors * minors).sum(-1) + BLUR * (xx + yy) - BLUR**2
    squared = 2 * torch.log(gaussians.opacities.detach() / ALPHA_MIN)
    return Projected(
        centers=seen[:, :2] / seen[:, 2:] * camera.intrinsics.diagonal()[:2] + camera.intrinsics[:2, 2],
        conics=torch.stack([yy, -xy, xx], dim=-1) / determinant[:, None],
        reach=(squared[:, None] * torch.stack([xx, yy], dim=-1).detach()).sqrt() + 1e-3,
        depths=seen[:, 2],
        opacities=gaussians.opacities,
        colors=(0.5 + sh_sum(gaussians.sh, gaussians.means, camera)).clamp_min(0),
    )


def _composite(projected: Projected, camera: Camera, background: Float[Tensor, "3"]) -> tuple[Tensor, Tensor, Tensor]:
    def row(y: int) -> Tensor:
        starts = range(0, camera.width, TILE)
        return torch.cat(
            [_composite_tile(projected, x, y, min(TILE, camera.width - x), min(TILE, camera.height - y)) for x in starts], dim=1
        )

    channels = torch.cat([row(y) for y in range(0, camera.height, TILE)], dim=0)
    through = channels[..., 4:]
    alpha = 1 - through
    return channels[..., :3] + through * background, alpha, channels[..., 3:4] / alpha.clamp_min(1e-10)


def _composite_tile(projected: Projected, x: int, y: int, width: int, height: int) -> Float[Tensor, "height width 5"]:
    """Color, weighted depth and transmittance of a window of pixels."""
    low, high = projected.centers.detach() - projected.reach, projected.centers.detach() + projected.reach
    touches = true_rows((high[:, 0] > x) & (low[:, 0] < x + width) & (high[:, 1] > y) & (low[:, 1] < y + height))
    near = projected.centers[touches]
    columns, lines = (torch.arange(n, dtype=near.dtype, device=near.device) + 0.5 for n in (width, height))
    dx = (x + columns)[None, :, None] - near[:, 0]
    dy = (y + lines)[:, None, None] - near[:, 1]
    a, b, c = projected.conics[touches].unbind(-1)
    falloff = torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
    alpha = (projected.opacities[touches] * falloff).clamp_max(ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
    before = torch.cumprod(torch.cat([torch.ones_like(alpha[..., :1]), 1 - alpha], dim=-1), dim=-1)
    alpha = torch.where(before[..., 1:] > OPAQUE, alpha, 0)
    weights = alpha * before[..., :-1]
    values = torch.cat([projected.colors[touches], projected.depths[touches, None]], dim=-1)
    return torch.cat([weights @ values, torch.prod(1 - alpha, dim=-1, keepdim=True)], dim=-1)
