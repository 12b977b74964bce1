"""Values shared by all head models: names and sizes of parameters, the surface, the parameters themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deja_vu.core.transfer import move

TORSO_SHAPE = 12
"""Identity components that a torso has beside the head's."""


@dataclass(frozen=True)
class HeadSpec:
    """Names and sizes of a head model's parameters."""

    name: str
    """Registry name, written into every tracked folder and avatar."""
    num_shape: int
    """Identity components S."""
    expression_names: tuple[str, ...]
    """One name for each of the E expressions; ARKit's where the model has them."""
    joint_names: tuple[str, ...]
    """One name for each of the J joints that can turn."""
    in_deviations: bool = False
    """Whether expressions are components in standard deviations of many people's, and the jaw's joint opens the mouth, as in FLAME; else
    they are whole movements with a name, from 0 to 1."""

    @property
    def num_expression(self) -> int:
        return len(self.expression_names)

    @property
    def expression_limits(self) -> tuple[float, float]:
        """Least and largest coefficient of what faces do."""
        return (-3.0, 3.0) if self.in_deviations else (0.0, 1.0)

    @property
    def num_joints(self) -> int:
        return len(self.joint_names)


@dataclass(frozen=True)
class LandmarkSet:
    """Points on the surface that a landmark detector finds in an image."""

    ids: Int[Tensor, " n"]
    """Index of each point in the detector's output."""
    faces: Int[Tensor, " n"]
    """Triangle that carries it."""
    bary: Float[Tensor, "n 3"]
    """Barycentric coordinates in that triangle."""
    weight: Float[Tensor, " n"]
    """Trust in [0, 1]; low where a detector slides along a contour."""

    def to(self, device: torch.device | str) -> LandmarkSet:
        """The same set on another device."""
        return LandmarkSet(self.ids.to(device), self.faces.to(device), self.bary.to(device), self.weight.to(device))


@dataclass(frozen=True)
class HeadTopology:
    """Everything about the surface that does not move."""

    faces: Int[Tensor, "F 3"]
    """Vertex indices, counter-clockwise seen from outside."""
    uv: Float[Tensor, "T 2"]
    """Texture coordinates in [0, 1]; v grows downwards, as image rows do."""
    uv_faces: Int[Tensor, "F 3"]
    """Indices into `uv`, a row for each face."""
    regions: Mapping[str, Bool[Tensor, " F"]]
    """Named sets of faces. Every head has `skin`; see data/README.md for the names a tracker and an avatar look for."""
    landmarks: Mapping[str, LandmarkSet]
    """Landmark sets by detector; `mediapipe` is the one the tracker reads."""

    def to(self, device: torch.device | str) -> HeadTopology:
        """The same surface on another device."""
        return HeadTopology(
            faces=self.faces.to(device),
            uv=self.uv.to(device),
            uv_faces=self.uv_faces.to(device),
            regions={name: faces.to(device) for name, faces in self.regions.items()},
            landmarks={name: points.to(device) for name, points in self.landmarks.items()},
        )


@dataclass(frozen=True)
class HeadParams:
    """Identity, expression and pose of a head and the torso below it, one or a batch."""

    shape: Float[Tensor, "*b S"]
    """Identity coefficients, in standard deviations."""
    expression: Float[Tensor, "*b E"]
    """Expression coefficients; ARKit-named ones lie mostly in [0, 1]."""
    joints: Float[Tensor, "*b J 3"]
    """Axis-angle rotation of each joint, radians."""
    world_from_head: Float[Tensor, "*b 4 4"]
    """Rigid pose of the head model's root, meters: the head's pose where joint `neck` is at rest, as a tracker leaves it."""
    torso: Float[Tensor, "*b 4 4"] = None  # type: ignore[assignment]  # `__post_init__` fills it
    """Rigid motion of the torso against the root's rest, meters: `world_from_torso = world_from_head @ torso`. Left out, the identity:
    the torso follows the root as one piece."""

    def __post_init__(self) -> None:
        if self.torso is None:
            eye = torch.eye(4, dtype=self.world_from_head.dtype, device=self.world_from_head.device)
            object.__setattr__(self, "torso", eye.expand(*self.world_from_head.shape[:-2], 4, 4))

    @property
    def world_from_torso(self) -> Float[Tensor, "*b 4 4"]:
        """Rigid pose of the torso, meters."""
        return self.world_from_head @ self.torso

    def __getitem__(self, index: object) -> HeadParams:
        """Select along the leading batch axis."""
        return HeadParams(**{name: getattr(self, name)[index] for name in HEAD_PARAM_FIELDS})

    def __len__(self) -> int:
        return self.expression.shape[0]

    @staticmethod
    def cat(parts: Sequence[HeadParams]) -> HeadParams:
        """Join several batches along the leading batch axis."""
        return HeadParams(**{name: torch.cat([getattr(part, name) for part in parts]) for name in HEAD_PARAM_FIELDS})

    def to(self, target: torch.device | torch.dtype | str) -> HeadParams:
        """The same parameters on another device or in another precision."""
        return HeadParams(**{name: move(getattr(self, name), target) for name in HEAD_PARAM_FIELDS})


HEAD_PARAM_FIELDS: tuple[str, ...] = tuple(field.name for field in fields(HeadParams))
"""Fields of `HeadParams` in their order."""
