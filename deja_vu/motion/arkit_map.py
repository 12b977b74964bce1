"""ARKit's expressions on a head that has components instead (FLAME), from geometry alone.

The default head has ARKit's expressions. How each of them moves the face's landmarks is carried over to the other head by a similarity, and
the components and the turn of the jaw that do the same are solved for. Nobody's tracked faces are needed, and no one's weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel, SurfacePoints

DEFAULT = "anny"
"""Head whose expressions are ARKit's."""
NOISE = 1e-3
"""Deviation of a landmark's movement from one head to another, meters."""
JAW = 0.15
"""Usual turn of a jaw, radians; components are in deviations of their own."""
PROBE = 0.02
"""Turn by which the jaw's effect is measured, radians."""
LEAST_LANDMARKS = 6
"""Landmarks that both heads must have."""


@dataclass(frozen=True)
class ArkitMap:
    """What ARKit's weights add to a head's parameters, a row for each of `ARKIT_NAMES`."""

    expression: Float[Tensor, "A E"]
    """In deviations."""
    jaw: Float[Tensor, "A 3"]
    """Axis-angle, radians."""

    @staticmethod
    def fit(head: HeadModel) -> ArkitMap | None:
        """Solve for the map of a head with components and a jaw; None where it has too few landmarks of the default head's."""
        theirs = load_head(DEFAULT)
        marks, known = head.topology.landmarks.get("mediapipe"), theirs.topology.landmarks["mediapipe"]
        if marks is None or "jaw" not in head.spec.joint_names:
            return None
        shared = torch.isin(marks.ids, known.ids)
        if int(shared.sum()) < LEAST_LANDMARKS:
            return None
        places = torch.stack([(known.ids == number).nonzero()[0, 0] for number in marks.ids[shared]])
        ours = head.at_points(marks.faces[shared], marks.bary[shared])
        source = theirs.at_points(known.faces[places], known.bary[places])
        turn = align(source.template, ours.template)
        order = [theirs.spec.expression_names.index(name) for name in ARKIT_NAMES]
        wanted = source.expression_basis[order] @ turn.T
        return ArkitMap(*solve(movements(ours), wanted))


def align(source: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"]) -> Float[Tensor, "3 3"]:
    """Scale times rotation of the similarity that brings points closest to others (Umeyama, PAMI 1991)."""
    ours, theirs = target - target.mean(0), source - source.mean(0)
    left, spread, right = torch.linalg.svd(ours.T @ theirs)
    sign = torch.tensor([1.0, 1.0, float(torch.linalg.det(left @ right).sign())])
    return (left * sign) @ right * ((spread * sign).sum() / theirs.square().sum())


def movements(points: SurfacePoints) -> Float[Tensor, "E3 n 3"]:
    """How points move with one deviation of each component, and with the turn of the jaw about each axis that is usual."""
    jaw, neutral = points.spec.joint_names.index("jaw"), points.neutral((3,))
    joints = neutral.joints.clone()
    joints[:, jaw] = PROBE * torch.eye(3)
    still = points(points.neutral((1,)))
    turned = points(type(neutral)(neutral.shape, neutral.expression, joints, neutral.world_from_head))
    return torch.cat([points.expression_basis, (turned - still) * (JAW / PROBE)])


def solve(basis: Float[Tensor, "E3 n 3"], wanted: Float[Tensor, "A n 3"]) -> tuple[Float[Tensor, "A E"], Float[Tensor, "A 3"]]:
    """Most probable components and turns: each of deviation one before, landmarks of deviation `NOISE` beside them."""
    matrix = basis.flatten(1).double()
    system = matrix @ matrix.T / NOISE**2 + torch.eye(len(matrix), dtype=torch.float64)
    found = torch.linalg.solve(system, matrix @ wanted.flatten(1).double().T / NOISE**2).T.float()
    return found[:, :-3], found[:, -3:] * JAW
