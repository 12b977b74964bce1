"""Gaussians, raw and activated: the one place where the channel order and the activations are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.conventions import SH_C0

CHANNELS: dict[str, slice] = {
    "position": slice(0, 3),
    "log_scale": slice(3, 6),
    "rotation": slice(6, 9),
    "opacity_logit": slice(9, 10),
    "color": slice(10, 13),
}
"""Order of the raw channels in a packed UV Gaussian map."""
NUM_CHANNELS = 13


def rgb_to_sh(rgb: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Degree-0 spherical-harmonics coefficients of colors in [0, 1]."""
    return (rgb - 0.5) / SH_C0


def sh_to_rgb(sh: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Colors of degree-0 spherical-harmonics coefficients; not limited to [0, 1]."""
    return 0.5 + SH_C0 * sh


@dataclass(frozen=True)
class Activation:
    """A map from raw to activated values, and its inverse."""

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]


ACTIVATIONS: dict[str, Activation] = {
    "log_scale": Activation(torch.exp, torch.log),
    "opacity_logit": Activation(torch.sigmoid, torch.logit),
    "color": Activation(sh_to_rgb, rgb_to_sh),
}
"""Of the raw channels that are numbers of their own; a rotation is activated as a whole, by `UVGaussianMap.quaternions`."""


@dataclass(frozen=True)
class Gaussians:
    """Activated 3D Gaussians in world space, ready for a rasterizer."""

    means: Float[Tensor, "*b N 3"]
    """Centers, meters."""
    quats: Float[Tensor, "*b N 4"]
    """Rotations wxyz; need not be normalized."""
    scales: Float[Tensor, "*b N 3"]
    """Standard deviations along the local axes, meters, positive."""
    opacities: Float[Tensor, "*b N"]
    """In [0, 1]."""
    sh: Float[Tensor, "*b N K 3"]
    """Spherical-harmonics coefficients of the color, K = 1, 4, 9 or 16; color = 0.5 + sum of basis times coefficient."""

    def __getitem__(self, index: object) -> Gaussians:
        """Select along the leading batch axis."""
        return Gaussians(**{name: getattr(self, name)[index] for name in GAUSSIAN_AXES})

    def to(self, target: torch.device | torch.dtype | str) -> Gaussians:
        """The same Gaussians on another device or in another precision."""
        return Gaussians(**{name: getattr(self, name).to(target) for name in GAUSSIAN_AXES})

    @staticmethod
    def cat(parts: Sequence[Gaussians]) -> Gaussians:
        """All Gaussians of several sets as one set.

        Args:
            parts: one set or more, of one batch.
        """
        return Gaussians(**{name: torch.cat([getattr(part, name) for part in parts], -axes) for name, axes in GAUSSIAN_AXES.items()})


GAUSSIAN_AXES: dict[str, int] = {"means": 2, "quats": 2, "scales": 2, "opacities": 1, "sh": 3}
"""Fields of `Gaussians` in their order, and how many axes each has behind those of the batch; the first of them counts Gaussians."""


@dataclass(frozen=True)
class UVGaussianMap:
    """Raw, additive attributes of one Gaussian per valid texel, in the surface's tangent frame.

    Raw values add: a base map, a network's offset, a global rectification and blendmaps sum channel by channel
    before they are activated (Gaussian Deja-vu, WACV 2025, section 3).
    """

    position: Float[Tensor, "*b M 3"]
    """Offset from the surface point along tangent, bitangent and normal, meters."""
    log_scale: Float[Tensor, "*b M 3"]
    """Logarithm of the standard deviation in meters, along tangent, bitangent and normal before rotation."""
    rotation: Float[Tensor, "*b M 3"]
    """x, y, z of a quaternion with w = 1, relative to the tangent frame."""
    opacity_logit: Float[Tensor, "*b M 1"]
    """Logit of the opacity."""
    color: Float[Tensor, "*b M 3"]
    """Degree-0 spherical-harmonics coefficient of each channel."""

    @staticmethod
    def unpack(packed: Float[Tensor, "*b M 13"]) -> UVGaussianMap:
        """Split a packed map by the named channels."""
        return UVGaussianMap(**{name: packed[..., channel] for name, channel in CHANNELS.items()})

    def pack(self) -> Float[Tensor, "*b M 13"]:
        """Concatenate the named channels in the order of `CHANNELS`."""
        return torch.cat([getattr(self, name) for name in CHANNELS], dim=-1)

    def quaternions(self) -> Float[Tensor, "*b M 4"]:
        """Unit quaternions wxyz relative to the tangent frame."""
        w = torch.ones_like(self.rotation[..., :1])
        return torch.nn.functional.normalize(torch.cat([w, self.rotation], dim=-1), dim=-1)
