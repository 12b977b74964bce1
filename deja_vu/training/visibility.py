"""How much the frames show of each Gaussian of an avatar."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.avatars import GaussianAvatar
from deja_vu.core.conventions import SH_C0
from deja_vu.io.frames import FrameSource
from deja_vu.render.base import rasterize


def measure_coverage(avatar: GaussianAvatar, source: FrameSource, frames: Int[Tensor, " n"]) -> Float[Tensor, " M"]:
    """Filmed pixels that each Gaussian covers, as it is composited, mean over frames.

    A pixel's color is a sum of the Gaussians' colors, weighted by opacity and transmittance: the sum of a Gaussian's weights is the
    derivative of all pixels by its color.

    Args:
        avatar: as it is.
        source: frames.
        frames: which to look at.
    """
    covered = avatar.base.new_zeros(len(avatar.base))
    for position in frames:
        batch = source.batch(position[None])
        gaussians = avatar.gaussians(batch.params)
        color = torch.zeros_like(gaussians.sh).requires_grad_()
        with torch.enable_grad():
            drawn = rasterize(replace(gaussians, sh=color), batch.camera, color.new_zeros(3), backend=avatar.config.backend)
            (weights,) = torch.autograd.grad((drawn.rgb[..., 0] * batch.valid[..., 0]).sum(), color)
        covered += weights[0, :, 0, 0] / SH_C0
    return covered / len(frames)
