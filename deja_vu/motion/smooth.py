"""The one-euro filter: steady when the face is still, without delay when it moves (Casiez, Roussel and Vogel, CHI 2012)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.heads.skinning import invert_motion
from deja_vu.motion.config import OneEuroConfig


class OneEuro:
    """Smooths a stream of head parameters, frame by frame; each value has its own cutoff."""

    def __init__(self, fps: float, config: OneEuroConfig | None = None) -> None:
        """Start without a past.

        Args:
            fps: rate of the stream, 1/s.
            config: cutoffs.
        """
        self._fps, self._config = fps, config or OneEuroConfig()
        self._value: Tensor | None = None
        self._speed = torch.zeros(())

    def __call__(self, params: HeadParams, seconds: float | None = None) -> HeadParams:
        """The next frame [1], smoothed.

        Args:
            params: as it came.
            seconds: since the frame before; None for one frame's time.
        """
        step = max(seconds if seconds is not None else 1 / self._fps, 1e-3)
        expression, joints, poses = params.expression[0], params.joints[0], (params.world_from_head, params.world_from_torso)
        rigid = [part for pose in poses for part in (pose[0, :3, :3].flatten(), pose[0, :3, 3])]
        value = torch.cat([expression, joints.flatten(), *rigid])
        sizes = [len(expression), joints.numel(), 9, 3, 9, 3]
        if self._value is None:
            self._value, self._speed = value, torch.zeros_like(value)
            return params
        c = self._config
        rates = (c.expression_haste, c.expression_haste, c.turn_haste, c.shift_haste, c.turn_haste, c.shift_haste)
        haste = torch.cat([torch.full((size,), rate) for size, rate in zip(sizes, rates, strict=True)])
        speed = (value - self._value) / step
        self._speed = self._speed + _filter_share(torch.tensor(c.speed_cutoff), step) * (speed - self._speed)
        self._value = self._value + _filter_share(c.still + haste * self._speed.abs(), step) * (value - self._value)
        expression, joint_values, *moved = self._value.split(sizes)
        head, torso = (_as_pose(turn, shift) for turn, shift in (moved[:2], moved[2:]))
        return HeadParams(
            params.shape, expression[None].clone(), joint_values.view(1, -1, 3).clone(), head, torso=invert_motion(head) @ torso
        )


def _as_pose(turn: Tensor, shift: Tensor) -> Tensor:
    """Rigid pose [1 4 4] nearest to a smoothed one's entries."""
    pose = torch.eye(4)[None].clone()
    u, _, vt = torch.linalg.svd(turn.view(3, 3))
    pose[0, :3, :3], pose[0, :3, 3] = u @ vt, shift
    return pose


def _filter_share(cutoff: Tensor, step: float) -> Tensor:
    """Share of the new value that a first-order low-pass filter takes."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * step))
