"""Colors of a bust where no frame shows it: cloth from cloth, a neck from neck and face, a nape from what is seen beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from deja_vu.avatars import GaussianAvatar
from deja_vu.core.gaussians import ACTIVATIONS, CHANNELS
from deja_vu.training.bust_back import mean_at_levels
from deja_vu.training.gaussian_config import BustConfig
from deja_vu.uv.attach import SurfaceFrames
from deja_vu.uv.lift import fill_from_nearest


@dataclass(frozen=True)
class BustParts:
    """What each texel of a bust belongs to."""

    throat: Bool[Tensor, " M"]
    nape: Bool[Tensor, " M"]
    clothed: Bool[Tensor, " M"]
    """Where usual clothes stand off the skin: all but the upper neck."""
    curtain: Bool[Tensor, " M"]
    """Bare neck that stands further out than a neck does: hair hangs there."""
    to_nape: Float[Tensor, " M"]
    """Distance from the nape, meters."""


def find_parts(avatar: GaussianAvatar, weight: Float[Tensor, " M"], bust: BustConfig) -> BustParts:
    """Parts of an avatar's bust, whose heights are known.

    Args:
        avatar: with a bust.
        weight: how well each texel's color is known.
        bust: from when on it is.
    """
    layout, texels = avatar.charts.parts[1]
    assert avatar.bust is not None
    throat, nape = (avatar.bust.topology.regions[name][layout.faces] for name in ("neck_front", "nape"))
    points = avatar.rest_surface().points[0, texels]
    nape = nape.clone()
    nape[~throat] = vote(points[~throat], nape[~throat], bust.border_voters)  # faces end in teeth
    clothed, height = avatar.clothing_height()[texels] > 0, avatar.base[texels, CHANNELS["position"].stop - 1]
    curtain = (nape | (throat & (weight < bust.known_weight))) & ~clothed & (height > bust.hair_height)
    to_nape = torch.from_numpy(cKDTree(points[nape].double().numpy()).query(points.double().numpy())[0]).float()
    return BustParts(throat=throat, nape=nape, clothed=clothed, curtain=curtain, to_nape=to_nape)


def vote(points: Float[Tensor, "n 3"], chosen: Bool[Tensor, " n"], voters: int) -> Bool[Tensor, " n"]:
    """Whether most of the places nearest to each, itself among them, are chosen: a region's border without its teeth.

    Args:
        points: places, meters.
        chosen: those of the region.
        voters: how many are asked.
    """
    places = points.double().numpy()
    nearest = cKDTree(places).query(places, k=[*range(1, min(voters, len(places)) + 1)])[1]
    return chosen[torch.from_numpy(nearest)].float().mean(1) > 0.5


def complete_colors(
    avatar: GaussianAvatar, color: Float[Tensor, "M 3"], weight: Float[Tensor, " M"], bust: BustConfig
) -> Float[Tensor, "M 3"]:
    """Colors of the bust's texels, those that no frame shows from the nearest that are known.

    Behind the neck what is nearest in height counts: a collar ends there where it ends at the sides. Above it, a neck's hidden side is
    skin, whatever is near; and whose shoulders are clothed, has a clothed back.

    Args:
        avatar: whose head has its colors already, and whose bust has its heights.
        color: of every texel of the bust, in [0, 1].
        weight: how well each is known.
        bust: from when on it is.
    """
    size, parts, rest = len(avatar.layout), find_parts(avatar, weight, bust), avatar.rest_surface()
    points, texels = rest.points[0], avatar.charts.parts[1][1]
    around = points * points.new_tensor([bust.around_neck, 1.0, bust.around_neck])
    head = ACTIVATIONS["color"].forward(avatar.base[:size, CHANNELS["color"]])
    face, hair = (_shown(avatar, part, bust) for part in (avatar.head.topology.regions["face"][avatar.layout.faces], avatar.scalp[:size]))
    like_face, like_hair = ((color - head[part].median(0).values).abs().mean(1) < bust.alike for part in (face, hair))
    skin = like_face & (redness(color) > redness(head[face]).median() - bust.less_red)
    colors, nobody, known = torch.cat([head, color]), torch.zeros_like(face), weight >= bust.known_weight

    def fill(part: Bool[Tensor, " M"], told: Bool[Tensor, " M"], beside: Bool[Tensor, " H"], places: Float[Tensor, "N D"]) -> None:
        trust = torch.cat([bust.known_weight * beside, weight * told])
        asked = torch.cat([nobody, part])
        rows = asked | (trust > 0)
        colors[asked] = fill_from_nearest(colors[rows], trust[rows], places[rows], bust.known_weight, bust.neighbors)[asked[rows]]

    neck, flat = parts.throat | parts.nape, ~parts.curtain
    shoulders = ~neck & known & (rest.frames[0, texels, 1, 2] > bust.upward_cosine)
    cloth = ~neck & ~(skin & (skin[shoulders].float().mean() < bust.bare_share))  # of bare shoulders, everything
    fill(~neck & (cloth | ~known), cloth, nobody, spread_apart(rest, bust))
    level = collar_level(points[texels], rest.frames[0, texels, :, 2], skin, known & neck & flat, bust)
    bare = ~parts.clothed if level is None else points[texels, 1] > level
    fill(parts.throat & flat & ~bare, parts.throat & flat, face, points)
    throat = parts.throat & flat & bare  # what is unlike skin, and hardly seen or above a collar, is a shirt before or behind it
    fill(throat & (like_face | ~known), throat & (like_face if level is not None else like_face | known), face, points)
    fill(parts.curtain, neck & like_hair & ~like_face, hair, points)
    below = ~neck & ~known & (parts.to_nape < bust.collar_width)
    nearest, share = colors[size:][below], (parts.to_nape / bust.collar_width)[below, None]
    sides = rest.frames[0, texels, 2, 2] < bust.side_cosine
    fill(below | (parts.nape & ~bare), sides & (cloth | (neck & ~skin)), nobody, around)
    colors[size:][below] = colors[size:][below].lerp(nearest, share)
    fill(parts.nape & bare & flat, flat & (like_face | like_hair), face, around)
    hem = torch.nonzero(parts.nape & (weight < bust.known_weight))[:, 0]
    share, nearest = hairline(points[texels][hem], points[:size][avatar.scalp[:size]], bust)
    colors[size + hem] = colors[size + hem].lerp(head[avatar.scalp[:size]][nearest], share[:, None])
    return colors[size:]


def collar_level(
    points: Float[Tensor, "M 3"], normals: Float[Tensor, "M 3"], skin: Bool[Tensor, " M"], known: Bool[Tensor, " M"], bust: BustConfig
) -> float | None:
    """Height at which a collar ends at both sides of a neck, meters: the lower one; none where frames do not show the sides.

    Args:
        points: texels of the bust, y upwards, meters.
        normals: of these, x sideways.
        skin: those that look like it.
        known: texels of the neck whose colors are known.
        bust: how many levels are looked at.

    Returns:
        Minus infinity if there is skin down to the lowest place that is known.
    """
    ends = []
    for sign in (-1, 1):
        side = known & (sign * normals[:, 0] > bust.collar_cosine)
        if side.sum() < bust.collar_texels:
            return None
        at = points[side, 1]
        levels = torch.linspace(float(at.min()), float(at.max()), bust.neck_levels)
        covered = mean_at_levels((~skin[side]).float(), torch.ones_like(at), at, levels) > 0.5
        ends.append(float(levels[covered.cumprod(0).sum() - 1]) if covered[0] else -math.inf)
    return min(ends)


def bare_neck_colors(
    avatar: GaussianAvatar, color: Float[Tensor, "M 3"], weight: Float[Tensor, " M"], bust: BustConfig
) -> Float[Tensor, "M 3"]:
    """Colors of the neck of an avatar that shows the head alone: skin all over, with the tips of the hair at the nape.

    What looks unlike the face, or is less red than skin, is a collar before the neck, or hair.

    Args:
        avatar: whose head has its colors already.
        color: of every texel of the neck, in [0, 1].
        weight: how well each is known.
        bust: from when on it is.
    """
    size, texels, rest = len(avatar.layout), avatar.charts.parts[1][1], avatar.rest_surface()
    points = rest.points[0] + (rest.frames[0] @ avatar.base[:, CHANNELS["position"], None])[..., 0]
    head = ACTIVATIONS["color"].forward(avatar.base[:size, CHANNELS["color"]])
    face = _shown(avatar, avatar.head.topology.regions["face"][avatar.layout.faces], bust)
    alike = (color - head[face].median(0).values).abs().mean(1) < bust.alike
    red = redness(color) > redness(head[face]).median() - bust.less_red
    joined, places = torch.cat([color, head[face]]), torch.cat([points[texels], points[:size][face]])
    trust = torch.cat([weight * (alike & red), torch.full((int(face.sum()),), bust.known_weight)])
    filled = fill_from_nearest(joined, trust, places, bust.known_weight, bust.neighbors)[: len(color)]
    scalp = avatar.scalp[:size]
    behind = torch.nonzero(rest.frames[0, texels, 2, 2] < 0)[:, 0]
    share, nearest = hairline(points[texels][behind], points[:size][scalp], bust)
    filled[behind] = filled[behind].lerp(head[scalp][nearest], share[:, None])
    return filled


def redness(color: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Share of red in colors, which for skin is the same in light and shadow."""
    return color[:, 0] / color.sum(1).clamp_min(1e-6)


def hairline(skin: Float[Tensor, "n 3"], hair: Float[Tensor, "m 3"], bust: BustConfig) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """How much of each place on the nape is hair, which ends there in tips and not along a line, and which hair is nearest.

    Args:
        skin: places, meters.
        hair: where hair grows, meters.
        bust: length of the tips.
    """
    distance, nearest = cKDTree(hair.double().numpy()).query(skin.double().numpy())
    strand = ((skin[:, 0] / bust.strand_width).floor().long() * 7919) % 101  # each its own length
    length = bust.hair_tips * (0.3 + 0.7 * strand / 100)
    share = (1 - torch.from_numpy(distance).float() / length).clamp(0, 1)
    return share * share * (3 - 2 * share), torch.from_numpy(nearest)


def _shown(avatar: GaussianAvatar, part: Bool[Tensor, " H"], bust: BustConfig) -> Bool[Tensor, " H"]:
    """Texels of a part of the head that frames show well, or all where they show none."""
    shown = part & (avatar.unseen[: len(part)] < bust.seen_face)
    return shown if shown.any() else part


def spread_apart(rest: SurfaceFrames, bust: BustConfig) -> Float[Tensor, "M 6"]:
    """Places in a space in which what faces away is far: a back is nearer to shoulders than to a chest. Meters."""
    return torch.cat([rest.points[0], bust.facing_distance * rest.frames[0, :, :, 2]], 1)
