"""What the tracker assumes before it sees a landmark or a pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.heads.base import HeadModel
from deja_vu.tracking.config import FitConfig
from deja_vu.tracking.normal_equations import NormalEquations
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.state import DEPTH, POSE, TrackState, Unknowns

MOVED_TOGETHER = (slice(0, 3), slice(3, DEPTH), slice(DEPTH, POSE))
"""Unknowns of a pose whose change is one: the turn, the place across the view, the depth."""


@dataclass(frozen=True)
class Priors:
    """Gaussian priors of every frame's unknowns, of their change in time, and of what the frames share."""

    unknowns: Unknowns
    mean: Float[Tensor, "T D"]
    precision: Float[Tensor, " D"]
    """Zero for the pose, which has no prior."""
    change_precision: Float[Tensor, " D"]
    """Of the change between two frames at 30 fps."""
    change_robust: float
    """Change of the pose at which its prior counts half, in deviations."""
    times: Float[Tensor, " T"]
    """Seconds."""
    shared_mean: Float[Tensor, " C"]
    """Of the identity coefficients, then the logarithm of the focal length over the window's width."""
    shared_precision: Float[Tensor, " C"]

    @staticmethod
    def of(head: HeadModel, observations: Observations, config: FitConfig) -> Priors:
        """Expressions near their scores, joints near rest, identity near the mean, the focal length near the window's."""
        unknowns, device = Unknowns.of(head), observations.times.device
        mean, precision = torch.zeros(len(observations), unknowns.size, device=device), torch.zeros(unknowns.size)
        mean[:, unknowns.expression] = observations.score_expressions(head.spec.expression_names)
        scored = [name in observations.score_names for name in head.spec.expression_names]
        precision[unknowns.expression] = torch.where(torch.tensor(scored), config.expression**-2, config.unnamed_expression**-2)
        for joint in unknowns.joints:
            eye = head.spec.joint_names[joint].startswith("eye")
            jaw = config.opening_jaw if head.spec.in_deviations else config.jaw
            deviation = torch.tensor([config.eye, config.eye, config.eye_twist] if eye else [jaw] * 3)
            precision[unknowns.joint(joint)] = deviation**-2
            if head.spec.in_deviations and not eye:
                mean[:, unknowns.joint(joint).start] = config.jaw_open * observations.score_expressions(["jawOpen"])[:, 0]
        change = torch.empty(unknowns.size)
        change[:3], change[3:DEPTH], change[DEPTH] = config.rotation_change, config.translation_change, config.depth_change
        change[6:] = config.expression_change
        if head.spec.in_deviations:
            change[unknowns.expression] = config.component_change
        shared_precision = torch.full((head.spec.num_shape + 1,), config.identity**-2)
        shared_precision[-1] = config.focal_deviation**-2
        shared_mean = torch.cat([torch.zeros(head.spec.num_shape), observations.expected_log_focal.cpu()[None]])
        return Priors(
            unknowns=unknowns,
            mean=mean,
            precision=precision.to(device),
            change_precision=(change**-2).to(device),
            change_robust=config.change_robust,
            times=observations.times,
            shared_mean=shared_mean.to(device),
            shared_precision=shared_precision.to(device),
        )

    def select(self, frames: Int[Tensor, " n"]) -> Priors:
        """The priors of some frames."""
        return replace(self, mean=self.mean[frames], times=self.times[frames])

    def expect_focal(self, log_focal: Float[Tensor, ""]) -> Priors:
        """The same with another expected focal length (logarithm, over the window's width)."""
        return replace(self, shared_mean=torch.cat([self.shared_mean[:-1], log_focal[None]]))

    def coupling(self, change: Float[Tensor, "T1 D"]) -> Float[Tensor, "T1 D"]:
        """Precision of each unknown's change from a frame to the next: it falls with the time between them, and a pose's with its change.

        Args:
            change: present value of the change.
        """
        precision = self._still_coupling()
        share = 1 / (1 + self._pose_deviations(change, precision) / self.change_robust**2)
        return precision * torch.cat([share, share.new_ones(len(share), precision.shape[1] - POSE)], 1)

    def add(self, system: NormalEquations, state: TrackState) -> None:
        """Add the priors of every frame's unknowns, and of what the frames share where the system solves for it."""
        system.add_prior(self.precision, self._values(state) - self.mean)
        if system.num_shared:
            system.add_video_prior(self.shared_precision, self._shared_offset(state))

    def cost(self, state: TrackState, *, share_identity: bool) -> float:
        """Half the sum of the squared deviations: of every frame, of changes, and of what the frames share where it is solved for."""
        change, precision, bound = self.change(state), self._still_coupling(), self.change_robust**2
        cost = (self.precision * (self._values(state) - self.mean).square()).sum()
        cost = cost + (precision * change.square())[:, POSE:].sum()
        moved = self._pose_deviations(change, precision)[:, [part.start for part in MOVED_TOGETHER]]
        cost = cost + bound * (moved / bound).log1p().sum()
        if share_identity:
            cost = cost + (self.shared_precision * self._shared_offset(state).square()).sum()
        return float(cost) / 2

    def change(self, state: TrackState) -> Float[Tensor, "T1 D"]:
        """Change of every unknown between neighboring frames."""
        value = self._values(state)
        change = value[1:] - value[:-1]
        rotation = state.world_from_head[:, :3, :3]
        relative = rotation[1:] @ rotation[:-1].transpose(1, 2)
        skew = relative - relative.transpose(1, 2)
        change[:, 0], change[:, 1], change[:, 2] = skew[:, 2, 1] / 2, skew[:, 0, 2] / 2, skew[:, 1, 0] / 2
        place = state.world_from_head[:, :3, 3]
        place = torch.cat([place[:, :2], place[:, 2:].log()], 1)
        change[:, 3:6] = place[1:] - place[:-1]
        return change

    def _still_coupling(self) -> Float[Tensor, "T1 D"]:
        """Precision of the changes of a head that hardly moves."""
        return self.change_precision / ((self.times[1:] - self.times[:-1]).clamp_min(1e-3) * 30)[:, None]

    def _pose_deviations(self, change: Float[Tensor, "T1 D"], precision: Float[Tensor, "T1 D"]) -> Float[Tensor, "T1 6"]:
        """Squared change of turn, place and depth in deviations, for each of the pose's unknowns."""
        square = precision[:, :POSE] * change[:, :POSE].square()
        return torch.cat([square[:, part].sum(1, keepdim=True).expand(-1, part.stop - part.start) for part in MOVED_TOGETHER], 1)

    def _shared_offset(self, state: TrackState) -> Float[Tensor, " C"]:
        return torch.cat([state.shape, state.log_focal[None]]) - self.shared_mean

    def _values(self, state: TrackState) -> Float[Tensor, "T D"]:
        """Present values in the order of the unknowns; the pose's part is zero."""
        value = torch.zeros_like(self.mean)
        value[:, self.unknowns.expression] = state.expression
        for joint in self.unknowns.joints:
            value[:, self.unknowns.joint(joint)] = state.joints[:, joint]
        return value
