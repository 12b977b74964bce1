"""Volume rendering: rays, samples along them, and how densities become a picture.

Every sample stands for an interval of its ray, and the intervals fill the ray from `near` to `far`; so a constant density is
rendered exactly however many samples there are, and where they lie.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool3d, normalize

from deja_vu.core.camera import Camera
from deja_vu.core.sampling import true_rows

SCENE_SCALE = 5.0
"""Scene units a meter: a head with its hair fits the cube [-1, 1] (GPAvatar)."""
SHELL_CELLS = 40
"""Cells a side of the grid that tells rays near the surface from rays that miss it; the grid covers the cube [-1, 1]."""
SHELL_STEPS = 96
"""Places along each ray at which that grid is looked up."""


def world_from_scene(world_from_head: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
    """Similarity that carries scene coordinates, which are the head's own times `SCENE_SCALE`, into the world."""
    scale = torch.eye(4, dtype=world_from_head.dtype, device=world_from_head.device)
    scale.diagonal()[:3].mul_(1 / SCENE_SCALE)
    return world_from_head @ scale


def pixel_rays(camera: Camera, world_from_scene: Float[Tensor, "4 4"]) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Origin and unit direction of the ray through every pixel's center, in scene coordinates, row by row.

    Args:
        camera: one view.
        world_from_scene: rigid, or a similarity (rotation times scale, then translation).
    """
    like = camera.intrinsics
    rows, columns = (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5 for size in (camera.height, camera.width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3)
    scene_from_camera = torch.linalg.inv_ex(camera.camera_from_world @ world_from_scene).inverse  # `inv` waits for a GPU's verdict
    directions = pixels @ torch.linalg.inv_ex(like).inverse.T @ scene_from_camera[:3, :3].T
    return scene_from_camera[:3, 3].expand_as(directions), normalize(directions, dim=-1)


def box_span(
    origins: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Distances at which rays enter and leave the cube [-1, 1], and whether they do; both are 0 for rays that miss it."""
    inverse = 1 / torch.where(directions.abs() < 1e-9, 1e-9, directions)
    a, b = (-1 - origins) * inverse, (1 - origins) * inverse
    near = torch.minimum(a, b).amax(-1).clamp_min(0)
    far = torch.maximum(a, b).amin(-1)
    hit = far > near
    return near * hit, far * hit, hit


def shell_span(
    points: Float[Tensor, "V 3"], origins: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"], radius: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """`box_span` narrowed to the part of each ray that may pass within a radius of some point (never too narrow).

    Args:
        points: surface, within the cube [-1, 1].
        origins: of the rays.
        directions: unit.
        radius: half the thickness of the shell, scene units.
    """
    near, far, hit = box_span(origins, directions)
    cell = 2 / SHELL_CELLS
    step = (far - near) / SHELL_STEPS
    occupied = torch.zeros(SHELL_CELLS**3, device=points.device)
    occupied[_cell_index(points)] = 1
    # A place that is looked up lies within half a step (at most 0.018) of what it stands for; a cell more makes up for both.
    reach = int(radius / cell) + 2
    grid = occupied.view(1, 1, *[SHELL_CELLS] * 3)
    for axis in range(3):  # one axis after the other: the same box, a hundred times cheaper
        wide = [2 * reach + 1 if axis == other else 1 for other in range(3)]
        grid = max_pool3d(grid, wide, stride=1, padding=[size // 2 for size in wide])
    near_points = grid.flatten() > 0
    rays = true_rows(hit)
    offsets = torch.arange(SHELL_STEPS, device=points.device) + 0.5
    t = near[rays, None] + offsets * step[rays, None]
    inside = near_points[_cell_index(origins[rays, None] + t[..., None] * directions[rays, None])]
    first, last = inside.int().argmax(1), SHELL_STEPS - 1 - inside.flip(1).int().argmax(1)
    tight_near, tight_far, tight = torch.zeros_like(near), torch.zeros_like(far), torch.zeros_like(hit)
    tight[rays] = inside.any(1)
    tight_near[rays] = near[rays] + first * step[rays]
    tight_far[rays] = near[rays] + (last + 1) * step[rays]
    return tight_near * tight, tight_far * tight, tight


def _cell_index(points: Float[Tensor, "*b 3"]) -> Tensor:
    x, y, z = (((points + 1) * (SHELL_CELLS / 2)).long().clamp(0, SHELL_CELLS - 1)).unbind(-1)
    return (x * SHELL_CELLS + y) * SHELL_CELLS + z


def sample_stratified(near: Float[Tensor, " n"], far: Float[Tensor, " n"], count: int, *, jitter: bool) -> Float[Tensor, "n S"]:
    """Draw one sample in each of `count` equal parts of every ray: at its middle, or anywhere in it."""
    at = torch.arange(count, dtype=near.dtype, device=near.device)
    shift = torch.rand(len(near), count, dtype=near.dtype, device=near.device) if jitter else 0.5
    return near[:, None] + (at + shift) * ((far - near) / count)[:, None]


def interval_edges(t: Float[Tensor, "n S"], near: Float[Tensor, " n"], far: Float[Tensor, " n"]) -> Float[Tensor, "n S1"]:
    """Borders of the intervals that sorted samples stand for: halfway between neighbors, the ray's ends at the ends."""
    return torch.cat([near[:, None], (t[:, 1:] + t[:, :-1]) / 2, far[:, None]], 1)


def sample_importance(edges: Float[Tensor, "n S1"], weights: Float[Tensor, "n S"], count: int, *, jitter: bool) -> Float[Tensor, "n K"]:
    """Samples distributed like the weights of intervals, in order; nothing here is differentiated.

    Args:
        edges: borders of the intervals, rising.
        weights: of each interval, not negative; a trace is added, so that no interval is never looked into.
        count: samples.
        jitter: place each at random within its share of the distribution instead of at its middle.
    """
    weights = weights.detach() + 1e-5
    zero = torch.zeros_like(weights[:, :1])
    cdf = torch.cat([zero, (weights / weights.sum(1, keepdim=True)).cumsum(1)], 1)
    at = torch.arange(count, dtype=cdf.dtype, device=cdf.device)
    shift = torch.rand(len(cdf), count, dtype=cdf.dtype, device=cdf.device) if jitter else torch.full_like(cdf[:, :1], 0.5)
    wanted = (at + shift) / count
    upper = torch.searchsorted(cdf, wanted, right=True).clamp(1, weights.shape[1])
    low, high = cdf.gather(1, upper - 1), cdf.gather(1, upper)
    begin, end = edges.detach().gather(1, upper - 1), edges.detach().gather(1, upper)
    return begin + (end - begin) * ((wanted - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)


def interval_weights(density: Float[Tensor, "n S"], edges: Float[Tensor, "n S1"]) -> Float[Tensor, "n S"]:
    """Share of each interval in its pixel: what it holds back of the light that nothing before it held back.

    They add up to 1 - exp(-integral of the density).

    Args:
        density: per unit of length, not negative.
        edges: borders of the intervals, rising.

    Source:
        Max, Optical models for direct volume rendering, 1995; Mildenhall et al., NeRF, ECCV 2020, equation 3.
    """
    depth = density * edges.diff(dim=1)
    before = depth.cumsum(1) - depth
    return torch.exp(-before) * -torch.expm1(-depth)
