"""The texels shared by all Gaussian avatars of a head model, and lifting of a few photos onto them, completed by symmetry.

A lifted start comes with the evidence it was made from, texel by texel, which the prior's network reads.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.gaussian.avatar import GaussianAvatar, channel_gains, init_map, moved_log_scale
from deja_vu.avatars.gaussian.config import ChannelGains, GaussianConfig
from deja_vu.avatars.gaussian.mouth import inner_mouth
from deja_vu.avatars.prior.config import PhotoLiftConfig
from deja_vu.core.batch import Batch
from deja_vu.core.gaussians import CHANNELS, NUM_CHANNELS, Gaussians, rgb_to_sh, sh_to_rgb
from deja_vu.core.head import HeadParams
from deja_vu.core.transfer import move
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.heads.regions import MOUTH_REGIONS, dropped_faces, region_faces
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.uv.attach import SurfaceFrames, attach
from deja_vu.uv.binding import SummedMap, SurfaceBinding, bind_texels, pose_gaussians
from deja_vu.uv.hair import HairRim, load_hair_prior, scalp_directions
from deja_vu.uv.hull import HairHull
from deja_vu.uv.layout import UVLayout, build_layout
from deja_vu.uv.lift import sample_texels
from deja_vu.uv.mirror import complete_texels, find_mirror_texels
from deja_vu.uv.strands import continue_hair

PHOTO_CHANNELS = 9
"""Of each texel in each photo: color 3, coverage, facing cosine, unhidden, normal towards the camera 3."""
SHARED_CHANNELS = 9
"""Of each texel: lifted color 3, hair height, how well it is known, 1 where hair may grow, place on the neutral head 3."""
HEIGHT_UNIT = 0.02
"""Hair height that stands for one in the evidence, meters."""
PLACE_UNIT = 0.1
"""Coordinate that stands for one in the evidence, meters."""


@dataclass(frozen=True)
class Lifted:
    """A start from N photos of one person, and its evidence."""

    shape: Float[Tensor, " S"]
    base: Float[Tensor, "M 13"]
    """Raw map."""
    rest_stretch: Float[Tensor, " M"]
    photos: Float[Tensor, "N M 9"]
    """Evidence of each photo, see `PHOTO_CHANNELS`."""
    trust: Float[Tensor, "N M"]
    """Weight of each photo's color at each texel, in [0, 1]."""
    facing: Float[Tensor, " M"]
    """Largest cosine between each texel's normal and the direction to the camera in the photos."""
    shared: Float[Tensor, "M 9"]
    """See `SHARED_CHANNELS`."""
    hair: Float[Tensor, " M"]
    """Height of the hair where no photo shows it, meters."""

    def to(self, device: torch.device | str) -> Lifted:
        """The same start on another device."""
        return Lifted(**{field.name: move(getattr(self, field.name), device) for field in fields(self)})


class Atlas:
    """Texels of a head model at one size, and everything about them that no identity changes."""

    def __init__(self, head: HeadModel, size: int, lift: PhotoLiftConfig, gains: ChannelGains) -> None:
        """Build the tables (a second).

        Args:
            head: parametric head.
            size: texels a side, 64 to 512.
            lift: how photos are lifted.
            gains: units of residuals.
        """
        self.head, self.size, self.config = head, size, lift
        self.layout = build_layout(head.topology, size, drop=dropped_faces(head.topology))
        self.binding = bind_texels(head.topology.faces, len(head.template), self.layout, None, len(self.layout))
        surface = attach(head.template, head.topology.faces, self.layout)
        points, self.forward = surface.points, surface.frames[:, 2, 2]
        self.mirror = find_mirror_texels(points)
        self.scalp = head.topology.regions["scalp"][self.layout.faces]
        self.mouth = torch.full((len(self.layout), 3), torch.nan)
        for name in MOUTH_REGIONS:  # fields of `MouthConfig` too
            if name in head.topology.regions:
                self.mouth[head.topology.regions[name][self.layout.faces]] = torch.tensor(getattr(lift.mouth, name))
        depth = points[~self.mouth[:, 0].isnan(), 2].amax() - points[:, 2] if self.mouth.isfinite().any() else points[:, 2]
        self.mouth *= (1 - depth / lift.mouth.depth).clamp(lift.mouth.min_light, 1)[:, None]
        self.inner = inner_mouth(head.topology, self.layout)
        covered = [name for name in ("scalp", "ears", *MOUTH_REGIONS) if name in head.topology.regions]
        self.bare = ~region_faces(head.topology, covered)[self.layout.faces]
        self.tolerance = torch.where(self.mouth[:, 0].isnan(), lift.depth_tolerance, lift.lips_tolerance)
        self.gains = channel_gains(gains)
        self._no_blendmaps = (torch.zeros(0, len(self.layout), NUM_CHANNELS), torch.zeros(1, 0))

    def to(self, device: torch.device | str) -> Atlas:
        """The same texels on another device: there heads can be posed and completed, while lifting is done on the host."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor | UVLayout | SurfaceBinding):
                setattr(moved, name, value.to(device))
        moved.head = self.head.copy().to(device)
        blendmaps, weights = self._no_blendmaps
        moved._no_blendmaps = (blendmaps.to(device), weights.to(device))
        return moved

    def rest_surface(self, shape: Float[Tensor, " S"]) -> SurfaceFrames:
        """Texels of a neutral head [1 M]."""
        return attach(self.head(replace(self.head.neutral((1,)), shape=shape[None])), self.head.topology.faces, self.layout)

    @torch.no_grad()
    def lift(self, photos: Batch) -> Lifted:
        """Lift photos of one person: heights from the silhouettes, colors where the texels are seen, the others by symmetry.

        Args:
            photos: N photos, each with its own camera and fit; the first one's identity counts.
        """
        count, shape = len(photos.params), photos.params.shape[0]
        params = replace(photos.params, shape=shape.expand(count, -1))
        rest, vertices = self.rest_surface(shape), self.head(params)
        surface = attach(vertices, self.head.topology.faces, self.layout)
        hull = HairHull(len(self.layout), self.config.hull)
        base = init_map(rest, self.layout, self.inner)
        reach = self.config.visible_deviations * base[:, CHANNELS["log_scale"].start].exp()
        hull.add(surface, photos.camera, photos.foreground, photos.valid, reach)
        beyond = replace(surface, points=surface.points + self.config.hull.max_height * surface.frames[..., 2])
        edge = sample_texels(beyond, photos.camera, torch.zeros_like(photos.head[..., 0]), photos.image, photos.head)
        tall = ((edge.facing.abs() < self.config.rim_cosine) & (edge.alpha > 0.5)).all(0)
        height = hull.estimate_heights(self.layout, self.scalp, tall)
        depth = rasterize_mesh(vertices, self.head.topology.faces, photos.camera).depth
        rim = HairRim(self.scalp, self.config.rim)
        rim.add(surface, photos.camera, photos.foreground, photos.valid, (depth > 0).float(), reach)
        raised = replace(surface, points=surface.points + height[:, None] * surface.frames[..., 2])
        view = sample_texels(raised, photos.camera, depth, photos.image, photos.head, self.tolerance)
        total = (view.trust[..., None] * view.color).sum(0)
        color, weight = complete_texels(total, view.trust.sum(0), self.mirror, self.scalp, self.layout, self.config.mirror)
        color = self.add_mouth(color, weight)
        self._raise(base, rest, height)
        base[:, CHANNELS["color"]] = rgb_to_sh(color)
        planes = [view.alpha, view.facing, view.unhidden]
        evidence = torch.cat([view.color, torch.stack(planes, -1), surface.frames[..., 2]], -1)
        known = [height / HEIGHT_UNIT, weight, self.scalp.float()]
        shared = torch.cat([color, torch.stack(known, -1), rest.points[0] / PLACE_UNIT], -1)
        return Lifted(
            shape=shape,
            base=base,
            rest_stretch=rest.stretch[0],
            photos=evidence,
            trust=view.trust,
            facing=view.facing.amax(0),
            shared=shared,
            hair=rim.estimate(rest.points[0], load_hair_prior()),
        )

    def _raise(self, base: Float[Tensor, "M 13"], rest: SurfaceFrames, height: Float[Tensor, " M"]) -> None:
        """Lift hair off the surface, and let all scales follow the spacing that results, in place."""
        base[self.scalp, CHANNELS["position"].stop - 1] = height[self.scalp]
        base[:, CHANNELS["log_scale"]] = moved_log_scale(base, rest, self.layout)

    def complete(self, lifted: Lifted, residual: Float[Tensor, "M 13"] | None, photos: Batch) -> Float[Tensor, "M 13"]:
        """A residual in which hair that no photo shows stands as high as usual beside what is seen, and continues its color.

        So does the crown: photos show it at a glancing angle, and the hull that they leave is a flat roof along the view.

        Args:
            lifted: start.
            residual: of the prior, in units of the gains; None for none.
            photos: those that were lifted.
        """
        rest, color, config = self.rest_surface(lifted.shape), CHANNELS["color"], self.config
        whole = lifted.base.clone() if residual is None else lifted.base + self.gains * residual
        behind = init_map(rest, self.layout, self.inner)
        self._raise(behind, rest, lifted.hair)
        behind[:, color] = whole[:, color]
        shown = ((lifted.facing - config.shown_from) / (config.shown_to - config.shown_from)).clamp(0, 1)
        directions = scalp_directions(rest.points[0], self.scalp)
        crown = ((directions[:, 1] - config.crown_from) / (config.crown_to - config.crown_from)).clamp(0, 1)
        glancing = ((config.round_to - lifted.facing) / (config.round_to - config.round_from)).clamp(0, 1)
        mixed = torch.where(self.scalp[:, None], behind.lerp(whole, (shown * (1 - crown * glancing))[:, None]), whole)
        mixed[:, color] = self._recolor(mixed, whole, lifted, photos)
        seen = ((lifted.facing - config.seen_from) / (config.seen_to - config.seen_from)).clamp(0, 1)
        trusted = lifted.trust.sum(0) > config.mirror.trusted
        found = sh_to_rgb(mixed[:, color])
        mixed[:, color] = rgb_to_sh(continue_hair(found, seen, trusted, self.scalp, directions, config.strands))
        return (mixed - lifted.base) / self.gains

    def _recolor(self, moved: Float[Tensor, "M 13"], whole: Float[Tensor, "M 13"], lifted: Lifted, photos: Batch) -> Float[Tensor, "M 3"]:
        """Raw colors of a map whose hair has moved: what photos show where it is now, and of skin, what they show beside the head's mask.

        The mask keeps a distance from all that is not head. Along the jaw that is a neck: skin there would change its color at a line.
        """
        params = replace(photos.params, shape=lifted.shape.expand(len(photos.params), -1))
        vertices, place, color = self.head(params), CHANNELS["position"], CHANNELS["color"]
        surface = attach(vertices, self.head.topology.faces, self.layout)
        depth = rasterize_mesh(vertices, self.head.topology.faces, photos.camera).depth
        raised = replace(surface, points=surface.points + (surface.frames @ moved[:, place, None])[..., 0])
        view = sample_texels(raised, photos.camera, depth, photos.image, photos.foreground, self.tolerance)
        trust, config = view.trust.sum(0), self.config
        sampled = rgb_to_sh((view.trust[..., None] * view.color).sum(0) / trust.clamp_min(1e-6)[:, None])
        step = ((moved[:, place] - whole[:, place]).norm(dim=1) / config.moved).clamp(0, 1)
        hair = self.scalp * step * (trust / config.mirror.trusted).clamp(0, 1)
        ramp = ((trust - config.skin_from) / (config.skin_to - config.skin_from)).clamp(0, 1)
        skin = self.bare * ramp * (1 - (lifted.trust.sum(0) / config.skin_to).clamp(0, 1))
        return whole[:, color].lerp(sampled, (hair + skin)[:, None])

    def add_mouth(self, color: Float[Tensor, "M 3"], weight: Float[Tensor, " M"]) -> Float[Tensor, "M 3"]:
        """Colors in which what the lips hide has a mouth's, in the light of the face.

        Args:
            color: of all texels, in [0, 1].
            weight: how well each is known.
        """
        face = weight * ~self.scalp
        light = float((face * color.mean(-1)).sum() / face.sum().clamp_min(1e-6)) / self.config.mouth.face_light
        hidden = ~self.mouth[:, :1].isnan() & (weight < self.config.mirror.known)[:, None]
        return torch.where(hidden, (self.mouth * light).clamp(0, 1), color)

    def gaussians(self, lifted: Lifted, residual: Float[Tensor, "M 13"] | None, params: HeadParams) -> Gaussians:
        """World-space Gaussians of B poses of a start, with the prior's residual or without one.

        Args:
            lifted: start.
            residual: of the prior, in units of the gains; None for none.
            params: poses and expressions; the identity is the start's.
        """
        ours = replace(params, shape=lifted.shape.expand(len(params), -1))
        blendmaps, weights = self._no_blendmaps
        residual = torch.zeros_like(lifted.base) if residual is None else residual
        summed = SummedMap(
            base=lifted.base,
            gains=self.gains,
            rectification=residual,
            weights=weights.expand(len(params), 0),
            blendmaps=blendmaps,
        )
        return pose_gaussians(summed, self.head(ours), self.binding, lifted.rest_stretch)

    def avatar(
        self,
        lifted: Lifted,
        residual: Float[Tensor, "M 13"] | None,
        config: GaussianConfig,
        torso_shape: Float[Tensor, " K"] | None = None,
    ) -> GaussianAvatar:
        """The same as an avatar, with a head of its own; a bust, if it has one, begins as a new avatar's does.

        Args:
            lifted: start.
            residual: of the prior, in units of the gains; None for none.
            config: sizes, of which `uv_size` is this atlas' and offsets lie in the tangent frame.
            torso_shape: coefficients of the bust's own components.
        """
        assert (config.uv_size, config.axes) == (self.size, "tangent"), config
        avatar = GaussianAvatar(self.head.copy(), lifted.shape, config, torso_shape)  # the atlas' own head stays on its device
        avatar.base[: len(self.layout)] = lifted.base if residual is None else lifted.base + self.gains * residual
        return avatar


def load_atlas(head_name: str, size: int, lift: PhotoLiftConfig = PhotoLiftConfig(), gains: ChannelGains = ChannelGains()) -> Atlas:
    """The atlas of a head model; the same one on every call."""
    return _build_atlas(head_name, size, lift, gains)


@functools.lru_cache(maxsize=2)
def _build_atlas(head_name: str, size: int, lift: PhotoLiftConfig, gains: ChannelGains) -> Atlas:
    return Atlas(load_head(head_name), size, lift, gains)
