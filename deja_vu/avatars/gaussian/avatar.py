"""The Gaussian avatar: a UV map of Gaussians on a head model, rectified globally and by expression (Gaussian Deja-vu, WACV 2025)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from deja_vu.avatars.base import Avatar, Draw
from deja_vu.avatars.gaussian.blend_weights import LinearCode
from deja_vu.avatars.gaussian.charts import lay_out
from deja_vu.avatars.gaussian.code_reader import CodeReader
from deja_vu.avatars.gaussian.config import ChannelGains, GaussianConfig
from deja_vu.avatars.gaussian.correction import ParamCorrection
from deja_vu.avatars.gaussian.face_code import FaceCode
from deja_vu.avatars.gaussian.mouth import draw_in, inner_mouth
from deja_vu.avatars.gaussian.neck import end_neck
from deja_vu.avatars.gaussian.softmax_code import ComponentCode, NetworkCode, SoftmaxCode
from deja_vu.avatars.gaussian.weighted_squares import weighted_squares
from deja_vu.core.camera import Camera
from deja_vu.core.conventions import SH_C0
from deja_vu.core.errors import ConfigError
from deja_vu.core.gaussians import CHANNELS, NUM_CHANNELS, Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.core.image import RenderOutput
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import BUST_HEAD, load_bust
from deja_vu.render import cpu
from deja_vu.render.base import rasterize
from deja_vu.uv.attach import SurfaceFrames, attach
from deja_vu.uv.binding import SummedMap, pose_gaussians
from deja_vu.uv.layout import UVLayout
from deja_vu.uv.seams import seam_gaps

SEAM_SHARE = 0.8
"""Share of the gap at a seam of the chart that counts as spacing on either side."""


def channel_gains(gains: ChannelGains) -> Float[Tensor, "13"]:
    """Gains by raw channel, in the order of `CHANNELS`."""
    return torch.cat([torch.full((channel.stop - channel.start,), getattr(gains, name)) for name, channel in CHANNELS.items()])


class GaussianAvatar(Avatar):
    """One Gaussian for each valid texel, bound to the posed head, and to the bust below it where the avatar is a whole person.

    Maps hold the head's texels first, then the bust's.
    """

    capabilities = frozenset({"gaussians"})
    shape: Tensor
    torso_shape: Tensor
    """Coefficients of the bust's own components [12]; only with a bust."""
    base: Tensor
    gains: Tensor
    rest_stretch: Tensor
    unseen: Tensor
    """Share of each texel that the training frames do not show, in [0, 1]; such texels are held to the base map."""
    uncovered: Float[Tensor, " M"]
    """The same of texels that cover no filmed pixels either, as the rims of hair and ears do, which face nobody."""
    held: Float[Tensor, "M 13"]
    """How firmly each value of the global map keeps to the base map, because no training frame shows it, in [0, 1]."""
    scalp: Bool[Tensor, " M"]
    """Texels on which hair may grow."""
    inner: Bool[Tensor, " M"]
    """Texels of the mouth's walls and tongue, which lie where the base map has drawn them."""

    def __init__(
        self, head: HeadModel, shape: Float[Tensor, " S"], config: GaussianConfig, torso_shape: Float[Tensor, " K"] | None = None
    ) -> None:
        """Start with Gaussians that follow texel spacing, gray and nearly opaque, at the height of clothing on the torso.

        Args:
            head: parametric head; its identity is fixed to `shape`.
            shape: the person's identity coefficients.
            config: sizes.
            torso_shape: coefficients of the bust's own components; the mean by default.

        Raises:
            ConfigError: the sizes do not fit each other or the head.
        """
        super().__init__()
        _check_sizes(head, config)
        self.head, self.config = head, config
        self.bust = load_bust() if config.bust_size else None
        self.charts = lay_out(head, self.bust, config)
        self.upsample = self.charts.binding.upsample
        self.register_buffer("shape", shape.clone())
        if self.bust is not None:
            given = torch.zeros(self.bust.num_own) if torso_shape is None else torso_shape
            self.register_buffer("torso_shape", given.clone())
        rest = self.rest_surface()
        scalp = head.topology.regions.get("scalp", torch.zeros(len(head.topology.faces), dtype=torch.bool))
        on_scalp = torch.zeros(len(self.charts), dtype=torch.bool)
        on_scalp[: len(self.charts.head)] = scalp[self.charts.head.faces]
        self.register_buffer("scalp", on_scalp, persistent=False)
        self.register_buffer("rest_stretch", rest.stretch[0], persistent=False)
        self.register_buffer("unseen", torch.zeros(len(self.charts)), persistent=False)
        self.register_buffer("uncovered", torch.zeros(len(self.charts)), persistent=False)
        self.register_buffer("held", torch.zeros(len(self.charts), NUM_CHANNELS), persistent=False)
        inner = torch.zeros_like(on_scalp)
        if config.axes == "tangent":
            inner[: len(self.charts.head)] = inner_mouth(head.topology, self.charts.head)
        self.register_buffer("inner", inner, persistent=False)
        self.register_buffer("base", self._init_base(rest))
        self.register_buffer("gains", channel_gains(config.gains), persistent=False)
        self.rectification = nn.Parameter(torch.zeros(len(self.charts), NUM_CHANNELS))
        self.blendmaps = nn.Parameter(torch.zeros(config.blendmaps, self.charts.blend_count, NUM_CHANNELS))
        self.code = _make_code(head, config)
        corrects = config.correction and config.code == "linear" and config.blendmaps > 0
        self.correction = ParamCorrection(config.blendmaps, head.spec.num_expression) if corrects else None
        self.reader = CodeReader(len(FaceCode.of(head.spec))) if config.reader else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GaussianAvatar:
        """Tables of the surface follow parameters to another device."""
        super()._apply(fn, recurse)
        self.charts = self.charts.to(self.base.device)
        return self

    @property
    def layout(self) -> UVLayout:
        """The head's chart."""
        return self.charts.head

    @property
    def num_gaussians(self) -> int:
        """Texels M, one Gaussian each."""
        return len(self.charts)

    @property
    def shows_person(self) -> bool:
        return self.bust is not None and self.config.bust_part == "whole"

    @property
    def shows_neck(self) -> bool:
        return self.bust is not None

    def vertices(self, params: HeadParams) -> Float[Tensor, "*b V 3"]:
        """Posed surface in world space, meters: the head's vertices, then the bust's."""
        head = self.head(params)
        if self.bust is None:
            return head
        return torch.cat([head, self.bust(params, self.torso_shape.expand(*params.expression.shape[:-1], -1))], -2)

    def rest_vertices(self) -> Float[Tensor, "1 V 3"]:
        """The person's neutral surface in head space, meters."""
        return self.vertices(replace(self.head.neutral((1,)), shape=self.shape[None]))

    def rest_surface(self) -> SurfaceFrames:
        """Texels of the person's neutral surface [1 M]."""
        return attach(self.rest_vertices(), self.charts.binding.faces, self.charts.binding.layout)

    def build_map(self, params: HeadParams) -> SummedMap:
        """Terms of every pose's raw map: base, global rectification, and the blend of the blendmaps."""
        batch = params.expression.shape[:-1]
        weights = self.code(params) if self.config.blendmaps else self.base.new_zeros(*batch, 0)
        return SummedMap(
            base=self.base,
            gains=self.gains,
            rectification=self.rectification,
            weights=weights,
            blendmaps=self.blendmaps,
            upsample=self.upsample,
        )

    def correct_params(self, params: HeadParams) -> HeadParams:
        """Parameters with this avatar's identity, and with what it learned about the tracker's errors."""
        ours = replace(params, shape=self.shape.expand(*params.expression.shape[:-1], -1))
        if self.correction is None or not isinstance(self.code, LinearCode):
            return ours
        return self.correction(ours, self.code.coordinates(params))

    def surface(self, params: HeadParams) -> SurfaceFrames:
        """Texels of every pose, with this avatar's identity and corrections."""
        ours = self.correct_params(params)
        surface = attach(self.vertices(ours), self.charts.binding.faces, self.charts.binding.layout)
        if self.config.axes == "head":
            surface = replace(surface, frames=ours.world_from_head[..., None, :3, :3].expand_as(surface.frames))
        return surface

    def gaussians(self, params: HeadParams) -> Gaussians:
        """World-space Gaussians of every pose."""
        ours = self.correct_params(params)
        axes = ours.world_from_head[..., :3, :3] if self.config.axes == "head" else None
        return pose_gaussians(self.build_map(params), self.vertices(ours), self.charts.binding, self.rest_stretch, axes)

    def render(self, params: HeadParams, camera: Camera, background: Float[Tensor, "*b 3"]) -> RenderOutput:
        return self.prepare(params, camera)(background)

    def prepare(self, params: HeadParams, camera: Camera) -> Draw:
        gaussians = self.gaussians(params)
        # Training has no use for depth, and waits for no GPU: it looks at its terms when it logs them.
        depth, check = not self.training, self.device.type == "cpu" or not self.training
        return lambda background: rasterize(gaussians, camera, background, backend=self.config.backend, depth=depth, check=check)

    def render_head(self, params: HeadParams, camera: Camera, background: Float[Tensor, "*b 3"]) -> RenderOutput:
        if self.bust is None:
            return self.render(params, camera, background)
        _, texels = self.charts.parts[0]
        return rasterize(self.gaussians(params)[:, texels], camera, background, backend=self.config.backend)

    def count_work(self, params: HeadParams, camera: Camera) -> dict[str, int]:
        """`gaussians`, and on a CPU `alpha_evals`: how often one of them is composited with a pixel."""
        counts = {"gaussians": self.num_gaussians}
        if camera.intrinsics.is_cpu:
            counts["alpha_evals"] = cpu.BLOCK * cpu.work(self.gaussians(params)[0], camera)["blocks"]
        return counts

    def regularizers(self) -> dict[str, Tensor]:
        """Mean squared rectification by channel and of texels that no frame shows, and of the blendmaps as a whole; summed over charts."""
        even = torch.ones_like(self.unseen)
        by_texel = {"position": self.position_weight(), "scale": even, "opacity": even, "unseen": self.unseen}
        channels = torch.zeros(len(by_texel), NUM_CHANNELS, device=even.device)
        for row, name in enumerate(("position", "log_scale", "opacity_logit")):
            channels[row, CHANNELS[name]] = 1
        channels[-1] = 1
        means = weighted_squares(self.rectification, torch.stack(list(by_texel.values())) * self.charts.share, channels)
        terms = dict(zip(by_texel, means, strict=True))
        if self.config.blendmaps:
            shares = self.charts.blend_share.repeat(self.config.blendmaps)[None]
            squares = weighted_squares(self.blendmaps.flatten(0, 1), shares, channels[-1:])
            terms["blendmaps"] = squares[0] / NUM_CHANNELS
        if self.correction is not None:
            terms["correction"] = self.correction.weight.square().sum()
        return terms

    def raise_surface(self, height: Float[Tensor, " M"]) -> None:
        """Lift the base map off the surface and widen it accordingly, in place; the neck of a head alone stays as it is.

        Args:
            height: of hair or cloth over every texel, along the normal, meters.
        """
        rest, normal = self.rest_surface(), CHANNELS["position"].stop - 1
        raised = torch.where(self.inner, self.base[:, normal], height)
        for layout, texels in self.charts.parts if self.shows_person else self.charts.parts[:1]:
            if torch.equal(self.base[texels, normal], raised[texels]):
                continue  # whoever raises one chart leaves the other's scales as they are
            self.base[texels, normal] = raised[texels]
            self.base[texels, CHANNELS["log_scale"]] = moved_log_scale(self.base[texels], rest.part(texels), layout)

    @torch.no_grad()
    def hold_unseen(self, decay: float) -> None:
        """Draw what is held of the global rectification back to none, in place.

        Args:
            decay: share that goes where a value is held firmly.
        """
        self.rectification.mul_(1 - decay * self.held)

    @torch.no_grad()
    def limit_hair(self, reach: float) -> None:
        """Keep hair near the height that silhouettes gave it, in place: it would go astray to fill the outline of an ear before it.

        Args:
            reach: most that the global rectification moves it along each axis, meters.
        """
        place = self.rectification[:, CHANNELS["position"]]
        limit = reach / self.gains[CHANNELS["position"]]
        place.copy_(torch.where(self.scalp[:, None], place.clamp(-limit, limit), place))

    @torch.no_grad()
    def limit_cloth(self, width: float) -> None:
        """Keep Gaussians of neck, torso and clothes small, in place.

        Args:
            width: largest deviation along any axis that the global rectification makes, meters.
        """
        scale, texels = CHANNELS["log_scale"], slice(len(self.charts.head), None)
        most = (math.log(width) - self.base[texels, scale]) / self.gains[scale]
        self.rectification[texels, scale] = torch.minimum(self.rectification[texels, scale], most.clamp_min(0))

    @torch.no_grad()
    def limit_unseen(self, *, way: float, stretch: float, color: float, hue: float) -> None:
        """Keep the person near the base map where frames hardly show it, in place: few pixels at a slant would make spikes of skin.

        Hair, whose way `limit_hair` bounds, keeps its color alone: behind an ear it would take the ear's. So do neck and clothes of a whole
        person: a neck would take what stands before it. Each range is that of a texel that no frame shows; in the others it is the larger
        the better they are seen and, but for hues, the more pixels they cover: what makes the outline may be turned away.

        Args:
            way: most that the global rectification moves such skin of the head along each axis, meters.
            stretch: most by which it changes its widths, natural logarithm.
            color: most by which it changes its colors, in [0, 1]: what is hidden may lie in shadow,
            hue: and most by which one channel's change differs from their mean: but black hair is not red.
        """
        skin, colored = ~self.inner & ~self.scalp, ~self.inner
        skin[len(self.charts.head) :] = False
        colored[len(self.charts.head) :] = self.shows_person
        for name, most, part in (("position", way, skin), ("log_scale", stretch, skin), ("color", color / SH_C0, colored)):
            unseen, uncovered = (torch.where(part, share, 0.0)[:, None].clamp_min(1e-6) for share in (self.unseen, self.uncovered))
            values, limit = self.rectification[:, CHANNELS[name]], most / self.gains[CHANNELS[name]]
            if name == "color":
                tint, away = limit * hue / color / unseen, values - values.mean(1, keepdim=True)
                values.sub_(away - away.clamp(-tint, tint))
            values.copy_(values.clamp(-limit / uncovered, limit / uncovered))

    def clothing_height(self) -> Float[Tensor, " M"]:
        """Height at which clothing begins over every texel, meters; 0 on a head, and on its bare neck."""
        height = self.base.new_zeros(len(self.charts))
        if self.bust is not None and self.shows_person:
            layout, texels = self.charts.parts[1]
            height[texels] = (self.bust.clothing[layout.corners] * layout.bary).sum(-1)
        return height

    def _init_base(self, rest: SurfaceFrames) -> Float[Tensor, "M 13"]:
        """Raw map that follows texel spacing, see `init_map`; a neck without shoulders has an end."""
        base = torch.cat([init_map(rest.part(texels), layout, self.inner[texels]) for layout, texels in self.charts.parts])
        if self.bust is not None and not self.shows_person:
            texels, first = self.charts.parts[1][1], len(self.head.template)
            neck = end_neck(rest.part(texels), self.rest_vertices()[0, first:], self.bust.topology, self.config.neck)
            base[texels] = neck.shape(base[texels])
        return base

    def position_weight(self) -> Float[Tensor, " M"]:
        """Weight with which each texel is held to the surface: 1, but 0.05 where hair must travel, and 0.2 where cloth must."""
        weight = torch.where(self.scalp, 0.05, 1.0)
        weight[len(self.charts.head) :] = 0.2
        return weight

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = {"rectification": [self.rectification], "blendmaps": [self.blendmaps], "code": list(self.code.parameters())}
        if self.correction is not None:
            groups["correction"] = list(self.correction.parameters())
        return groups


def _make_code(head: HeadModel, config: GaussianConfig) -> LinearCode | SoftmaxCode | ComponentCode | NetworkCode:
    """What chooses among the blendmaps."""
    match config.code:
        case "softmax":
            return SoftmaxCode(config.blendmaps)
        case "components":
            return ComponentCode(head.spec, config.blendmaps)
        case "network":
            return NetworkCode(head.spec, config.blendmaps, config.code_network)
    return LinearCode(head.spec.num_expression + 3 * head.spec.num_joints + 3, config.blendmaps)


def _check_sizes(head: HeadModel, config: GaussianConfig) -> None:
    if misfit := config.misfit():
        raise ConfigError(misfit)
    if config.bust_size and head.spec.name != BUST_HEAD:
        raise ConfigError(
            f"Head '{head.spec.name}' has no bust, but bust_size is {config.bust_size}. Expected bust_size 0, or head '{BUST_HEAD}'."
        )
    if config.code == "softmax" and config.blendmaps > head.spec.num_expression:
        raise ConfigError(
            f"The softmax code takes one expression for each blendmap, but {config.blendmaps} blendmaps are set and head "
            f"'{head.spec.name}' has {head.spec.num_expression} expressions. Set fewer blendmaps, or use the linear code."
        )


def init_map(rest: SurfaceFrames, layout: UVLayout, inner: Bool[Tensor, " M"]) -> Float[Tensor, "M 13"]:
    """A raw map of scales that follow texel spacing, opacity 0.88 and mid gray.

    Args:
        rest: texels of the neutral surface [1 M].
        layout: their chart.
        inner: texels of the mouth's walls and tongue, which are drawn in.
    """
    packed = torch.zeros(len(layout), NUM_CHANNELS)
    packed[:, CHANNELS["position"]] = draw_in(rest, inner)
    packed[:, CHANNELS["log_scale"]] = moved_log_scale(packed, rest, layout)
    packed[:, CHANNELS["opacity_logit"]] = 2.0
    return packed


def moved_log_scale(base: Float[Tensor, "M 13"], rest: SurfaceFrames, layout: UVLayout) -> Float[Tensor, "M 3"]:
    """Scales that follow the spacing of texels where a raw map in tangent frames has moved them, see `spacing_log_scale`."""
    moved = rest.points[0] + (rest.frames[0] @ base[:, CHANNELS["position"], None])[..., 0]
    return spacing_log_scale(moved, layout)


def spacing_log_scale(points: Float[Tensor, "M 3"], layout: UVLayout) -> Float[Tensor, "M 3"]:
    """Deviations of 0.7 of the distance to neighboring texels in the plane, and a third of that across (log of meters).

    Both sides of a seam reach so far that it is closed.
    """
    spacing = torch.maximum(texel_spacing(points, layout), SEAM_SHARE * seam_gaps(points, layout))
    log_sigma = (0.7 * spacing).clamp(2e-4, 6e-3).log()
    return log_sigma[:, None] + torch.tensor([0.0, 0.0, -1.1])


def texel_spacing(points: Float[Tensor, "M 3"], layout: UVLayout) -> Float[Tensor, " M"]:
    """Root mean square distance from each texel to its valid neighbors on the same part of the surface, meters."""
    image = torch.full((layout.size * layout.size, 3), torch.nan)
    image[layout.texels] = points
    image = image.unflatten(0, (layout.size, layout.size))
    squares = []
    for axis in (0, 1):
        for step in (1, -1):
            distance = (image.roll(step, axis) - image).square().sum(-1)
            squares.append(torch.where(distance < 0.02**2, distance, torch.nan).flatten()[layout.texels])
    mean = torch.stack(squares).nanmean(0)
    return torch.where(mean.isnan(), mean[~mean.isnan()].median(), mean).sqrt()
