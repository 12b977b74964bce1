"""Motions to show an avatar with: a turntable with expressions, and another person's tracked motion carried over."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from deja_vu.core.errors import InputError
from deja_vu.core.head import HeadParams, HeadSpec
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.skinning import axis_angle_to_matrix

SHOWN: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.8},
    {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9},
    {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    {"mouthPucker": 0.9, "mouthFunnel": 0.3},
    {"browInnerUp": 0.9, "eyeWideLeft": 0.5, "eyeWideRight": 0.5, "jawOpen": 0.3},
)
"""Expressions that the turntable passes through."""


def turntable(spec: HeadSpec, rest: HeadParams, frames: int, degrees: float = 30.0) -> HeadParams:
    """A head that turns from side to side while it goes through some expressions.

    Args:
        spec: names of the expressions.
        rest: one frame [1] of the person looking at the camera.
        frames: length; one full turn to both sides.
        degrees: largest yaw.
    """
    phase = torch.linspace(0, 2 * math.pi, frames + 1)[:-1]
    yaw = torch.sin(phase) * math.radians(degrees)
    pitch = torch.sin(2 * phase) * math.radians(degrees / 5)
    turn = axis_angle_to_matrix(torch.stack([pitch, yaw, torch.zeros_like(yaw)], -1))
    pose = rest.world_from_head.expand(frames, 4, 4).clone()
    pose[:, :3, :3] = pose[:, :3, :3] @ turn
    expression = rest.expression.expand(frames, -1).clone()
    slot = torch.linspace(0, len(SHOWN), frames + 1)[:-1]
    for number, shown in enumerate(SHOWN):
        strength = torch.sin((slot - number).clamp(0, 1) * math.pi)
        for name, value in shown.items():
            if name in spec.expression_names:
                column = spec.expression_names.index(name)
                expression[:, column] = expression[:, column] * (1 - strength) + value * strength
    return HeadParams(rest.shape.expand(frames, -1), expression, rest.joints.expand(frames, -1, -1), pose)


def resting_frame(sequence: TrackedSequence) -> HeadParams:
    """The frame nearest to the neutral face looking straight on, turned to look exactly so, as a batch of one."""
    params = sequence.params
    strength = params.expression.abs().sum(-1)
    position = int((strength + 3 * _turned(params)).argmin())
    found = params[torch.tensor([position])]
    upright = found.world_from_head.clone()
    upright[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    return replace(found, world_from_head=upright)


def _turned(params: HeadParams) -> Tensor:
    facing = params.world_from_head[:, :3, 2] @ torch.tensor([0.0, 0.0, -1.0])
    return torch.acos(facing.clamp(-1, 1))


def transfer(motion: TrackedSequence, person: TrackedSequence) -> HeadParams:
    """Another video's motion, carried over to a person relative to both neutrals.

    Expressions and joints are moved by the difference of the two people's resting values (the lower quartile over their
    frames, as a face rests more than it acts); poses by the rotation and shift from the mover's mean pose, applied to the
    person's mean pose.

    Raises:
        InputError: the motion was tracked with another head model.
    """
    if motion.info.head_name != person.info.head_name:
        raise InputError(
            f"The motion was tracked with head '{motion.info.head_name}', the avatar uses '{person.info.head_name}'. Track it again."
        )
    theirs, ours = motion.params, person.params
    rest = ours.expression.quantile(0.25, 0) - theirs.expression.quantile(0.25, 0)
    expression = (theirs.expression + rest).clamp(-0.2, 1.2)
    joints = theirs.joints + ours.joints.median(0).values - theirs.joints.median(0).values
    pose = torch.eye(4).expand(len(theirs), 4, 4).clone()
    mean_theirs, mean_ours = _mean_rotation(theirs), _mean_rotation(ours)
    pose[:, :3, :3] = theirs.world_from_head[:, :3, :3] @ mean_theirs.T @ mean_ours
    shift = theirs.world_from_head[:, :3, 3] - theirs.world_from_head[:, :3, 3].mean(0)
    pose[:, :3, 3] = ours.world_from_head[:, :3, 3].mean(0) + shift
    return HeadParams(ours.shape[:1].expand(len(theirs), -1), expression, joints, pose)


def _mean_rotation(params: HeadParams) -> Tensor:
    u, _, vt = torch.linalg.svd(params.world_from_head[:, :3, :3].mean(0))
    return u @ vt
