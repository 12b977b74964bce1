"""The mean appearance of a surface, lifted from training frames with their light divided out.

A frame's light is a second-order spherical harmonic of the world normal (Ramamoorthi and Hanrahan, SIGGRAPH 2001), solved in
closed form, so that a head that turns in fixed light keeps its color.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from deja_vu.core.camera import Camera
from deja_vu.tracking.config import PhotometricConfig
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.surface import Surface, SurfaceView

CHUNK_FRAMES = 16
"""Frames looked at together; bounds the memory."""


@dataclass(frozen=True)
class Crops:
    """Small copies of one window of all T frames, on the pixel grid of `camera`."""

    rgb: UInt8[Tensor, "T H W 3"]
    alpha: UInt8[Tensor, "T H W"]
    """Coverage of the person."""
    valid: UInt8[Tensor, "H W"]
    """255 where the crop shows what was filmed."""
    camera: Camera

    def to(self, device: torch.device) -> Crops:
        """The same on another device; the camera stays on the host."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("rgb", "alpha", "valid")})

    def select(self, frames: Tensor) -> Crops:
        """Some of the frames, by mask or index."""
        return replace(self, rgb=self.rgb[frames], alpha=self.alpha[frames])


@dataclass(frozen=True)
class SurfaceTexture:
    """Mean appearance of P surface points."""

    color: Float[Tensor, "P 3"]
    deviation: Float[Tensor, " P"]
    """Deviation between training frames after the light is divided out."""
    times_seen: Float[Tensor, " P"]
    """How many training frames showed the point."""

    def select(self, points: Int[Tensor, " n"]) -> SurfaceTexture:
        """Some of the points."""
        return SurfaceTexture(self.color[points], self.deviation[points], self.times_seen[points])


def sample_pixels(images: UInt8[Tensor, "B H W C"], pixels: Float[Tensor, "B P 2"]) -> Float[Tensor, "B P C"]:
    """Bilinear samples in [0, 1] at pixel coordinates; the border is repeated."""
    size = pixels.new_tensor([images.shape[2] / 2, images.shape[1] / 2])
    grid = (pixels / size - 1)[:, None]
    picture = images.permute(0, 3, 1, 2).float() / 255
    return grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)


def weigh_points(view: SurfaceView, alpha: UInt8[Tensor, "B H W"], config: PhotometricConfig) -> Float[Tensor, "B P"]:
    """How much each picture says about each point: the more squarely it is seen on the person, the more."""
    inside = sample_pixels(alpha[..., None], view.pixels)[..., 0] > config.min_alpha
    return (view.facing - config.min_facing).clamp_min(0) * view.visible * inside


def light_basis(normals: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 9"]:
    """Real spherical harmonics up to degree two of unit normals, without their constants."""
    x, y, z = normals.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], -1)


def fit_light(
    color: Float[Tensor, "B P 3"],
    normals: Float[Tensor, "B P 3"],
    weight: Float[Tensor, "B P"],
    texture: SurfaceTexture,
    config: PhotometricConfig,
) -> Float[Tensor, "B P 1"]:
    """Brightness of every point: the spherical harmonic that best maps the texture to each frame's colors."""
    basis = light_basis(normals)
    rows = basis * texture.color.norm(dim=-1)[:, None]
    brightness = (color * texture.color).sum(-1) / texture.color.norm(dim=-1).clamp_min(1e-3)
    weight = weight / (texture.deviation**2 + config.light_deviation**2)
    left = rows.transpose(1, 2) @ (rows * weight[..., None])
    right = (rows * (weight * brightness)[..., None]).sum(1)
    ridge = config.light_ridge * weight.sum(1)[:, None].expand(-1, 9) * texture.color.square().mean()
    ridge = ridge + 1e-6
    right[:, 0] += ridge[:, 0]
    solved = torch.linalg.solve(left + torch.diag_embed(ridge), right)
    return (basis @ solved[..., None]).clamp(config.darkest, config.brightest)


def lift_texture(surface: Surface, crops: Crops, state: TrackState, frames: Int[Tensor, " n"], config: PhotometricConfig) -> SurfaceTexture:
    """Mean color of every point over some frames, weighted by how squarely it is seen, their light divided out.

    Args:
        surface: points.
        crops: all frames.
        state: their poses.
        frames: which to lift from.
        config: recipe.
    """
    texture = None
    for _ in range(config.texture_passes + 1):
        texture = _lift_once(surface, crops, state, frames, config, texture)
    assert texture is not None
    return texture


def _lift_once(
    surface: Surface,
    crops: Crops,
    state: TrackState,
    frames: Int[Tensor, " n"],
    config: PhotometricConfig,
    before: SurfaceTexture | None,
) -> SurfaceTexture:
    count = len(surface.layout)
    zeros = state.expression.new_zeros
    total, weight, square, times_seen = zeros(count, 3), zeros(count), zeros(count), zeros(count)
    camera = state.camera(crops.camera)
    for chunk in frames.split(CHUNK_FRAMES):
        view = surface.view(state, chunk, camera)
        trust = weigh_points(view, crops.alpha[chunk], config)
        color = sample_pixels(crops.rgb[chunk], view.pixels)
        times_seen += (trust > 0).sum(0)
        if before is None:
            total += (trust[..., None] * color).sum(0)
            weight += trust.sum(0)
            continue
        light = fit_light(color, view.normals, trust, before, config)
        error = (color - light * before.color).square().mean(-1)
        trust = trust / (1 + error / (config.texture_robust * config.color) ** 2)
        square += (trust * error).sum(0)
        total += (trust[..., None] * color * light).sum(0)
        weight += (trust[..., None] * light.square()).mean(-1).sum(0)
    safe = weight.clamp_min(1e-6)
    return SurfaceTexture(total / safe[:, None], (square / safe).sqrt(), times_seen)
