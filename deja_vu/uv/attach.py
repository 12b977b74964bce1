"""Texels on the posed surface: positions, normals and tangent frames, batched and differentiable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from deja_vu.core.gaussians import ACTIVATIONS, Gaussians, UVGaussianMap
from deja_vu.uv.layout import TexelTable


@dataclass(frozen=True)
class SurfaceFrames:
    """Positions and tangent frames of texels on the posed surface."""

    points: Float[Tensor, "*b M 3"]
    """World positions, meters."""
    frames: Float[Tensor, "*b M 3 3"]
    """Orthonormal, right-handed; columns are tangent (u grows), bitangent and outward normal."""
    stretch: Float[Tensor, "*b M"]
    """Square root of the triangle's area, meters; its ratio to the neutral surface is the local stretch."""

    def part(self, texels: slice) -> SurfaceFrames:
        """Some of the texels."""
        return SurfaceFrames(self.points[..., texels, :], self.frames[..., texels, :, :], self.stretch[..., texels])


def vertex_normals(vertices: Float[Tensor, "*b V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*b V 3"]:
    """Area-weighted unit normals, pointing outside."""
    a, b, c = (vertices.index_select(-2, faces[:, corner]) for corner in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    summed = torch.zeros_like(vertices)
    for corner in range(3):
        summed = summed.index_add(-2, faces[:, corner], normal)
    return normalize(summed, dim=-1)


def attach(vertices: Float[Tensor, "*b V 3"], faces: Int[Tensor, "F 3"], layout: TexelTable) -> SurfaceFrames:
    """Follow the surface with every valid texel.

    Gradients reach the vertices through `points` only: frames are treated as constants, which is enough to refine pose and
    expression and keeps a training step short.

    Args:
        vertices: posed surface in world space, meters.
        faces: all triangles of the surface.
        layout: texel table of the same surface.
    """
    p0, p1, p2 = (vertices.index_select(-2, layout.corners[:, corner]) for corner in range(3))
    points = p0 * layout.bary[:, 0:1] + p1 * layout.bary[:, 1:2] + p2 * layout.bary[:, 2:3]
    with torch.no_grad():
        normals = vertex_normals(vertices, faces)
        n0, n1, n2 = (normals.index_select(-2, layout.corners[:, corner]) for corner in range(3))
        normal = normalize(n0 * layout.bary[:, 0:1] + n1 * layout.bary[:, 1:2] + n2 * layout.bary[:, 2:3], dim=-1)
        e1, e2 = p1 - p0, p2 - p0
        along_u = e1 * layout.uv_gradient[:, 0:1] + e2 * layout.uv_gradient[:, 1:2]
        tangent = normalize(along_u - (along_u * normal).sum(-1, keepdim=True) * normal, dim=-1)
        frames = torch.stack([tangent, torch.linalg.cross(normal, tangent), normal], dim=-1)
        stretch = torch.linalg.cross(e1, e2).norm(dim=-1).sqrt()
    return SurfaceFrames(points, frames, stretch)


def to_gaussians(maps: UVGaussianMap, surface: SurfaceFrames, rest_stretch: Float[Tensor, " M"]) -> Gaussians:
    """Activate a raw map and move it with the surface.

    Args:
        maps: raw attributes in the tangent frame, batched like the surface or not at all.
        surface: posed texels.
        rest_stretch: `SurfaceFrames.stretch` of the identity's neutral surface; scales follow the ratio, limited to a factor of two.
    """
    means = surface.points + (surface.frames @ maps.position[..., None])[..., 0]
    ratio = (surface.stretch / rest_stretch).clamp(0.5, 2.0)[..., None]
    in_plane = torch.cat([ratio, ratio, torch.ones_like(ratio)], dim=-1)
    quats = quaternion_multiply(matrix_to_quaternion(surface.frames), maps.quaternions())
    batch = means.shape[:-1]
    scales = ACTIVATIONS["log_scale"].forward(maps.log_scale) * in_plane
    opacities = ACTIVATIONS["opacity_logit"].forward(maps.opacity_logit[..., 0]).expand(batch)
    sh = maps.color.expand(*batch, 3)[..., None, :]
    return Gaussians(means=means, quats=quats, scales=scales, opacities=opacities, sh=sh)


def matrix_to_quaternion(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternions wxyz of rotation matrices (Bar-Itzhack's largest-component form); not differentiable at 180 degree jumps."""
    m00, m11, m22 = matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 2, 2]
    squares = torch.stack([1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], dim=-1)
    largest = squares.argmax(-1)
    sums = torch.stack(
        [
            matrix[..., 2, 1] - matrix[..., 1, 2],
            matrix[..., 0, 2] - matrix[..., 2, 0],
            matrix[..., 1, 0] - matrix[..., 0, 1],
            matrix[..., 1, 0] + matrix[..., 0, 1],
            matrix[..., 0, 2] + matrix[..., 2, 0],
            matrix[..., 2, 1] + matrix[..., 1, 2],
        ],
        dim=-1,
    )
    s0, s1, s2, s3 = squares.unbind(-1)
    wx, wy, wz, xy, xz, yz = sums.unbind(-1)
    rows = torch.stack(
        [
            torch.stack([s0, wx, wy, wz], dim=-1),
            torch.stack([wx, s1, xy, xz], dim=-1),
            torch.stack([wy, xy, s2, yz], dim=-1),
            torch.stack([wz, xz, yz, s3], dim=-1),
        ],
        dim=-2,
    )
    picked = rows.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4))[..., 0, :]
    return normalize(picked, dim=-1)


def quaternion_multiply(a: Float[Tensor, "*a 4"], b: Float[Tensor, "*b 4"]) -> Float[Tensor, "*c 4"]:
    """Hamilton product wxyz: the rotation b followed by a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )
