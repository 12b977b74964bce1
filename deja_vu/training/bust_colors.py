"""Colors of a bust where no frame shows it: cloth from cloth, a neck from neck and face, a nape from what is seen beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from deja_vu.avatars import GaussianAvatar
from deja_vu.core.gaussians import ACTIVATIONS, CHANNELS
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
    clothed, height = avatar.clothing_height()[texels] > 0, avatar.base[texels, CHANNELS["position"].stop - 1]
    curtain = (nape | (throat & (weight < bust.known_weight))) & ~clothed & (height > bust.hair_height)
    points = avatar.rest_surface().points[0, texels].double().numpy()
    to_nape = torch.from_numpy(cKDTree(points[nape.numpy()]).query(points)[0]).float()
    return BustParts(throat=throat, nape=nape, clothed=clothed, curtain=curtain, to_nape=to_nape)


def complete_colors(
    avatar: GaussianAvatar, color: Float[Tensor, "M 3"], weight: Float[Tensor, " M"], bust: BustConfig
) -> Float[Tensor, "M 3"]:
    """Colors of the bust's texels, those that no frame shows from the nearest that are known.

    Behind the neck what is nearest in height counts: a collar ends there where it ends at the sides.

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
    colors, nobody = torch.cat([head, color]), torch.zeros_like(face)

    def fill(part: Bool[Tensor, " M"], known: Bool[Tensor, " M"], beside: Bool[Tensor, " H"], places: Float[Tensor, "N D"]) -> None:
        trust = torch.cat([bust.known_weight * beside, weight * known])
        asked = torch.cat([nobody, part])
        rows = asked | (trust > 0)
        colors[asked] = fill_from_nearest(colors[rows], trust[rows], places[rows], bust.known_weight, bust.neighbors)[asked[rows]]

    neck, flat = parts.throat | parts.nape, ~parts.curtain
    fill(~neck, ~neck, nobody, spread_apart(rest, bust))
    bare, slant = parts.throat & flat & ~parts.clothed, (weight < bust.known_weight) & ~like_face
    fill(parts.throat & flat & parts.clothed, parts.throat & flat, face, points)
    fill(bare, bare & ~slant, face, points)  # what is unlike skin, and hardly seen, is a shirt before or behind it
    fill(parts.curtain, neck & like_hair & ~like_face, hair, points)
    below = ~neck & (weight < bust.known_weight) & (parts.to_nape < bust.collar_width)
    cloth, share = colors[size:][below], (parts.to_nape / bust.collar_width)[below, None]
    sides = rest.frames[0, texels, 2, 2] < bust.side_cosine
    fill(below | (parts.nape & parts.clothed), sides, nobody, around)
    colors[size:][below] = colors[size:][below].lerp(cloth, share)
    fill(parts.nape & ~parts.clothed & flat, flat & (like_face | like_hair), face, around)
    hem = torch.nonzero(parts.nape & (weight < bust.known_weight))[:, 0]
    share, nearest = hairline(points[texels][hem], points[:size][avatar.scalp[:size]], bust)
    colors[size + hem] = colors[size + hem].lerp(head[avatar.scalp[:size]][nearest], share[:, None])
    return colors[size:]


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
