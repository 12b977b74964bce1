"""What the tracker believes of a torso before it sees a pixel: it hangs below the head, turns little, and moves slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.heads.base import HeadModel
from deja_vu.heads.skinning import axis_angle_to_matrix, invert_motion, matrix_to_axis_angle
from deja_vu.tracking.config import TorsoConfig
from deja_vu.tracking.normal_equations import NormalEquations
from deja_vu.tracking.state import POSE, TrackState, rotation_jacobian


@dataclass(frozen=True)
class TorsoState:
    """A tracked video and the mean pose of its torso, about which the torso sways."""

    track: TrackState
    mean: Float[Tensor, "4 4"]
    """World space."""


@dataclass(frozen=True)
class TorsoPriors:
    """Gaussian priors of the torso's pose in every frame, of its mean, its change in time, and its own shape.

    A frame's unknowns are a turn (world axes, about the neck's base) and a shift of the neck's base; those of the video the same for
    the mean pose, then, where they are solved for, the torso's own components.
    """

    config: TorsoConfig
    base: Float[Tensor, " 3"]
    """The neck's base at rest, meters."""
    joint: Float[Tensor, " 3"]
    """The joint between neck and skull at rest, meters."""
    start: Float[Tensor, "4 4"]
    """Expected mean pose of the torso: that of the head."""
    times: Float[Tensor, " T"]
    """Seconds."""

    @staticmethod
    def of(head: HeadModel, solved: TrackState, base: Float[Tensor, " 3"], times: Float[Tensor, " T"], config: TorsoConfig) -> TorsoPriors:
        """Priors about the mean of a solved head's poses.

        Args:
            head: model.
            solved: its state.
            base: the neck's base at rest, meters.
            times: of the frames, seconds.
            config: deviations.
        """
        pose, neck = solved.world_from_head, head.spec.joint_names.index("neck")
        joint = head.joint_pivots[neck] + solved.shape @ head.joint_shape_basis[:, neck]
        u, _, v = torch.linalg.svd(pose[:, :3, :3].mean(0))
        start = torch.eye(4)
        start[:3, :3] = u @ v
        start[:3, 3] = _carry(pose, joint).mean(0) - start[:3, :3] @ joint
        return TorsoPriors(config, base, joint, start, times)

    def begin(self, solved: TrackState) -> TorsoState:
        """A torso that stands still in the mean pose."""
        return TorsoState(replace(solved, torso=invert_motion(solved.world_from_head) @ self.start), self.start)

    def select(self, frames: Int[Tensor, " n"]) -> TorsoPriors:
        """The priors of some frames."""
        return replace(self, times=self.times[frames])

    @property
    def coupling(self) -> Float[Tensor, "T1 6"]:
        """Precision of each unknown's change from a frame to the next; it falls with the time between them."""
        deviation = torch.tensor([math.radians(self.config.change_turn)] * 3 + [self.config.change] * 3)
        return deviation**-2 / ((self.times[1:] - self.times[:-1]).clamp_min(1e-3) * 30)[:, None]

    def change(self, state: TorsoState) -> Float[Tensor, "T1 6"]:
        """Change of the torso's pose between neighboring frames."""
        pose = state.track.params().world_from_torso
        turn = matrix_to_axis_angle(pose[1:, :3, :3] @ pose[:-1, :3, :3].mT)
        place = _carry(pose, self.base)
        return torch.cat([turn, place[1:] - place[:-1]], 1)

    def add(self, system: NormalEquations, state: TorsoState) -> None:
        """Add the priors of every frame, of the mean pose, and of the shape where the system solves for it."""
        config, params = self.config, state.track.params()
        head, torso = params.world_from_head, params.world_from_torso
        self._add_neck(system, head, torso)
        relative, by_turn = _compare(torso, head)
        none = by_turn.new_zeros(len(torso), 3, system.num_shared)
        nothing = by_turn.new_zeros(len(torso), 3, 3)
        _add(system, torch.cat([-by_turn, nothing], -1), none, relative, torch.tensor(config.relative_turn).deg2rad())
        sway, by_turn = _compare(state.mean.expand_as(torso), torso)
        _add(system, torch.cat([by_turn, nothing], -1), _pad(-by_turn, 0, system), sway, torch.tensor(config.sway_turn).deg2rad())
        shift = _carry(torso, self.base) - _carry(state.mean, self.base)
        eye = torch.eye(3).expand_as(nothing)
        _add(system, torch.cat([nothing, eye], -1), _pad(-eye, 3, system), shift, torch.full((3,), config.sway))
        self._add_video(system, state)

    def step(self, state: TorsoState, step: Float[Tensor, "T 6"], shared: Float[Tensor, " C"]) -> TorsoState:
        """Apply a step of the frames' unknowns and of the video's."""
        params = state.track.params()
        moved = self._move(params.world_from_torso, step)
        track = replace(state.track, torso=invert_motion(params.world_from_head) @ moved)
        if len(shared) > POSE:
            track = replace(track, torso_shape=track.torso_shape + shared[POSE:])
        return TorsoState(track, self._move(state.mean[None], shared[None, :POSE])[0])

    def _add_neck(self, system: NormalEquations, head: Float[Tensor, "T 4 4"], torso: Float[Tensor, "T 4 4"]) -> None:
        joint = _carry(torso, self.joint)
        frame_jacobian = torch.cat([rotation_jacobian(joint - _carry(torso, self.base)), torch.eye(3).expand(len(torso), 3, 3)], -1)
        none = frame_jacobian.new_zeros(len(torso), 3, system.num_shared)
        _add(system, frame_jacobian, none, joint - _carry(head, self.joint), torch.full((3,), self.config.neck))

    def _add_video(self, system: NormalEquations, state: TorsoState) -> None:
        config, start = self.config, self.start
        turn = matrix_to_axis_angle(state.mean[:3, :3] @ start[:3, :3].mT)
        offset = torch.cat([turn, _carry(state.mean, self.base) - _carry(start, self.base)])
        deviation = torch.tensor([math.radians(config.video_turn)] * 3 + [config.video] * 3)
        if system.num_shared > POSE:
            offset = torch.cat([offset, state.track.torso_shape])
            deviation = torch.cat([deviation, torch.full_like(state.track.torso_shape, config.shape)])
        system.add_video_prior(deviation**-2, offset)

    def _move(self, pose: Float[Tensor, "B 4 4"], step: Float[Tensor, "B 6"]) -> Float[Tensor, "B 4 4"]:
        moved = pose.clone()
        moved[:, :3, :3] = axis_angle_to_matrix(step[:, :3]) @ pose[:, :3, :3]
        moved[:, :3, 3] = _carry(pose, self.base) + step[:, 3:] - moved[:, :3, :3] @ self.base
        return moved


def _carry(pose: Float[Tensor, "*b 4 4"], point: Float[Tensor, " 3"]) -> Float[Tensor, "*b 3"]:
    return pose[..., :3, :3] @ point + pose[..., :3, 3]


def _compare(first: Float[Tensor, "T 4 4"], second: Float[Tensor, "T 4 4"]) -> tuple[Float[Tensor, "T 3"], Float[Tensor, "T 3 3"]]:
    """Turn of the second pose against the first in the first one's axes, and its derivative by a turn of the second about world axes.

    By a turn of the first, the derivative is the negative of that.
    """
    back = first[:, :3, :3].mT
    turn = matrix_to_axis_angle(back @ second[:, :3, :3])
    angle = turn.norm(dim=-1)[:, None, None].clamp_min(1e-3)
    skew = rotation_jacobian(turn).mT
    # Inverse of the left Jacobian of the exponential map.
    second_order = angle**-2 - (1 + angle.cos()) / (2 * angle * angle.sin())
    return turn, (torch.eye(3) - skew / 2 + second_order * (skew @ skew)) @ back


def _pad(by_mean: Float[Tensor, "T 3 3"], start: int, system: NormalEquations) -> Float[Tensor, "T 3 C"]:
    """Derivatives by three of the mean pose's unknowns as derivatives by all that the video shares."""
    padded = by_mean.new_zeros(len(by_mean), 3, system.num_shared)
    padded[..., start : start + 3] = by_mean
    return padded


def _add(system: NormalEquations, frame_jacobian: Tensor, video_jacobian: Tensor, residual: Tensor, deviation: Float[Tensor, " 3"]) -> None:
    system.add(slice(None), frame_jacobian, video_jacobian, residual, (deviation**-2).expand_as(residual))
