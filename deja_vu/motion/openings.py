"""Openings of eyes and lips: distances on the posed surface, which mean the same for every person.

The expression that closes one person's eyes leaves another's half open, for it depends on the shape of the lids, on what else the
face does, and on how the tracker shared the movement among its expressions. The distance of the lids does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel, SurfacePoints

OPENINGS: dict[str, tuple[int, int, int, int]] = {
    "eyeBlinkLeft": (386, 374, 362, 263),
    "eyeBlinkRight": (159, 145, 33, 133),
    "jawOpen": (13, 14, 61, 291),
}
"""MediaPipe's landmarks above and below each opening and at its two corners, by the expression that moves it."""
LIDS = ("eyeBlinkLeft", "eyeBlinkRight")
SLIDER_RANGE = (-0.6, 1.2)
"""Values that an expression may take to reach an opening."""


@dataclass(frozen=True)
class Openings:
    """The openings that a head can tell, each as a share of its width, negative where lids or lips pass through each other."""

    points: SurfacePoints
    """Four points an opening."""
    names: tuple[str, ...]
    """Expression that moves each of the n openings."""

    @staticmethod
    def of(head: HeadModel) -> Openings | None:
        """The openings whose landmarks and expressions a head has; None where it has none."""
        marks = head.topology.landmarks.get("mediapipe")
        ids = [] if marks is None else marks.ids.tolist()
        names = tuple(n for n, used in OPENINGS.items() if n in head.spec.expression_names and set(used) <= set(ids))
        if marks is None or not names:
            return None
        rows = torch.tensor([ids.index(mark) for name in names for mark in OPENINGS[name]])
        return Openings(head.at_points(marks.faces[rows], marks.bary[rows]), names)

    def measure(self, params: HeadParams) -> Float[Tensor, "B n"]:
        """Height of every opening over its width."""
        still = torch.eye(4).expand(len(params), 4, 4)
        upper, lower, one, other = self.points(replace(params, world_from_head=still)).unflatten(1, (-1, 4)).unbind(2)
        return (upper - lower)[..., 1] / (one - other).norm(dim=-1)

    def reach(self, params: HeadParams, goal: Float[Tensor, "B m"], names: tuple[str, ...]) -> HeadParams:
        """The same faces with some openings set.

        An opening's height is an affine function of the expression that moves it, so two measurements give the answer (its width
        changes a little with it, hence a second round).

        Args:
            params: faces.
            goal: openings wanted.
            names: expressions that are to move them.
        """
        expression = params.expression.clone()
        columns = [self.points.spec.expression_names.index(name) for name in names]
        rows = [self.names.index(name) for name in names]
        for _ in range(2):
            here = self.measure(replace(params, expression=expression))[:, rows]
            nudged = expression.clone()
            nudged[:, columns] += 0.1
            slope = (self.measure(replace(params, expression=nudged))[:, rows] - here) / 0.1
            step = (goal - here) / torch.where(slope.abs() > 1e-3, slope, torch.inf)
            expression[:, columns] = (expression[:, columns] + step).clamp(*SLIDER_RANGE)
        return replace(params, expression=expression)
