"""How a whole person's torso moves with the head: it stays, follows, or moves as the driving person's torso."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.motion.actor import angles_from_rotation, rotation_from_angles
from deja_vu.motion.config import TorsoMode

NECK_GIVE = 0.03
"""Way that the neck's pivot goes before it takes the torso along, meters."""
TURN_LIMITS = (70.0, 45.0, 40.0)
"""Largest yaw, pitch and roll of the head against the torso, degrees."""
FOLLOW_FROM = 25.0
"""Yaw of the head from which on a following torso turns, degrees."""
FOLLOW_TURN = 0.25
"""Share of the yaw beyond it that such a torso takes."""
FOLLOW_SHIFT = 1 / 3
"""Share of the head's way that such a torso takes."""
FOLLOW_LAG = 0.3
"""Time in which such a torso makes up for all but 1/e of what it is behind, seconds."""


def neck_pivot(head: HeadModel, shape: Float[Tensor, " S"]) -> Float[Tensor, "3"]:
    """Point on which a person's head turns, in head space at rest, meters; the origin for a head without a joint `neck`."""
    if "neck" not in head.spec.joint_names:
        return torch.zeros(3)
    joint = head.spec.joint_names.index("neck")
    return head.joint_pivots[joint] + shape @ head.joint_shape_basis[:, joint]


class Body:
    """Poses of a person's head and torso from those of a mover, both relative to rest.

    The neck's pivot goes the way that the mover's goes. A torso that stays is carried along only by what that is more than the neck gives.
    """

    def __init__(self, head: HeadModel, theirs: HeadParams, ours: HeadParams, mode: TorsoMode, fps: float, *, acted: bool) -> None:
        """Prepare for one pair of people.

        Args:
            head: model of both.
            theirs: the mover at rest [1].
            ours: the person at rest [1].
            mode: what the torso does.
            fps: rate of the motion, 1/s.
            acted: whether the mover is an `Actor`, whose head turns in place.
        """
        self._mode, self._fps = mode, fps
        self._ours, self._theirs = ours.world_from_head[0], theirs.world_from_head[0]
        self._our_torso, self._their_torso = ours.world_from_torso[0], theirs.world_from_torso[0]
        self._our_pivot = neck_pivot(head, ours.shape[0])
        self._their_pivot = torch.zeros(3) if acted else neck_pivot(head, theirs.shape[0])
        self._followed: Tensor | None = None

    def __call__(self, params: HeadParams, seconds: float | None = None) -> tuple[Float[Tensor, "B 4 4"], Float[Tensor, "B 4 4"]]:
        """World-space poses of the person's head and torso.

        Args:
            params: the mover's frames, in their order.
            seconds: between two of them; None for one frame's time.
        """
        turned = params.world_from_head[:, :3, :3] @ self._theirs[:3, :3].T @ self._ours[:3, :3]
        way = _carry(params.world_from_head, self._their_pivot) - _carry(self._theirs, self._their_pivot)
        torso = self._move_torso(params, turned, way, seconds)
        turned = limit_turn(turned, torso[:, :3, :3])
        place = _carry(self._ours, self._our_pivot) + way - turned @ self._our_pivot
        return _rigid(turned, place), torso

    def _move_torso(self, params: HeadParams, turned: Tensor, way: Tensor, seconds: float | None) -> Float[Tensor, "B 4 4"]:
        rest = self._our_torso
        if self._mode == "source":
            pose = params.world_from_torso
            theirs, ours = self._their_torso, rest[:3, :3]
            shift = _carry(pose, self._their_pivot) - _carry(theirs, self._their_pivot)
            turn = pose[:, :3, :3] @ theirs[:3, :3].T @ ours
        elif self._mode == "follow":
            yaw, shift = self._follow(turned, way, seconds)
            turn = rest[:3, :3] @ axis_angle_to_matrix(torch.stack([torch.zeros_like(yaw), yaw, torch.zeros_like(yaw)], -1))
            shift = shift + excess(way - shift)
        else:
            turn, shift = rest[:3, :3].expand(len(way), 3, 3), excess(way)
        return _rigid(turn, _carry(rest, self._our_pivot) + shift - turn @ self._our_pivot)

    def _follow(self, turned: Tensor, way: Tensor, seconds: float | None) -> tuple[Float[Tensor, " B"], Float[Tensor, "B 3"]]:
        """Yaw and shift of a torso that follows late; it begins where it would come to rest."""
        yaw = angles_from_rotation(self._our_torso[:3, :3].T @ turned)[:, 0]
        beyond = yaw - yaw.clamp(-math.radians(FOLLOW_FROM), math.radians(FOLLOW_FROM))
        wanted = torch.cat([FOLLOW_TURN * beyond[:, None], FOLLOW_SHIFT * way], 1)
        share = 1 - math.exp(-(1 / self._fps if seconds is None else seconds) / FOLLOW_LAG)
        state, states = self._followed, []
        for target in wanted:
            state = target if state is None else state + share * (target - state)
            states.append(state)
        self._followed = state
        followed = torch.stack(states)
        return followed[:, 0], followed[:, 1:]


def excess(way: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3"]:
    """What a way of the neck's pivot is more than the neck gives, meters."""
    length = way.norm(dim=-1, keepdim=True)
    return way * (1 - NECK_GIVE / length.clamp_min(1e-9)).clamp_min(0)


def limit_turn(head: Float[Tensor, "B 3 3"], torso: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B 3 3"]:
    """The head's rotation, held to what the neck lets it turn against the torso; as it is where it turns no further."""
    angles = angles_from_rotation(torso.transpose(-1, -2) @ head)
    limits = torch.deg2rad(torch.tensor(TURN_LIMITS))
    held = angles.clamp(-limits, limits)
    free = (held == angles).all(-1)[:, None, None]
    return torch.where(free, head, torso @ rotation_from_angles(held))


def place_torso(pose: Float[Tensor, "B 4 4"], torso: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B 4 4"]:
    """The torso's motion against the head's rest, as `HeadParams` has it, from both poses in the world."""
    return torch.linalg.solve(pose, torso)  # to the last bit what stands still, though the rotation is rounded


def _carry(pose: Float[Tensor, "*b 4 4"], point: Float[Tensor, "3"]) -> Float[Tensor, "*b 3"]:
    return pose[..., :3, :3] @ point + pose[..., :3, 3]


def _rigid(rotation: Float[Tensor, "B 3 3"], place: Float[Tensor, "B 3"]) -> Float[Tensor, "B 4 4"]:
    pose = torch.eye(4).repeat(len(place), 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = rotation, place
    return pose
