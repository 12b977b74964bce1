"""A head as a light field: no surface, no ray marching; the pose enters through the camera's place relative to the head."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deja_vu.avatars.base import Avatar, Draw
from deja_vu.avatars.gaussian.blend_weights import JOINT_SCALE
from deja_vu.avatars.nelf.config import NelfConfig
from deja_vu.avatars.nelf.network import NelfNetwork
from deja_vu.avatars.nelf.warp import WarpField
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.image import RenderOutput
from deja_vu.heads.base import HeadModel
from deja_vu.heads.regions import region_faces
from deja_vu.nets.upscale import Upscale
from deja_vu.render.volume import SCENE_SCALE, pixel_rays, world_from_scene

STILL = 1e-4
"""Deviation of a number of the code below which it is taken for still."""

TURNS = {"jaw": ((-5.0, 60.0), (-0.1, 0.1), (-0.1, 0.1)), "eye": ((-50.0, 50.0), (-50.0, 50.0), (-0.1, 0.1))}
"""Least and largest turn about each axis, degrees, as LightAvatar's released code has them."""


@dataclass(frozen=True)
class NelfRender:
    """A render, and the picture of the rays that training needs."""

    full: RenderOutput
    rays: RenderOutput
    """Before super-resolution; a picture only where the configuration says `residual`."""


class NelfAvatar(Avatar):
    """One person's light field."""

    shape: Tensor
    low: Tensor
    high: Tensor
    middle: Tensor
    scale: Tensor
    """The code's numbers are divided by it, after `middle` is subtracted."""
    center: Tensor
    radii: Tensor
    """Of the ellipsoid through face and scalp, scene units."""

    def __init__(self, head: HeadModel, shape: Float[Tensor, " S"], config: NelfConfig) -> None:
        """Start with random weights.

        Args:
            head: names expressions and joints; of its surface, only the ellipsoid nearest to face and scalp is used.
            shape: the person's identity coefficients, kept for what drives the avatar.
            config: sizes.
        """
        super().__init__()
        self.head, self.config = head, config
        self.code_size = head.spec.num_expression + 3 * head.spec.num_joints
        self.register_buffer("shape", shape.clone())
        self.register_buffer("low", torch.full((self.code_size,), -1.0))
        self.register_buffer("high", torch.full((self.code_size,), 1.0))
        self.register_buffer("middle", torch.zeros(self.code_size))
        self.register_buffer("scale", torch.ones(self.code_size))
        center, radii = fit_ellipsoid(_skull_points(head, shape))
        self.register_buffer("center", center)
        self.register_buffer("radii", radii)
        self.network = NelfNetwork(config, self.code_size)

    def render(self, params: HeadParams, camera: Camera, background: Float[Tensor, "*b 3"]) -> RenderOutput:
        return self.prepare(params, camera)(background)

    def prepare(self, params: HeadParams, camera: Camera) -> Draw:
        points, code = self.ray_points(params, camera), self.code(params)
        return lambda background: self._draw(points, code, camera, background).full

    def render_all(
        self,
        params: HeadParams,
        camera: Camera,
        background: Float[Tensor, "*b 3"],
        warp: WarpField | None = None,
        rows: Int[Tensor, " B"] | None = None,
    ) -> NelfRender:
        """Render B frames, and keep the picture of the rays.

        Args:
            params: B poses and expressions.
            camera: one view, or one for each frame.
            background: color behind the head, in [0, 1].
            warp: of training frames.
            rows: of its latents, one for each frame.

        Raises:
            ValueError: another background than white, for an avatar without coverage.
        """
        points, code = self.ray_points(params, camera), self.code(params)
        if warp is not None and rows is not None:
            points, code = warp.points(points, rows), warp.code(code, rows)
        return self._draw(points, code, camera, background)

    def _draw(
        self, points: Float[Tensor, "B h w D"], code: Float[Tensor, "B E"], camera: Camera, background: Float[Tensor, "*b 3"]
    ) -> NelfRender:
        if not self.config.coverage and not background.is_meta and not bool((background == 1).all()):
            raise ValueError("this light field knows no coverage and was learned before white; render it over white")
        small, large = self.network(points, code)
        under = background[..., None, None, :]
        return NelfRender(self._composite(large[:, : camera.height, : camera.width], under), self._composite(small, under))

    def ray_points(self, params: HeadParams, camera: Camera) -> Float[Tensor, "B h w D"]:
        """Points of every ray of a grid a quarter as fine as the picture; they do not depend on how far the camera is."""
        factor = Upscale.FACTOR
        width, height = math.ceil(camera.width / factor), math.ceil(camera.height / factor)
        grid = replace(camera, width=width * factor, height=height * factor).resize(width, height)
        at = torch.linspace(-0.5, 0.5, self.config.points, device=params.world_from_head.device) * self.config.span
        frames = []
        for b in range(len(params)):
            origins, directions = pixel_rays(grid.view(b), world_from_scene(params.world_from_head[b]))
            t = at + self._ray_middle(origins, directions)
            frames.append((origins[:, None] + t[..., None] * directions[:, None]).reshape(height, width, -1))
        return torch.stack(frames)

    def _ray_middle(self, origins: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 1"]:
        """Distance along each ray at which its points lie."""
        if self.config.around == "origin":
            return -(origins * directions).sum(-1, keepdim=True)
        o, d = (origins - self.center) / self.radii, directions / self.radii
        square, along = d.square().sum(-1), (o * d).sum(-1)
        inside = along.square() - square * (o.square().sum(-1) - 1)  # negative where the ray misses: then its nearest place counts
        return (-(along + inside.clamp_min(0).sqrt()) / square)[:, None]

    def code(self, params: HeadParams) -> Float[Tensor, "B E"]:
        """Expressions and joints, held to what training frames covered, around 0 and of order one.

        Each is divided by the geometric mean of its own deviation and the largest one, so that what moves little still counts, but less.
        """
        if self.config.limits == "tanh":
            return (_raw_code(self.limit_turns(params)) - self.middle) / self.scale
        return (_raw_code(params).clamp(self.low, self.high) - self.middle) / self.scale

    def limit_turns(self, params: HeadParams) -> HeadParams:
        """The same with jaw and eyes held smoothly within `TURNS`, other joints as they are."""
        joints = params.joints.clone()
        for joint, name in enumerate(self.head.spec.joint_names):
            if (kind := name.split("_")[0]) in TURNS:
                low, high = torch.deg2rad(joints.new_tensor(TURNS[kind])).unbind(1)
                middle, half = (low + high) / 2, (high - low) / 2
                joints[..., joint, :] = middle + half * torch.tanh((params.joints[..., joint, :] - middle) / half)
        return replace(params, joints=joints)

    @torch.no_grad()
    def fit(self, params: HeadParams) -> None:
        """Set range, middle and scale of the code from training frames."""
        raw = _raw_code(params)
        self.low.copy_(raw.quantile(0.005, 0))
        self.high.copy_(raw.quantile(0.995, 0))
        self.middle.copy_(raw.mean(0))
        deviation = raw.std(0, correction=0).clamp_min(STILL)
        self.scale.copy_((deviation * deviation.max()).sqrt())

    def _composite(self, packed: Float[Tensor, "B H W C"], under: Tensor) -> RenderOutput:
        """Colors times coverage, and coverage, over a background."""
        if not self.config.coverage:
            return RenderOutput(packed, torch.ones_like(packed[..., :1]))
        alpha = packed[..., 3:].clamp(0, 1)
        return RenderOutput(packed[..., :3] + (1 - alpha) * under, alpha)

    def regularizers(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"rays": list(self.network.rays.parameters()), "upscale": list(self.network.upscale.parameters())}


def _raw_code(params: HeadParams) -> Float[Tensor, "B E"]:
    return torch.cat([params.expression, params.joints.flatten(-2) * JOINT_SCALE], -1)


def fit_ellipsoid(points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Center and radii of the ellipsoid along the axes that is nearest to some points, by the squares of its equation."""
    exact = points.double()  # a solver's last bits depend on where memory lies: two runs of one seed would differ
    columns = torch.cat([exact.square(), exact], 1)
    square, linear = torch.linalg.lstsq(columns, torch.ones(len(points), 1).to(exact)).solution[:, 0].split(3)
    center = -linear / (2 * square)
    return center.to(points), ((1 + (square * center.square()).sum()) / square).sqrt().to(points)


@torch.no_grad()
def _skull_points(head: HeadModel, shape: Float[Tensor, " S"]) -> Float[Tensor, "n 3"]:
    """Vertices of face and scalp at rest, scene units."""
    topology = head.topology
    shown = region_faces(topology, ("face", "scalp"))
    vertices = head(replace(head.neutral((1,)), shape=shape[None]))[0]
    return SCENE_SCALE * vertices[topology.faces[shown].unique()]
