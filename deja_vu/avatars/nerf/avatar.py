"""A head as a radiance field: canonical planes, a field that follows the posed surface, volume rendering, super-resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from deja_vu.avatars.base import Avatar, Draw
from deja_vu.avatars.gaussian.blend_weights import LinearCode
from deja_vu.avatars.nerf.config import NerfConfig
from deja_vu.avatars.nerf.field import WIDEN, PosedPoints, RadianceField
from deja_vu.avatars.nerf.planes import EncodedPlanes, FreePlanes, frontal_pictures, split_speeds
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.errors import ConfigError
from deja_vu.core.head import HeadParams
from deja_vu.core.image import RenderOutput
from deja_vu.core.sampling import true_rows
from deja_vu.core.transfer import move
from deja_vu.heads.base import HeadModel
from deja_vu.heads.regions import dropped_faces
from deja_vu.nets.neighbors import MAX_NEAREST, nearest
from deja_vu.nets.style_unet import StyleUNet
from deja_vu.nets.triplane import total_variation
from deja_vu.nets.upscale import ResidualUpscale, Upscale
from deja_vu.render.volume import (
    SCENE_SCALE,
    box_span,
    interval_edges,
    interval_weights,
    pixel_rays,
    sample_importance,
    sample_stratified,
    shell_span,
    world_from_scene,
)
from deja_vu.uv.attach import vertex_normals


@dataclass(frozen=True)
class NerfRender:
    """A render, and the intermediate pictures that training needs."""

    full: RenderOutput | None
    """None where it was not asked for."""
    fine: RenderOutput
    """The picture before super-resolution."""
    coarse: RenderOutput
    """The same from the even samples alone."""
    opacity: Float[Tensor, ""]
    """Two-norm of the even samples' opacities."""
    planes: Float[Tensor, "3 C s s"]
    """That the field was read from."""


@dataclass(frozen=True)
class March:
    """Results of marching one frame's rays, row by row over black."""

    fine: Float[Tensor, "n F"]
    coarse: Float[Tensor, "n F"]
    alpha: Float[Tensor, " n"]
    coarse_alpha: Float[Tensor, " n"]
    distance: Float[Tensor, " n"]
    """Mean distance along the ray times alpha, scene units."""
    opacities: Float[Tensor, " k"]


class NerfAvatar(Avatar):
    """One person's radiance field on a head model."""

    shape: Tensor
    vertices: Tensor

    def __init__(self, head: HeadModel, shape: Float[Tensor, " S"], config: NerfConfig) -> None:
        """Start with an even gray head, or with nothing where there is no surface prior.

        Args:
            head: parametric head; its identity is fixed to `shape`.
            shape: the person's identity coefficients.
            config: sizes.

        Raises:
            ConfigError: a size is out of range.
        """
        super().__init__()
        if not 1 <= config.nearest <= MAX_NEAREST:
            raise ConfigError(f"A sample cannot look at {config.nearest} surface points. Set nearest to 1 ... {MAX_NEAREST}.")
        if config.features < 3 or config.coarse < 2 or config.fine < 1:
            raise ConfigError(f"{config.features} features, {config.coarse} + {config.fine} samples: expected at least 3 and 2 + 1.")
        self.head, self.config = head, config
        self.register_buffer("shape", shape.clone())
        self.register_buffer("vertices", head.topology.faces[~dropped_faces(head.topology)].unique(), persistent=False)
        self.planes = FreePlanes(config) if config.planes == "free" else EncodedPlanes(config)
        self.field = RadianceField(config, len(self.vertices))
        features = head.spec.num_expression + 3 * head.spec.num_joints + 3
        self.code = LinearCode(features, config.code)
        self.upscale: nn.Module
        if config.upscale == "style":
            self.upscale = StyleUNet(config.style_size, config.style_size, config.features, 3, config.encoder_width)
        else:
            self.upscale = ResidualUpscale(config.features + 1, config.upscale_width, config.upscale_depth, 4, config.upscale)

    def read_photos(self, photos: Batch) -> Float[Tensor, "N s s 3"]:
        """Source pictures of N photos, for encoded planes; see `frontal_pictures`."""
        return frontal_pictures(photos, self.host_head, self.config)

    def become(self, shape: Float[Tensor, " S"], pictures: Float[Tensor, "N s s 3"]) -> None:
        """Stand for another person, as one field for many people does.

        Args:
            shape: the person's identity.
            pictures: from `read_photos`; only for encoded planes.
        """
        assert isinstance(self.planes, EncodedPlanes)
        self.shape = move(shape, self.shape.device)
        self.planes.set_sources(move(pictures, self.shape.device))

    def surface(self, params: HeadParams) -> PosedPoints:
        """One frame's surface points in the scene: the head's own frame, times `SCENE_SCALE`."""
        pair = [torch.stack([value, torch.zeros_like(value)]) for value in (params.expression, params.joints)]
        still = replace(self.head.neutral((2,)), shape=self.shape.expand(2, -1), expression=pair[0], joints=pair[1])
        vertices = self.head(still)
        normals = vertex_normals(vertices[0], self.head.topology.faces)[self.vertices]
        posed, rest = (SCENE_SCALE * vertices[:, self.vertices]).unbind(0)
        return PosedPoints(posed, normals, posed - rest)

    def render(self, params: HeadParams, camera: Camera, background: Float[Tensor, "*b 3"]) -> RenderOutput:
        return self.prepare(params, camera)(background)

    def prepare(self, params: HeadParams, camera: Camera) -> Draw:
        surfaces = [self.surface(params[b]) for b in range(len(params))]

        def draw(background: Float[Tensor, "*b 3"]) -> RenderOutput:
            full = self.render_all(params, camera, background, surfaces=surfaces).full
            assert full is not None
            return full

        return draw

    def count_work(self, params: HeadParams, camera: Camera) -> dict[str, int]:
        """`field_samples`: evaluations of the radiance field; `neighbor_queries`: searches among its surface points."""
        samples = 0

        def count(_: nn.Module, inputs: tuple[Any, ...], __: Any) -> None:
            nonlocal samples
            samples += len(inputs[2])

        handle = self.field.register_forward_hook(count)
        try:
            self.render(params, camera, params.expression.new_ones(3))
        finally:
            handle.remove()
        queries = self.ray_count(params, camera) * (self.config.coarse + self.config.fine)
        return {"field_samples": samples, "neighbor_queries": queries}

    def render_all(
        self,
        params: HeadParams,
        camera: Camera,
        background: Float[Tensor, "*b 3"],
        *,
        enlarge: bool = True,
        surfaces: Sequence[PosedPoints] | None = None,
    ) -> NerfRender:
        """Render B frames, and keep the pictures before super-resolution.

        Args:
            params: B poses and expressions.
            camera: one view, or one for each frame.
            background: color behind the head, in [0, 1].
            enlarge: make the full picture; else only those at the size of the rays.
            surfaces: of the frames, if they are known already.
        """
        low = self._ray_camera(camera)
        planes = self.planes()
        codes = self.code(params) if self.config.code else None
        posed = surfaces if surfaces is not None else [self.surface(params[b]) for b in range(len(params))]
        marches = [
            self._march(planes, surface, params.world_from_head[b], low.view(b), None if codes is None else codes[b])
            for b, surface in enumerate(posed)
        ]
        fine, coarse, alpha, coarse_alpha, distance = (
            torch.stack([getattr(march, name) for march in marches]).view(len(params), low.height, low.width, -1)
            for name in ("fine", "coarse", "alpha", "coarse_alpha", "distance")
        )
        under = background[..., None, None, :]
        depth = distance / SCENE_SCALE / alpha.clamp_min(1e-6) * _depth_per_distance(low)
        full = self._enlarge(fine, alpha, depth, camera, under) if enlarge else None
        return NerfRender(
            full,
            RenderOutput(fine[..., :3] + (1 - alpha) * under, alpha),
            RenderOutput(coarse[..., :3] + (1 - coarse_alpha) * under, coarse_alpha),
            torch.cat([march.opacities for march in marches]).norm(),
            planes,
        )

    def _ray_camera(self, camera: Camera) -> Camera:
        """The grid of rays: the published fixed one, or a quarter of the picture's side, rounded up."""
        if self.config.upscale == "style":
            return camera.resize(self.config.rays, self.config.rays)
        factor = Upscale.FACTOR
        width, height = math.ceil(camera.width / factor), math.ceil(camera.height / factor)
        return replace(camera, width=width * factor, height=height * factor).resize(width, height)

    def ray_count(self, params: HeadParams, camera: Camera) -> int:
        """Rays of some frames that are marched at all."""
        low = self._ray_camera(camera)
        return sum(
            int(self._cast_rays(self.surface(params[b]), params.world_from_head[b], low.view(b))[4].sum()) for b in range(len(params))
        )

    def _cast_rays(self, surface: PosedPoints, pose: Float[Tensor, "4 4"], camera: Camera) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Origins, directions, both ends and whether they are marched, of all rays of one frame."""
        origins, directions = pixel_rays(camera, world_from_scene(pose))
        if self.config.radius:
            return origins, directions, *shell_span(surface.points, origins, directions, SCENE_SCALE * self.config.radius)
        return origins, directions, *box_span(origins, directions)

    def _march(self, planes: Tensor, surface: PosedPoints, pose: Float[Tensor, "4 4"], camera: Camera, code: Tensor | None) -> March:
        """All rays of one frame: even samples, samples where those found something, and both together."""
        *spans, hit = self._cast_rays(surface, pose, camera)
        rays = true_rows(hit)
        origins, directions, near, far = (span[rays] for span in spans)
        first = sample_stratified(near, far, self.config.coarse, jitter=self.training)
        density, features = self._evaluate(planes, surface, origins, directions, first, code)
        edges = interval_edges(first, near, far)
        weights = interval_weights(density, edges)
        second = sample_importance(edges, weights, self.config.fine, jitter=self.training)
        density2, features2 = self._evaluate(planes, surface, origins, directions, second, code)
        t, order = torch.cat([first, second], 1).sort(1)
        density_all = torch.cat([density, density2], 1).gather(1, order)
        weights_all = interval_weights(density_all, interval_edges(t, near, far))
        # Weighted sums do not care for the order of samples: put the weights back where the samples came from.
        unsorted = torch.zeros_like(weights_all).scatter(1, order, weights_all)
        fine = torch.einsum("rs,rsf->rf", unsorted[:, : first.shape[1]], features) + torch.einsum(
            "rs,rsf->rf", unsorted[:, first.shape[1] :], features2
        )
        columns = torch.cat([fine, weights_all.sum(1, keepdim=True), (weights_all * t).sum(1, keepdim=True)], 1)
        even = torch.cat([torch.einsum("rs,rsf->rf", weights, features), weights.sum(1, keepdim=True)], 1)
        full = columns.new_zeros(len(hit), columns.shape[1]).index_copy(0, rays, columns)
        full_even = even.new_zeros(len(hit), even.shape[1]).index_copy(0, rays, even)
        opacities = -torch.expm1(-density * edges.diff(dim=1))
        return March(
            fine=full[:, :-2],
            coarse=full_even[:, :-1],
            alpha=full[:, -2],
            coarse_alpha=full_even[:, -1],
            distance=full[:, -1],
            opacities=opacities.flatten(),
        )

    def _evaluate(
        self, planes: Tensor, surface: PosedPoints, origins: Tensor, directions: Tensor, t: Float[Tensor, "n S"], code: Tensor | None
    ) -> tuple[Float[Tensor, "n S"], Float[Tensor, "n S F"]]:
        """Density and features at distances along rays; the field is asked only where a surface point is near."""
        places = (origins[:, None] + t[..., None] * directions[:, None]).reshape(-1, 3)
        radius = SCENE_SCALE * self.config.radius if self.config.radius else math.inf
        index, square = nearest(surface.points, places, self.config.nearest, radius)
        asked = true_rows(square[:, 0].isfinite())
        ways = directions[:, None].expand(-1, t.shape[1], -1).reshape(-1, 3)
        density, features = self.field(planes, surface, places[asked], ways[asked], index[asked], square[asked], code)
        spread = features.new_zeros(len(places), features.shape[1]).index_copy(0, asked, features)
        return density.new_zeros(len(places)).index_copy(0, asked, density).view(t.shape), spread.view(*t.shape, -1)

    def _enlarge(self, fine: Tensor, alpha: Tensor, depth: Tensor, camera: Camera, under: Tensor) -> RenderOutput:
        """The picture at its full size over the background."""
        height, width = camera.height, camera.width
        deep = depth.movedim(-1, 1)
        if self.config.upscale == "style":
            size = (self.config.style_size,) * 2
            picture = self.upscale(_resize(fine.movedim(-1, 1), *size))
            picture = _resize(picture.sigmoid() * (1 + 2 * WIDEN) - WIDEN, height, width)
            covered = _resize(alpha.movedim(-1, 1), height, width)
            color, deep = picture, _resize(deep, height, width)
        else:
            packed = torch.cat([fine[..., :3], alpha, fine[..., 3:]], -1).movedim(-1, 1)
            picture = self.upscale(packed)[..., :height, :width]
            color, covered = picture[:, :3], picture[:, 3:].clamp(0, 1)
            deep = interpolate(deep, scale_factor=Upscale.FACTOR, mode="bilinear", align_corners=False)[..., :height, :width]
        color, covered, deep = (value.movedim(1, -1) for value in (color, covered, deep))
        return RenderOutput(color + (1 - covered) * under, covered, deep)

    def fit(self, params: HeadParams) -> None:
        """Set the code's components from the training frames' parameters."""
        self.code.fit(params)

    def regularizers(self) -> dict[str, Tensor]:
        """`planes`: squared difference of neighboring texels; `points`: squared point features."""
        return self.penalties(self.planes())

    def penalties(self, planes: Float[Tensor, "3 C s s"]) -> dict[str, Tensor]:
        """The same of planes that are there already: an encoder makes them once a step.

        Args:
            planes: of a render.
        """
        return {"planes": total_variation(planes), "points": self.field.points.table.weight.square().mean()}

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        planes, slow = split_speeds(self.planes)
        upscale, slow_too = split_speeds(self.upscale)
        points = list(self.field.points.table.parameters())
        known = {id(parameter) for parameter in points}
        networks = [parameter for parameter in self.field.parameters() if id(parameter) not in known]
        groups = {"planes": planes, "points": points, "networks": networks, "upscale": upscale, "slow": [*slow, *slow_too]}
        return groups | {"code": list(self.code.parameters())}


def _depth_per_distance(camera: Camera) -> Float[Tensor, "*b H W 1"]:
    """Depth along the optical axis for one unit of distance along each pixel's ray."""
    inverse = torch.linalg.inv_ex(camera.intrinsics).inverse
    rows, columns = (torch.arange(size, dtype=inverse.dtype, device=inverse.device) + 0.5 for size in (camera.height, camera.width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1)
    rays = pixels @ inverse[..., None, :, :].transpose(-1, -2)
    return 1 / rays.norm(dim=-1, keepdim=True)


def _resize(picture: Float[Tensor, "B C h w"], height: int, width: int) -> Float[Tensor, "B C H W"]:
    return interpolate(picture, (height, width), mode="bilinear", align_corners=False)
