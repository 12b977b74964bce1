"""Retargeting: one person's motion for another's head, relative to the neutral faces of both."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.errors import InputError
from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.motion.config import RetargetConfig
from deja_vu.motion.openings import LIDS, Openings
from deja_vu.motion.torso import Body, place_torso

MIN_OPENING = -0.1
"""Least opening of an eye over its neutral one: tracked blinks end between -0.1 and 0.1, where lids touch at 0."""
MIN_NEUTRAL_OPENING = 0.1
"""Least neutral opening over the eye's width: nobody's neutral eyes are shut, so below it is the tracker that errs."""
LEAST_WEIGHT = -0.5
"""Least weight that avatars are given of a whole movement; of components the head's own limit. At most all of it: a full smile on a smiling
neutral face is more than any video shows, and tears the skin."""


class Retargeter:
    """Retargets one mover's frames to one person.

    Expressions and joints move by their difference from the mover's neutral face; poses by the turn and the shift from it, of a head
    alone about its origin, of a whole person's on the neck (see `Body`). Where the head can tell how far its eyes are open, the share of
    the neutral opening is kept, so that a shut eye stays shut.
    """

    def __init__(
        self,
        head: HeadModel,
        theirs: HeadParams,
        ours: HeadParams,
        config: RetargetConfig | None = None,
        *,
        body: bool = False,
        acted: bool = False,
        fps: float = 30.0,
    ) -> None:
        """Prepare for one pair of people.

        Args:
            head: model of both.
            theirs: the mover's neutral face [1].
            ours: the person's neutral face [1].
            config: strength.
            body: whether the person's avatar shows the torso, too.
            acted: whether the mover is an `Actor`, whose head turns in place.
            fps: rate of the motion, 1/s.
        """
        self.theirs, self.ours, self.config = theirs, ours, config or RetargetConfig()
        low, high = head.spec.expression_limits
        self._limits = (min(low, LEAST_WEIGHT), high)
        self._body = Body(head, theirs, ours, self.config.torso, fps, acted=acted) if body and self.config.turn else None
        openings = Openings.of(head)
        self._lids = tuple(name for name in LIDS if openings is not None and name in openings.names)
        self._openings = openings if self._lids else None
        self._open_theirs, self._open_ours = (self._measure_lids(neutral).clamp_min(MIN_NEUTRAL_OPENING) for neutral in (theirs, ours))

    def __call__(self, params: HeadParams, seconds: float | None = None) -> HeadParams:
        """The person doing what the mover does in B frames.

        Args:
            params: the mover's frames.
            seconds: between two of them; None for one frame's time.
        """
        theirs, ours, gain = self.theirs, self.ours, self.config.gain
        expression = ours.expression + gain * (params.expression - theirs.expression)
        joints = ours.joints + (params.joints - theirs.joints)
        pose, torso = self._retarget_pose(params.world_from_head), ours.torso.expand(len(params), 4, 4)
        if self._body is not None:
            pose, world_from_torso = self._body(params, seconds)
            torso = place_torso(pose, world_from_torso)
        moved = HeadParams(
            shape=ours.shape.expand(len(params), -1),
            expression=expression.clamp(*self._limits),
            joints=joints,
            world_from_head=pose,
            torso=torso,
        )
        if self._openings is None:
            return moved
        share = (self._measure_lids(params) / self._open_theirs).clamp_min(MIN_OPENING)
        return self._openings.reach(moved, share * self._open_ours, self._lids)

    def _retarget_pose(self, pose: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B 4 4"]:
        theirs, ours = self.theirs.world_from_head[0], self.ours.world_from_head[0]
        moved = ours.expand(len(pose), 4, 4).clone()
        if self.config.turn:
            moved[:, :3, :3] = pose[:, :3, :3] @ theirs[:3, :3].T @ ours[:3, :3]
            moved[:, :3, 3] = ours[:3, 3] + pose[:, :3, 3] - theirs[:3, 3]
        return moved

    def _measure_lids(self, params: HeadParams) -> Float[Tensor, "B m"]:
        """Openings of the eyes over their width."""
        if self._openings is None:
            return torch.zeros(len(params), 0)
        return self._openings.measure(params)[:, [self._openings.names.index(name) for name in self._lids]]


def refuse_other_head(name: str, head: HeadModel) -> None:
    """Check that a motion was tracked with the avatar's head model.

    Args:
        name: head model with which the motion was tracked.
        head: the avatar's.

    Raises:
        InputError: it was tracked with another head model.
    """
    if name != head.spec.name:
        raise InputError(f"The motion was tracked with head '{name}', the avatar uses '{head.spec.name}'. Track its video again.")
