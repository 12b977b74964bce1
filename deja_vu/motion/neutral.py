"""The neutral face of a person, relative to which every motion is measured."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.conventions import FACING_CAMERA
from deja_vu.core.errors import InputError
from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.motion.openings import LIDS, Openings

LIPS_CLOSED = 0.06
"""Opening of the lips over the person's least, in mouth widths, up to which they count as closed: the least is of pressed lips."""
LIPS_CLOSED_SHARE = 0.15
"""Share of the frames that count as closed in any case: some people talk all the time."""
NEUTRAL_SHARE = 0.3
"""Share of the frames with closed lips and open eyes, those nearest to the usual one of them, whose mean is the neutral face."""
MIN_FRAMES = 3
"""Fewest frames from which a neutral face is estimated."""


def estimate_neutral(params: HeadParams, head: HeadModel) -> HeadParams:
    """Estimate a person's neutral face from many frames: lips closed as far as they ever are, eyes open, nothing else going on.

    Expressions are means over such frames. Joints (gaze, jaw) are medians and the poses of head and torso are means over all frames, as
    heads and eyes turn to both sides of where they rest. One or two frames, such as a photo, do not tell the neutral face: it is then taken
    to be without expression.

    Args:
        params: T frames of one person.
        head: their head model.

    Returns:
        One frame [1].
    """
    pose = mean_pose(params.world_from_head)
    torso = torch.linalg.inv(pose) @ mean_pose(params.world_from_torso)
    if len(params) < MIN_FRAMES:
        return HeadParams(params.shape[:1], torch.zeros_like(params.expression[:1]), torch.zeros_like(params.joints[:1]), pose, torso)
    frames = torch.arange(len(params))
    openings = Openings.of(head)
    if openings is not None:
        frames = _find_composed(openings, openings.measure(params))
    candidates = params.expression[frames]
    activity = (candidates - candidates.median(0).values).abs().sum(-1)
    count = min(len(frames), max(MIN_FRAMES, round(NEUTRAL_SHARE * len(frames))))
    usual = frames[activity.topk(count, largest=False).indices]
    expression, joints = params.expression[usual].mean(0, keepdim=True), params.joints.median(0, keepdim=True).values
    return HeadParams(params.shape[:1], expression, joints, pose, torso)


def mean_pose(poses: Float[Tensor, "T 4 4"]) -> Float[Tensor, "1 4 4"]:
    """Rigid pose in the middle of all poses."""
    pose = torch.eye(4)[None].clone()
    pose[0, :3, :3] = mean_rotation(poses)
    pose[0, :3, 3] = poses[:, :3, 3].mean(0)
    return pose


def take_neutral(params: HeadParams, times: Tensor, second: float) -> HeadParams:
    """The face and pose of the frame at a moment that the user declares to be neutral.

    Args:
        params: T frames of one person.
        times: of the frames, seconds from the first.
        second: the moment.

    Raises:
        InputError: the motion does not last that long.
    """
    if not 0 <= second <= float(times[-1]):
        raise InputError(f"The neutral face cannot be taken at {second:g} s: the motion runs from 0 to {float(times[-1]):.2f} s.")
    nearest = int((times - second).abs().argmin())
    return params[nearest : nearest + 1]


def mean_rotation(poses: Float[Tensor, "T 4 4"]) -> Float[Tensor, "3 3"]:
    """Rotation nearest to those of all poses."""
    u, _, vt = torch.linalg.svd(poses[:, :3, :3].mean(0))
    turn = torch.diag(torch.tensor([1.0, 1.0, float(torch.sign(torch.linalg.det(u @ vt)))]))
    return u @ turn @ vt


def face_camera(neutral: HeadParams) -> HeadParams:
    """The same face, turned to look straight into a camera at the world's origin."""
    pose = neutral.world_from_head.clone()
    pose[:, :3, :3] = FACING_CAMERA
    return replace(neutral, world_from_head=pose)


def _find_composed(openings: Openings, measured: Tensor) -> Tensor:
    """Frames with the lips closed as far as they ever are and, if there are such, the eyes open."""
    frames = torch.arange(len(measured))
    if "jawOpen" in openings.names:
        lips = measured[:, openings.names.index("jawOpen")]
        closed = torch.maximum(lips.quantile(0.02) + LIPS_CLOSED, lips.quantile(LIPS_CLOSED_SHARE))
        frames = frames[lips <= closed]
    lids = [openings.names.index(name) for name in LIDS if name in openings.names]
    if lids:
        eyes = measured[:, lids].mean(-1)
        awake = frames[eyes[frames] > 0.8 * eyes.median()]
        frames = awake if len(awake) >= MIN_FRAMES else frames
    return frames
