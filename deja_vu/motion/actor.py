"""A synthetic actor driven by ARKit weights: the mean head, moved by weights between 0 and 1 and by angles.

Every source that is not a tracked video is this actor, so the difference between two people's faces is treated in one place, the
retargeting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.core.conventions import FACING_CAMERA
from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.motion.arkit_map import ArkitMap
from deja_vu.motion.openings import LIDS, Openings

DISTANCE = 0.6
"""Distance of the actor from the camera, meters."""

PRESETS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.3, "cheekSquintRight": 0.3},
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "a": {"jawOpen": 0.55, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "e": {"jawOpen": 0.25, "mouthStretchLeft": 0.35, "mouthStretchRight": 0.35, "mouthSmileLeft": 0.2, "mouthSmileRight": 0.2},
    "i": {"jawOpen": 0.1, "mouthSmileLeft": 0.45, "mouthSmileRight": 0.45, "mouthStretchLeft": 0.25, "mouthStretchRight": 0.25},
    "o": {"jawOpen": 0.35, "mouthFunnel": 0.6, "mouthPucker": 0.25},
    "u": {"jawOpen": 0.08, "mouthPucker": 0.8, "mouthFunnel": 0.25},
    "surprise": {
        **{"browInnerUp": 0.9, "browOuterUpLeft": 0.7, "browOuterUpRight": 0.7},
        **{"eyeWideLeft": 0.7, "eyeWideRight": 0.7, "jawOpen": 0.35},
    },
    "frown": {"browDownLeft": 0.8, "browDownRight": 0.8, "mouthFrownLeft": 0.6, "mouthFrownRight": 0.6},
}
"""Faces by name, as ARKit weights."""


@dataclass(frozen=True)
class Angles:
    """Directions of T frames, radians: yaw to the actor's own left, pitch up, roll towards the actor's right shoulder."""

    head: Float[Tensor, "T 3"]
    left_eye: Float[Tensor, "T 3"]
    right_eye: Float[Tensor, "T 3"]

    @staticmethod
    def zeros(frames: int) -> Angles:
        """Looking straight ahead."""
        return Angles(*(torch.zeros(frames, 3) for _ in range(3)))


@dataclass(frozen=True)
class Actor:
    """Turns ARKit weights and angles into head parameters."""

    head: HeadModel

    @property
    def neutral(self) -> HeadParams:
        """No expression, straight into the camera [1]."""
        return self.act(torch.zeros(1, len(self.names)), Angles.zeros(1))

    @property
    def names(self) -> tuple[str, ...]:
        """What can be moved: the head's expressions, and behind them ARKit's where the head has components instead."""
        own = self.head.spec.expression_names
        return own if self.arkit is None else (*own, *ARKIT_NAMES)

    @cached_property
    def arkit(self) -> ArkitMap | None:
        """What ARKit's expressions come to on a head with components; None on heads that have them, or show too little of a face."""
        return ArkitMap.fit(self.head) if self.head.spec.in_deviations else None

    def weights(self, named: Mapping[str, float]) -> Float[Tensor, "1 W"]:
        """A row of weights in the order of `names`; names that the head does not have are left out."""
        return torch.tensor([[named.get(name, 0.0) for name in self.names]])

    def act(self, weights: Float[Tensor, "T W"], angles: Angles) -> HeadParams:
        """Head parameters of T frames.

        Args:
            weights: in the order of `names`; of ARKit's 1 is the whole movement, a shut eye for a blink, of components a deviation.
            angles: of head and eyes.
        """
        frames = len(weights)
        neutral = self.head.neutral((frames,))
        pose = neutral.world_from_head.clone()
        pose[:, :3, :3] = FACING_CAMERA @ rotation_from_angles(angles.head)
        pose[:, 2, 3] = DISTANCE
        joints = neutral.joints.clone()
        for name, turns in (("eye_left", angles.left_eye), ("eye_right", angles.right_eye)):
            if name in self.head.spec.joint_names:
                # Eyes do not roll, and so little that the order of their two turns does not matter.
                turn = torch.stack([-turns[:, 1], turns[:, 0], torch.zeros(frames)], -1)
                joints[:, self.head.spec.joint_names.index(name)] = turn
        own = self.head.spec.num_expression
        expression = weights[:, :own] * self._swing
        if self.arkit is not None:
            expression = expression + weights[:, own:] @ self.arkit.expression
            joints[:, self.head.spec.joint_names.index("jaw")] += weights[:, own:] @ self.arkit.jaw
        return HeadParams(neutral.shape, expression.clamp(*self._limits), joints, pose)

    @property
    def _limits(self) -> tuple[float, float]:
        """Of components; a movement may be overdone."""
        return self.head.spec.expression_limits if self.head.spec.in_deviations else (-math.inf, math.inf)

    @cached_property
    def _swing(self) -> Float[Tensor, " E"]:
        """Coefficient that a weight of one stands for: 1, but for the lids what shuts the mean head's eyes."""
        swing = torch.ones(len(self.head.spec.expression_names))
        openings = Openings.of(self.head)
        lids = tuple(name for name in LIDS if openings is not None and name in openings.names)
        if openings is not None and lids:
            shut = openings.reach(self.head.neutral((1,)), torch.zeros(1, len(lids)), lids)
            for name in lids:
                column = self.head.spec.expression_names.index(name)
                swing[column] = shut.expression[0, column]
        return swing


def angles_from_rotation(rotation: Float[Tensor, "T 3 3"]) -> Float[Tensor, "T 3"]:
    """Yaw, pitch and roll (see `Angles`) of a rotation in head space; yaw and roll to half a circle, pitch to a quarter."""
    yaw = torch.atan2(rotation[:, 0, 2], rotation[:, 2, 2])
    pitch = torch.asin(rotation[:, 1, 2].clamp(-1, 1))
    return torch.stack([yaw, pitch, torch.atan2(rotation[:, 1, 0], rotation[:, 1, 1])], -1)


def rotation_from_angles(angles: Float[Tensor, "T 3"]) -> Float[Tensor, "T 3 3"]:
    """Rotation in head space by yaw, pitch and roll (see `Angles`), the roll first."""
    yaw, pitch, roll = angles.unbind(-1)
    zero = torch.zeros_like(yaw)
    turns = (torch.stack([zero, yaw, zero], -1), torch.stack([-pitch, zero, zero], -1), torch.stack([zero, zero, roll], -1))
    about_y, about_x, about_z = (axis_angle_to_matrix(turn) for turn in turns)
    return about_y @ about_x @ about_z
