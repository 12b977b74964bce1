"""What the bust of an avatar begins with: the height of clothes and their colors, lifted from frames, and how far down they were filmed."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor

from deja_vu.avatars import GaussianAvatar
from deja_vu.core.batch import Batch
from deja_vu.core.gaussians import ACTIVATIONS, CHANNELS, rgb_to_sh
from deja_vu.core.sampling import evenly_spaced
from deja_vu.io.frames import FrameSource
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.training.gaussian_config import BustConfig, LiftConfig
from deja_vu.uv.attach import SurfaceFrames
from deja_vu.uv.lift import ColorLift, fill_from_nearest
from deja_vu.uv.mirror import find_mirror_texels


def lift_bust(avatar: GaussianAvatar, source: FrameSource, config: LiftConfig, bust: BustConfig) -> None:
    """Colors of neck, torso and clothes from where texels are seen, how little each was seen, and the soft lower edge, in place.

    Args:
        avatar: with a bust, whose surface has its height.
        source: training frames in the window that holds neck and torso.
        config: how many are looked at, and how closely.
        bust: the edge.
    """
    layout, texels = avatar.charts.parts[1]
    faces = avatar.charts.binding.faces
    spread = evenly_spaced(config.frames, len(source.sequence))
    lift, filmed = ColorLift(len(layout), config.min_trust), torch.zeros(len(layout))
    for position in spread:
        batch = source.batch(position[None])
        depth = rasterize_mesh(avatar.vertices(avatar.correct_params(batch.params)), faces, batch.camera).depth
        surface = avatar.surface(batch.params).part(texels)
        raised = surface.points + (surface.frames @ avatar.base[texels, CHANNELS["position"], None])[..., 0]
        lift.add(replace(surface, points=raised), batch.camera, depth, batch.image, batch.foreground)
        filmed += lies_in_picture(raised, batch)[0]
    count, rest = len(spread), avatar.rest_surface().part(texels)
    mirror = find_mirror_texels(rest.points[0])
    weight = lift.weight / count + bust.mirror_share * lift.weight[mirror] / count
    total = lift.total / count + bust.mirror_share * lift.total[mirror] / count
    color, skin = total / weight.clamp_min(1e-6)[:, None], avatar.clothing_height()[texels] <= 0
    for part in (skin, ~skin):  # a nape takes the color of skin, not of the collar below it
        color[part] = fill_from_nearest(color[part], weight[part], rest.points[0, part], bust.known_weight, bust.neighbors)
    avatar.base[texels, CHANNELS["color"]] = rgb_to_sh(color.clamp(0, 1))
    avatar.unseen[texels] = torch.exp(-lift.weight / count / config.unseen_below)
    shown = fade_edge(rest, filmed / count > bust.filmed_share, bust.edge)
    full = ACTIVATIONS["opacity_logit"].forward(avatar.base[texels, CHANNELS["opacity_logit"]])
    avatar.base[texels, CHANNELS["opacity_logit"]] = torch.logit((full * shown[:, None]).clamp(bust.least_opacity, 1 - 1e-4))


def lies_in_picture(points: Float[Tensor, "B M 3"], batch: Batch) -> Bool[Tensor, "B M"]:
    """Whether points project to where something was filmed; what lies before them does not matter."""
    pixels, _ = batch.camera.project(points)
    grid = pixels / torch.tensor([batch.camera.width / 2, batch.camera.height / 2]) - 1
    valid = torch.nn.functional.grid_sample(batch.valid.movedim(-1, 1), grid[:, None], mode="nearest", align_corners=False)
    return valid[:, 0, 0] > 0.5


def fade_edge(rest: SurfaceFrames, filmed: Bool[Tensor, " M"], width: float) -> Float[Tensor, " M"]:
    """How much of each texel is shown: all of what was filmed, and of what lies behind it; beyond, it fades away.

    Args:
        rest: the person's neutral bust [1 M], upright and facing +z.
        filmed: texels that lay in the pictures.
        width: distance from the nearest of these, seen from the front, at which nothing is left, meters.
    """
    front = rest.points[0, :, :2].double()
    if not filmed.any():
        return torch.zeros(len(front))
    distance = torch.from_numpy(cKDTree(front[filmed].numpy()).query(front.numpy())[0]).float()
    share = (distance / width).clamp(0, 1)
    return 1 - share * share * (3 - 2 * share)
