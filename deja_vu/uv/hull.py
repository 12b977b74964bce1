"""Height of the hair over the bald head: the visual hull of many silhouettes along each texel's normal (Laurentini, PAMI 1994)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from deja_vu.core.camera import Camera
from deja_vu.uv.attach import SurfaceFrames
from deja_vu.uv.config import HullConfig
from deja_vu.uv.layout import UVLayout
from deja_vu.uv.lift import push_pull


class HairHull:
    """Counts, for heights along every texel's normal, how often the point lies on the person."""

    def __init__(self, count: int, config: HullConfig = HullConfig(), device: torch.device = torch.device("cpu")) -> None:
        """Begin without a silhouette.

        Args:
            count: texels.
            config: range of heights, and what bounds them.
            device: of the silhouettes.
        """
        self.config = config
        self.heights = torch.linspace(config.min_height, config.max_height, config.steps, device=device)
        self.inside, self.total = (torch.zeros(count, config.steps, device=device) for _ in range(2))
        self.facing = torch.full((count,), -1.0, device=device)

    def add(
        self,
        surface: SurfaceFrames,
        camera: Camera,
        foreground: Float[Tensor, "B H W 1"],
        valid: Float[Tensor, "B H W 1"],
        reach: Float[Tensor, " M"] | float = 0.0,
    ) -> None:
        """Add B silhouettes.

        Args:
            surface: posed texels of every frame.
            camera: the frames' camera, at the world's origin.
            foreground: alpha of the whole person, torso included.
            valid: 1 where the picture shows what was filmed.
            reach: how far beyond its point a texel's Gaussian is seen, meters; heights are less by that much.
        """
        picture = torch.cat([foreground, valid], -1).permute(0, 3, 1, 2)
        normals = surface.frames[..., 2]
        facing = -(normals * normalize(surface.points, dim=-1)).sum(-1)
        self.facing = torch.maximum(self.facing, facing.amax(0))
        # Projection is linear in homogeneous coordinates: all heights follow from a point and a direction.
        matrix = camera.intrinsics @ camera.camera_from_world[..., :3, :3]
        offset = (camera.intrinsics @ camera.camera_from_world[..., :3, 3:])[..., 0]
        along = normals @ matrix.transpose(-1, -2)
        start = (
            surface.points @ matrix.transpose(-1, -2) + offset[..., None, :] + torch.as_tensor(reach).to(along.device)[..., None] * along
        )
        for step, height in enumerate(self.heights):
            place = start + height * along
            pixels = place[..., :2] / place[..., 2:].clamp_min(1e-6)
            grid = pixels / pixels.new_tensor([camera.width / 2, camera.height / 2]) - 1
            covered, within = (grid_sample(picture, grid[:, None], align_corners=False)[:, :, 0] > 0.5).float().unbind(1)
            self.inside[:, step] += (covered * within).sum(0)
            self.total[:, step] += within.sum(0)

    def measure(self) -> tuple[Float[Tensor, " M"], Bool[Tensor, " M"]]:
        """Largest height at which a texel lies on the person, meters, and whether a silhouette bounds it there."""
        config = self.config
        kept = self.inside >= config.inside_share * self.total
        reached = kept.float().cumprod(1).sum(1).long()
        return self.heights[(reached - 1).clamp_min(0)], (reached < config.steps) & (self.facing > config.min_facing)

    def estimate_heights(self, layout: UVLayout, scalp: Bool[Tensor, " M"], tall: Bool[Tensor, " M"] | None = None) -> Float[Tensor, " M"]:
        """Height of the hair over every texel, meters; 0 where no hair grows.

        Texels that no silhouette bounds, such as the back of a head that never turns, take the height of their surroundings, up to
        `max_hidden_height`.

        Args:
            layout: the texels' chart.
            scalp: texels on which hair may grow.
            tall: texels whose hair is known to reach `max_height` at least; their surroundings say nothing about them.
        """
        config = self.config
        height, bounded = self.measure()
        bounded = scalp & bounded
        if tall is not None:
            height = torch.where(tall, config.max_height, height)
            bounded = bounded | (scalp & tall)
        if not bounded.any():
            return self.facing.new_zeros(len(layout))
        valid = bounded | ~scalp
        filled = push_pull(torch.where(bounded, height, torch.zeros_like(height))[:, None], valid, layout)
        heights = torch.where(valid[:, None], filled, filled.clamp_max(config.max_hidden_height))
        window = max(1, config.blur * layout.size // 256) | 1
        weight = layout.scatter(self.facing.new_ones(len(layout), 1)).permute(2, 0, 1)[None]
        image = layout.scatter(heights).permute(2, 0, 1)[None]
        smooth, share = (torch.nn.functional.avg_pool2d(x, window, 1, window // 2) for x in (image, weight))
        flat = (smooth / share.clamp_min(1e-6))[0, 0].flatten()[layout.texels]
        return torch.where(scalp, flat.clamp_min(config.min_height), torch.zeros_like(flat))
