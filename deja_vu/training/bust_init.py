"""What the bust of an avatar begins with: the height of clothes and their colors, lifted from frames, and how far down they were filmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from deja_vu.avatars import GaussianAvatar
from deja_vu.core.batch import Batch
from deja_vu.core.gaussians import ACTIVATIONS, CHANNELS, NUM_CHANNELS, rgb_to_sh
from deja_vu.core.head import HeadParams
from deja_vu.core.sampling import evenly_spaced
from deja_vu.io.frames import FrameSource
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.training.bust_back import continue_behind
from deja_vu.training.bust_colors import bare_neck_colors, complete_colors, spread_apart
from deja_vu.training.gaussian_config import BustConfig, LiftConfig
from deja_vu.uv.attach import SurfaceFrames
from deja_vu.uv.extend import extend_harmonic
from deja_vu.uv.hull import HairHull
from deja_vu.uv.lift import ColorLift, sample_plane
from deja_vu.uv.mirror import find_mirror_texels


def lift_bust(avatar: GaussianAvatar, source: FrameSource, config: LiftConfig, bust: BustConfig) -> None:
    """Height of clothes and of hair beside the neck, colors from where texels are seen, and the soft lower edge, in place.

    Args:
        avatar: with a bust.
        source: training frames in the window that holds neck and torso.
        config: how many are looked at, and how closely.
        bust: the edge.
    """
    texels = avatar.charts.parts[1][1]
    frames = [source.batch(position[None]) for position in evenly_spaced(config.frames, len(source.sequence))]
    heights = avatar.base[:, CHANNELS["position"].stop - 1].clone()
    outlined, told = raise_to_outline(avatar, frames, config, bust)
    heights[texels] = continue_behind(avatar, outlined, told, bust)
    avatar.raise_surface(heights)
    lift, filmed = lift_colors(avatar, frames, config, bust)
    count, rest = len(frames), avatar.rest_surface().part(texels)
    mirror = find_mirror_texels(rest.points[0])
    weight = lift.weight / count + bust.mirror_share * lift.weight[mirror] / count
    total = lift.total / count + bust.mirror_share * lift.total[mirror] / count
    color = complete_colors(avatar, total / weight.clamp_min(1e-6)[:, None], weight, bust)
    known = (weight / bust.known_weight).clamp(0, 1)[:, None]
    color = ((color + color[mirror]) / 2).lerp(color, known)  # both halves of a guess are alike
    avatar.base[texels, CHANNELS["color"]] = rgb_to_sh(color.clamp(0, 1))
    avatar.unseen[texels] = torch.exp(-lift.weight / count / config.unseen_below)
    avatar.held[texels] = hold_texels(avatar.unseen[texels], told, bust)
    upright, in_picture = stand_upright(rest, source.sequence.params), filmed / count > bust.filmed_share
    shown = fade_edge(upright, in_picture, bust)
    full = ACTIVATIONS["opacity_logit"].forward(avatar.base[texels, CHANNELS["opacity_logit"]])
    avatar.base[texels, CHANNELS["opacity_logit"]] = torch.logit((full * shown[:, None]).clamp(bust.least_opacity, 1 - 1e-4))


def hold_texels(unseen: Float[Tensor, " M"], told: Float[Tensor, " M"], bust: BustConfig) -> Float[Tensor, "M C"]:
    """How firmly training holds every channel of each texel to the base map, in [0, 1].

    What lies behind would get color through what lies before it. Texels on the outline face nobody either, but every picture shows where
    they end: their color is held, and their shape is not.

    Args:
        unseen: how little frames show each.
        told: how well the outline knows its height, in [0, 1].
        bust: from which unseen share on it is held.
    """
    firm = ((unseen - bust.held_from) / (1 - bust.held_from)).clamp(0, 1)
    held = (firm * (1 - told))[:, None].repeat(1, NUM_CHANNELS)
    held[:, CHANNELS["color"]] = firm[:, None]
    return held


def lift_neck(avatar: GaussianAvatar, source: FrameSource, config: LiftConfig, bust: BustConfig) -> None:
    """Width and colors of the neck of an avatar that shows the head alone, of which training moves the front alone, in place.

    Args:
        avatar: with a neck.
        source: training frames.
        config: how many are looked at, and how closely.
        bust: from when on a color is known.
    """
    texels = avatar.charts.parts[1][1]
    frames = [source.batch(position[None]) for position in evenly_spaced(config.frames, len(source.sequence))]
    normal = CHANNELS["position"].stop - 1
    wall = avatar.base[texels, normal] == 0  # the floor lies elsewhere
    avatar.base[texels, normal] += wall * raise_to_outline(avatar, frames, config, bust)[0].clamp_max(0)
    lift, _ = lift_colors(avatar, frames, config, bust)
    color = bare_neck_colors(avatar, lift.total / lift.weight.clamp_min(1e-6)[:, None], lift.weight / len(frames), bust)
    avatar.base[texels, CHANNELS["color"]] = rgb_to_sh(color.clamp(0, 1))
    avatar.unseen[texels] = 1
    behind = avatar.rest_surface().frames[0, texels, 2, 2] < -0.5
    avatar.held[texels] = (~wall | behind).float()[:, None]


def lift_colors(
    avatar: GaussianAvatar, frames: Sequence[Batch], config: LiftConfig, bust: BustConfig
) -> tuple[ColorLift, Float[Tensor, " M"]]:
    """Colors of the bust's raised texels, and in how many of the frames each lies in the picture."""
    layout, texels = avatar.charts.parts[1]
    faces, lift = avatar.charts.binding.faces, ColorLift(len(layout), config.min_trust)
    filmed = torch.zeros(len(layout))
    for batch in frames:
        depth = rasterize_mesh(avatar.vertices(avatar.correct_params(batch.params)), faces, batch.camera).depth
        surface = avatar.surface(batch.params).part(texels)
        raised = surface.points + (surface.frames @ avatar.base[texels, CHANNELS["position"], None])[..., 0]
        lift.add(replace(surface, points=raised), batch.camera, depth, batch.image, batch.foreground)
        filmed += lies_in_picture(raised, batch)[0]
    return lift, filmed


def raise_to_outline(
    avatar: GaussianAvatar, frames: Sequence[Batch], config: LiftConfig, bust: BustConfig
) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
    """Height over every texel of the bust, meters: clothing's, moved where the outline says that cloth or hair ends elsewhere.

    It comes with how well the outline knows it, in [0, 1]. Only texels on the outline know it; what lies further away from them takes less
    and less of their correction. What the picture cuts off goes on as what is beside it in the picture: a shoulder that is lower there does
    not rise again. Of a bare neck, see `limit_widening`.

    Args:
        avatar: with a bust.
        frames: some, in the window that holds neck and torso.
        config: what a Gaussian adds to its texel's height.
        bust: range of heights.
    """
    layout, texels = avatar.charts.parts[1]
    usual, rest = avatar.clothing_height()[texels], spread_apart(avatar.rest_surface().part(texels), bust)
    hull = HairHull(len(layout), bust.hull)
    reach = config.visible_deviations * avatar.base[texels, CHANNELS["log_scale"].start].exp()
    at_contour, filmed = torch.zeros(2, len(layout))
    for batch in frames:
        surface = avatar.surface(batch.params).part(texels)
        hull.add(surface, batch.camera, batch.foreground, batch.valid, reach)
        at_contour += lies_beside(avatar, surface, usual + bust.contour_step, batch)
        filmed += lies_in_picture(surface.points + usual[:, None] * surface.frames[..., 2], batch)[0]
    height, bounded = hull.measure()
    seen = (at_contour > len(frames) / 2) & (filmed > len(frames) / 2)
    outline = torch.nonzero(bounded & (hull.facing < bust.outline_cosine) & seen)[:, 0]
    if not len(outline):
        return usual, torch.zeros_like(usual)
    bare = outline[usual[outline] == 0]
    height[bare] = limit_widening(rest[bare, :3], height[bare], bust)
    count = min(bust.neighbors, len(outline))
    distance, place = cKDTree(rest[outline].double().numpy()).query(rest.double().numpy(), k=[*range(1, count + 1)])
    share = torch.from_numpy(np.exp(-((distance / bust.outline_reach) ** 2))).float()
    correction = (height - usual)[outline][torch.from_numpy(place)]
    total, filmed = share.sum(1), filmed > bust.filmed_share * len(frames)
    correction = ((share * correction).sum(1) / total.clamp_min(bust.outline_texels))[:, None]
    known = filmed & (total > bust.outline_texels / 2)
    beyond = extend_harmonic(correction, known, rest, bust.cut_reach)  # what is 0 far from the outline was not measured
    continued = beyond + extend_harmonic(correction - beyond, filmed, rest, bust.outline_reach)
    return usual + continued[:, 0], (total / bust.outline_texels).clamp(0, 1)


def limit_widening(points: Float[Tensor, "n 3"], height: Float[Tensor, " n"], bust: BustConfig) -> Float[Tensor, " n"]:
    """Heights over the outline of a bare neck, of which lower ones are hardly more than those above them.

    Hair hangs from above. Where the outline goes away from a neck further down, it is a shoulder's that stands before the neck's normals.

    Args:
        points: texels on the outline, x sideways and y upwards, meters.
        height: measured over each, meters; up to 0, as over a bare neck as it is, it stays.
        bust: how fast it may grow downwards.
    """
    limited = height.clone()
    for side in (points[:, 0] < 0, points[:, 0] >= 0):
        above = None
        for band in (-points[:, 1] / bust.widening_band).floor().unique():
            inside = side & ((-points[:, 1] / bust.widening_band).floor() == band)
            if not inside.any():
                continue
            if above is not None:
                most = above[1] + bust.widening * bust.widening_band * (band - above[0])
                limited[inside] = limited[inside].minimum(most.clamp_min(0))
            above = band, limited[inside].median()
    return limited


def lies_beside(avatar: GaussianAvatar, surface: SurfaceFrames, height: Float[Tensor, " M"], batch: Batch) -> Float[Tensor, " M"]:
    """Whether texels, raised, are seen beside the avatar's bare surface: else what lies before or behind them hides where they end.

    Args:
        avatar: with a bust.
        surface: posed texels of one frame.
        height: over the texels, meters.
        batch: the frame.
    """
    params, camera = avatar.correct_params(batch.params), batch.camera
    covered = (rasterize_mesh(avatar.vertices(params), avatar.charts.binding.faces, camera).face_id >= 0).float()
    pixels, _ = camera.project(surface.points + height[:, None] * surface.frames[..., 2])
    grid = pixels / torch.tensor([camera.width / 2, camera.height / 2]) - 1
    return (grid_sample(covered[:, None], grid[:, None], align_corners=False)[0, 0, 0] < 0.5).float()


def lies_in_picture(points: Float[Tensor, "B M 3"], batch: Batch) -> Bool[Tensor, "B M"]:
    """Whether points project to where something was filmed; what lies before them does not matter."""
    return sample_plane(batch.valid, points, batch.camera) > 0.5


def stand_upright(rest: SurfaceFrames, params: HeadParams) -> SurfaceFrames:
    """Texels of the rest surface turned so that what is up in the film, on average, is +y: a torso that leans ends level all the same.

    Args:
        rest: the person's neutral bust [1 M], in the torso's axes.
        params: of the film's frames, whose camera looks along +z with y down.
    """
    up = -normalize(params.world_from_torso[:, 1, :3].mean(0), dim=0)
    side = normalize(torch.linalg.cross(up, up.new_tensor([0.0, 0.0, 1.0])), dim=0)
    turn = torch.stack([side, up, torch.linalg.cross(side, up)])
    return replace(rest, points=rest.points @ turn.T, frames=turn @ rest.frames)


def fade_edge(rest: SurfaceFrames, filmed: Bool[Tensor, " M"], bust: BustConfig) -> Float[Tensor, " M"]:
    """How much of each texel is shown: all of what was filmed and of what lies behind it, and all that is as high; below, it fades.

    What the film cut off at its sides is shown as a guess: half an arm looks worse. Only what faces the front says how low all ends: of
    what lies further away, and is hidden, the picture's lower border cuts off less. The back ends a little lower, or from behind one would
    see into the chest.

    Args:
        rest: the person's neutral bust [1 M], upright and facing +z.
        filmed: texels that lay in the pictures.
        bust: place and width of the edge.
    """
    points = rest.points[0]
    filmed = filmed & (rest.frames[0, :, 2, 2] > 0)
    if not filmed.any():
        return torch.zeros(len(points))
    height = points[:, 1]
    middle = filmed & (points[:, 0].abs() < bust.edge_middle)
    below = height[middle if middle.any() else filmed].quantile(bust.edge_quantile) - height
    below = below - bust.longer_back * (1 - rest.frames[0, :, 2, 2]) / 2
    front = points[:, :2].double().numpy()
    beyond = torch.from_numpy(cKDTree(front[filmed.numpy()]).query(front)[0]).float()
    share = (torch.minimum(below, beyond) / bust.edge).clamp(0, 1)
    return fade_out(share)


def fade_out(share: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """Smooth step from 1 at 0 to 0 at 1."""
    return 1 - share * share * (3 - 2 * share)
