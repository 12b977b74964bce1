"""Frames drawn by a teacher: codes and poses around those of a video, rendered by an existing avatar."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.base import Avatar
from deja_vu.core.batch import Batch
from deja_vu.core.head import HeadParams
from deja_vu.core.transfer import move
from deja_vu.heads.base import HeadModel
from deja_vu.heads.regions import box_around
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.training.nelf_config import SamplingLaw

OPAQUE = 0.02
"""Least coverage by which a color is divided."""
WATCHED_REGIONS = ("lips", "eye_left", "eye_right")
"""Regions whose pixels weigh more in a loss."""


def sample_params(video: HeadParams, base: HeadParams, law: SamplingLaw, generator: torch.Generator) -> HeadParams:
    """Parameters around those of some frames, on the host, where they are drawn.

    Args:
        video: all training frames.
        base: the B frames whose pose is varied; codes are mixed between them and others of the video.
        law: how far.
        generator: of the draws.
    """
    count = len(base)
    others = video[torch.randint(len(video), (count,), generator=generator)]
    share = torch.rand(count, generator=generator) * (1 + 2 * law.mix) - law.mix
    turn = torch.randn(count, 3, generator=generator) * torch.tensor(law.rotation)
    shift = torch.randn(count, 3, generator=generator) * law.translation
    pose = base.world_from_head.clone()
    pose[:, :3, :3] = pose[:, :3, :3] @ axis_angle_to_matrix(turn)
    pose[:, :3, 3] += shift
    return replace(
        base,
        expression=torch.lerp(base.expression, others.expression, share[:, None]),
        joints=torch.lerp(base.joints, others.joints, share[:, None, None]),
        world_from_head=pose,
    )


@torch.no_grad()
def render_teacher(teacher: Avatar, params: HeadParams, like: Batch) -> Batch:
    """The teacher's pictures as frames: the head alone, all of it known, whatever else the teacher draws.

    Args:
        teacher: draws on the frames' device.
        params: what to draw, on the host.
        like: frames whose camera, size and device are used.
    """
    device = like.image.device
    moved = params.to(device)
    out = teacher.render_head(moved, like.camera, torch.zeros(3, device=device))
    rgb, alpha = out.rgb, out.alpha.clamp(0, 1)
    ones = torch.ones_like(alpha)
    straight = (rgb / alpha.clamp_min(OPAQUE)).clamp(0, 1)
    return Batch(
        positions=like.positions,
        image=straight,
        head=alpha,
        foreground=alpha,
        valid=ones,
        loss_mask=ones,
        eyes_mouth=mark_eyes_mouth(teacher.host_head, params, like),
        params=moved,
        camera=like.camera,
    )


def mark_eyes_mouth(head: HeadModel, params: HeadParams, like: Batch) -> Float[Tensor, "B H W 1"]:
    """1 in the boxes around eyes and mouth; nobody waits for the device.

    Args:
        head: on the host.
        params: of B frames, on the host.
        like: frames whose camera, size and device are used.
    """
    height, width = like.image.shape[1:3]
    device, vertices = like.image.device, head(params)
    rows, columns = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    mask = torch.zeros(len(vertices), height, width, dtype=torch.bool, device=device)
    for name in WATCHED_REGIONS:
        if name in head.topology.regions:
            corners = head.topology.faces[head.topology.regions[name]].unique()
            points = move(vertices[:, corners], device)
            for b in range(len(vertices)):
                (left, top), (right, bottom) = (corner.unbind() for corner in box_around(points[b], like.camera.view(b), 0.3))
                mask[b] |= (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return mask[..., None].float()
