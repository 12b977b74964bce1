"""Height of the hair all over the scalp, from silhouettes where they show it and from statistics where they do not.

Silhouettes tell the height only along the rim of the head. A head that turns a little shows a band of rims over the crown; how high the
hair stands elsewhere follows by regression (a Gaussian process over directions from the middle of the scalp, on the logarithm of the
height). Its mean and covariance come from people whose hair is known all round, widened, because real hair varies more.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from deja_vu.core.camera import Camera
from deja_vu.uv.attach import SurfaceFrames
from deja_vu.uv.config import RimConfig

DEGREE = 4
"""Of the polynomials in height and depth of a direction that describe usual hair."""
OFFSET = 0.003
"""Added to heights before their logarithm is taken, meters."""


ASSET = "hair.safetensors"
"""Usual hair, from `pipelines/bake/hair.py`."""


@dataclass(frozen=True)
class HairPrior:
    """Usual hair: log(height + OFFSET) as polynomials of a direction, see `direction_terms`."""

    mean: Float[Tensor, " K"]
    """Coefficients."""
    covariance: Float[Tensor, "K K"]
    """Of the coefficients among people."""

    def expect(self, directions: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Mean of the logarithm."""
        return direction_terms(directions) @ self.mean

    def covary(self, a: Float[Tensor, "n 3"], b: Float[Tensor, "m 3"]) -> Float[Tensor, "n m"]:
        """Covariance of the logarithm between directions."""
        return direction_terms(a) @ self.covariance @ direction_terms(b).T


@functools.cache
def load_hair_prior() -> HairPrior:
    """The prior that ships with the package."""
    tensors = load(resources.files("deja_vu.uv").joinpath("assets", ASSET).read_bytes())
    return HairPrior(tensors["mean"].double(), tensors["covariance"].double())


def direction_terms(directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n K"]:
    """Monomials of a unit direction's y (up) and z (forward) up to `DEGREE`: whatever is alike on the left and on the right."""
    y, z = directions[:, 1].double(), directions[:, 2].double()
    return torch.stack([y**a * z**b for a in range(DEGREE + 1) for b in range(DEGREE + 1 - a)], 1)


def scalp_directions(points: Float[Tensor, "M 3"], scalp: Bool[Tensor, " M"]) -> Float[Tensor, "M 3"]:
    """Unit direction of every texel from the middle of the scalp.

    Args:
        points: texels on the neutral head in head space, meters.
        scalp: texels on which hair may grow.
    """
    low, high = points[scalp].amin(0), points[scalp].amax(0)
    return normalize(points - torch.stack([torch.zeros_like(low[0]), *((low + high) / 2)[1:]]), dim=-1)


def border_ramp(points: Float[Tensor, "M 3"], scalp: Bool[Tensor, " M"], width: float) -> Float[Tensor, " M"]:
    """0 at the border of the scalp to 1 from a distance on; 0 outside.

    Args:
        points: texels on the neutral head, meters.
        scalp: texels on which hair may grow.
        width: of the ramp, meters.
    """
    if scalp.all() or not scalp.any():
        return scalp.to(points.dtype)
    distance = torch.from_numpy(cKDTree(points[~scalp].double().numpy()).query(points.double().numpy())[0])
    x = (distance / width).clamp(0, 1).to(points.dtype)
    return torch.where(scalp, x * x * (3 - 2 * x), torch.zeros_like(x))


def smooth_heights(
    directions: Float[Tensor, "n 3"], heights: Float[Tensor, " n"], fixed: Float[Tensor, " n"], angle: float, cell: float = 0.08
) -> Float[Tensor, " n"]:
    """Heights that are averaged over neighboring directions, except where they are known.

    Args:
        directions: of all texels of the scalp, unit.
        heights: over them, meters.
        fixed: share of a height that stays as it is, in [0, 1].
        angle: over which a direction's weight falls to 1 / e**0.5, radians.
        cell: side of the cells of directions whose heights count as one.
    """
    at, mean = _bin(directions, heights, torch.ones_like(heights), cell)
    weight = torch.softmax(directions.double() @ at.T / angle**2, 1)
    return (weight @ mean).float().lerp(heights, fixed)


class HairRim:
    """Measures how far the person reaches beyond the bald head where a texel lies on the bald head's outline."""

    def __init__(self, scalp: Bool[Tensor, " M"], config: RimConfig = RimConfig()) -> None:
        """Begin without a silhouette.

        Args:
            scalp: texels on which hair may grow.
            config: range of heights, and what counts as the outline.
        """
        self.scalp, self.config = scalp, config
        self.total, self.weight, self.count = torch.zeros(len(scalp)), torch.zeros(len(scalp)), 0

    def add(
        self,
        surface: SurfaceFrames,
        camera: Camera,
        foreground: Float[Tensor, "B H W 1"],
        valid: Float[Tensor, "B H W 1"],
        drawn: Float[Tensor, "B h w"],
        reach: Float[Tensor, " M"] | float = 0.0,
    ) -> None:
        """Add B silhouettes.

        Args:
            surface: posed texels of every frame, on the bald head.
            camera: the frames' camera, at the world's origin.
            foreground: alpha of the whole person.
            valid: 1 where the picture shows what was filmed.
            drawn: what the bald head shows on any grid over the same view: above 0.5 where there is something.
            reach: how far beyond its point a texel's Gaussian is seen though `drawn` ends at the points, meters.
        """
        config = self.config
        points, normals = surface.points[:, self.scalp], surface.frames[:, self.scalp, :, 2]
        facing = (normals * normalize(points, dim=-1)).sum(-1).abs()
        heights = torch.linspace(config.min_height, config.max_height, config.steps)
        step = float(heights[1] - heights[0])
        matrix = camera.intrinsics @ camera.camera_from_world[..., :3, :3]
        offset = (camera.intrinsics @ camera.camera_from_world[..., :3, 3:])[..., 0]
        reach = torch.as_tensor(reach).expand(len(self.scalp))[self.scalp]
        along, start = normals @ matrix.transpose(-1, -2), points @ matrix.transpose(-1, -2) + offset[..., None, :]
        person = torch.cat([foreground, valid], -1).permute(0, 3, 1, 2)
        on_person, filmed, on_drawn = (torch.zeros(*facing.shape, config.steps, dtype=torch.bool) for _ in range(3))
        for number, height in enumerate(heights):
            shown = _sample(person, start + (height + reach)[..., None] * along, camera) > 0.5
            on_person[..., number], filmed[..., number] = shown[:, 0], shown[:, 1]
            on_drawn[..., number] = _sample(drawn[:, None], start + height * along, camera)[:, 0] > 0.5
        left = (on_person | ~filmed).to(torch.int8).cumprod(-1).sum(-1)
        seen = filmed.gather(-1, left.clamp_max(config.steps - 1)[..., None])[..., 0] & (left > 0)
        beyond = config.min_height + step * (left - 0.5)
        own = (config.min_height + step * (on_drawn.to(torch.int8).cumprod(-1).sum(-1) - 0.5)).clamp_min(0)
        weight = torch.exp(-((own / config.outline) ** 2)) * (seen & (facing < config.max_facing))
        self.total[self.scalp] += (weight * (beyond - own).clamp_min(0)).sum(0)
        self.weight[self.scalp] += weight.sum(0)
        self.count += len(weight)

    def estimate(self, points: Float[Tensor, "M 3"], prior: HairPrior) -> Float[Tensor, " M"]:
        """Height of the hair over every texel, meters; 0 where none grows.

        Args:
            points: texels on the neutral head in head space, meters.
            prior: usual hair.
        """
        config, scalp = self.config, self.scalp
        if not scalp.any():
            return torch.zeros(len(scalp))
        directions = scalp_directions(points, scalp)
        ramp = border_ramp(points, scalp, config.border)
        mean = self.total / self.weight.clamp_min(1e-6)
        known = scalp & (self.weight > config.min_share * self.count) & (ramp > 0.5)
        usual, share = prior.expect(directions[scalp]), torch.zeros(int(scalp.sum()), dtype=torch.double)
        if known.any():
            at, height = _bin(directions[known], (mean / ramp.clamp_min(0.5))[known], self.weight[known], config.cell)
            observed, noise = (height + OFFSET).log() - prior.expect(at), (config.deviation / (height + OFFSET)).square()
            gram = self._covary(at, at, prior) + torch.diag(noise)
            usual = usual + self._covary(directions[scalp], at, prior) @ torch.linalg.solve(gram, observed)
            share = torch.exp(-(1 - directions[scalp].double() @ at.T) / config.envelope_angle**2).amax(1)
        heights = torch.zeros(len(scalp))
        mean_height = (usual.exp() - OFFSET) * (config.envelope + (1 - config.envelope) * share)
        heights[scalp] = mean_height.clamp(0, config.max_height).float()
        return (heights * ramp).lerp(mean, self.known_share())

    def known_share(self) -> Float[Tensor, " M"]:
        """How surely each texel's height was measured, in [0, 1]."""
        return (self.weight / max(self.count, 1) / self.config.sure_share).clamp(0, 1) * self.scalp

    def _covary(self, a: Float[Tensor, "n 3"], b: Float[Tensor, "m 3"], prior: HairPrior) -> Float[Tensor, "n m"]:
        """Covariance of what is usual, of how much hair there is at all, and of what differs from place to place.

        The last falls off as a rough field's does: a smooth one would carry slopes on into what nobody saw.
        """
        config = self.config
        angle = (a.double() @ b.double().T).clamp(-1, 1).acos()
        return prior.covary(a, b) + config.amount**2 + config.patch**2 * torch.exp(-angle / config.patch_angle)


def _sample(picture: Float[Tensor, "B C H W"], places: Float[Tensor, "B n 3"], camera: Camera) -> Float[Tensor, "B C n"]:
    """Values of pictures at homogeneous pixels."""
    grid = places[..., :2] / places[..., 2:].clamp_min(1e-6) / places.new_tensor([camera.width / 2, camera.height / 2]) - 1
    return grid_sample(picture, grid[:, None], align_corners=False)[:, :, 0]


def _bin(
    directions: Float[Tensor, "n 3"], heights: Float[Tensor, " n"], weights: Float[Tensor, " n"], cell: float
) -> tuple[Float[Tensor, "k 3"], Float[Tensor, " k"]]:
    """Weighted means of directions and heights in cells of directions."""
    _, owner = torch.unique((directions / cell).round().long(), dim=0, return_inverse=True)
    count = int(owner.max()) + 1
    total = torch.zeros(count, dtype=torch.double).index_add(0, owner, weights.double())
    height = torch.zeros(count, dtype=torch.double).index_add(0, owner, (weights * heights).double()) / total
    at = torch.zeros(count, 3, dtype=torch.double).index_add(0, owner, (weights[:, None] * directions).double())
    return normalize(at, dim=-1), height.clamp_min(0)
