"""A teacher's frames: codes and poses drawn around those of a video, rendered by an avatar that is there already."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from deja_vu.avatars.base import Avatar
from deja_vu.core.batch import Batch
from deja_vu.core.head import HeadParams
from deja_vu.heads.regions import region_window
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.training.nelf_config import SamplingLaw

OPAQUE = 0.02
"""Least coverage by which a color is divided."""
WATCHED_REGIONS = ("lips", "eye_left", "eye_right")
"""Regions whose pixels weigh more in a loss."""


def sample_params(video: HeadParams, base: HeadParams, law: SamplingLaw, generator: torch.Generator) -> HeadParams:
    """Parameters around those of some frames.

    Args:
        video: all training frames.
        base: the B frames whose pose is varied; codes are mixed between them and others of the video.
        law: how far.
        generator: of the draws.
    """
    count = len(base)
    others = video[torch.randint(len(video), (count,), generator=generator)].to(base.expression.device)
    share = (torch.rand(count, generator=generator) * (1 + 2 * law.mix) - law.mix).to(base.expression.device)
    turn = torch.randn(count, 3, generator=generator) * torch.tensor(law.rotation)
    move = torch.randn(count, 3, generator=generator) * law.translation
    pose = base.world_from_head.clone()
    pose[:, :3, :3] = pose[:, :3, :3] @ axis_angle_to_matrix(turn.to(pose))
    pose[:, :3, 3] += move.to(pose)
    return replace(
        base,
        expression=torch.lerp(base.expression, others.expression, share[:, None]),
        joints=torch.lerp(base.joints, others.joints, share[:, None, None]),
        world_from_head=pose,
    )


@torch.no_grad()
def render_teacher(teacher: Avatar, params: HeadParams, like: Batch) -> Batch:
    """The teacher's pictures as frames: the head alone, all of it known.

    Args:
        teacher: draws on its own device.
        params: what to draw.
        like: frames whose camera, size and device are used.
    """
    at = next(teacher.parameters()).device
    out = teacher.render(params.to(at), like.camera.to(at), torch.zeros(3, device=at))
    device = like.image.device
    rgb, alpha = out.rgb.to(device), out.alpha.to(device).clamp(0, 1)
    ones = torch.ones_like(alpha)
    straight = (rgb / alpha.clamp_min(OPAQUE)).clamp(0, 1)
    eyes_mouth = mark_eyes_mouth(teacher, params.to(at), like).to(device)
    return Batch(
        positions=like.positions,
        image=straight,
        head=alpha,
        foreground=alpha,
        valid=ones,
        loss_mask=ones,
        eyes_mouth=eyes_mouth,
        params=params,
        camera=like.camera,
    )


def mark_eyes_mouth(teacher: Avatar, params: HeadParams, like: Batch) -> Tensor:
    """1 in the boxes around eyes and mouth."""
    head = teacher.head
    mask = torch.zeros(*like.image.shape[:3], 1)
    vertices = head(params)
    for b in range(len(vertices)):
        for name in WATCHED_REGIONS:
            if name in head.topology.regions:
                rows, columns = region_window(vertices[b], head.topology.faces, head.topology.regions[name], like.camera.view(b), 0.3)
                mask[b, rows, columns] = 1
    return mask
