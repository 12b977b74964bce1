"""A head model is data plus one function: parameters in, surface points out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deja_vu.core.head import HeadParams, HeadSpec, HeadTopology
from deja_vu.heads.skinning import axis_angle_to_matrix, blend_transforms, joint_transforms


@dataclass(frozen=True)
class HeadData:
    """The numbers behind a linear head model with skinned joints (SMPL, SIGGRAPH Asia 2015; FLAME, 2017)."""

    template: Float[Tensor, "V 3"]
    """Mean neutral surface in head space, meters."""
    shape_basis: Float[Tensor, "S V 3"]
    """Displacement for one standard deviation of each identity component, meters."""
    expression_basis: Float[Tensor, "E V 3"]
    """Displacement at coefficient one of each expression, meters."""
    joint_pivots: Float[Tensor, "J 3"]
    """Rest positions of the joints on the mean surface, meters."""
    joint_shape_basis: Float[Tensor, "S J 3"]
    """Displacement of the rest positions for one standard deviation of each identity component, meters."""
    skin_weights: Float[Tensor, "V J1"]
    """Skinning weights; column 0 belongs to the root, column j + 1 to joint j; rows sum to one."""
    parents: tuple[int, ...]
    """Parent of each joint, -1 for the root; a parent precedes its children."""
    pose_basis: Float[Tensor, "P V 3"] | None = None
    """Pose correctives by the entries of (rotation - identity) of all joints, P = 9 J; None where there are none."""


class SkinnedModel(nn.Module):
    """Points that identity, expression, joints and a pose move. The data are buffers that never enter a checkpoint."""

    template: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    joint_pivots: Tensor
    joint_shape_basis: Tensor
    skin_weights: Tensor
    pose_basis: Tensor | None

    def __init__(self, spec: HeadSpec, data: HeadData) -> None:
        super().__init__()
        self.spec, self.parents = spec, data.parents
        for field in fields(data):
            if field.name != "parents":
                self.register_buffer(field.name, getattr(data, field.name), persistent=False)
        assert data.shape_basis.shape[0] == spec.num_shape, data.shape_basis.shape
        assert data.expression_basis.shape[0] == spec.num_expression, data.expression_basis.shape
        assert data.joint_pivots.shape[0] == spec.num_joints, data.joint_pivots.shape

    def neutral(self, batch: Sequence[int] = ()) -> HeadParams:
        """Mean identity, no expression, at the world's origin."""
        zeros = self.template.new_zeros
        pose = torch.eye(4, dtype=self.template.dtype, device=self.template.device).expand(*batch, 4, 4)
        return HeadParams(
            zeros(*batch, self.spec.num_shape),
            zeros(*batch, self.spec.num_expression),
            zeros(*batch, self.spec.num_joints, 3),
            pose,
        )

    def forward(self, params: HeadParams) -> Float[Tensor, "*b V 3"]:
        """Points in world space, meters."""
        return self.pose(params)[0]

    def pose(self, params: HeadParams) -> tuple[Float[Tensor, "*b V 3"], Float[Tensor, "*b V 3 3"]]:
        """Points in world space, and the linear part that carries each point's rest displacements there."""
        return self.skin(self.rest(params), params)

    def rest(self, params: HeadParams) -> Float[Tensor, "*b V 3"]:
        """Points in head space with identity and expression, before any joint turns."""
        neutral = self._morph(params.shape, self.template, self.shape_basis)
        return neutral + (params.expression @ self.expression_basis.flatten(1)).unflatten(-1, (-1, 3))

    def skin(self, rest: Float[Tensor, "*b V 3"], params: HeadParams) -> tuple[Float[Tensor, "*b V 3"], Float[Tensor, "*b V 3 3"]]:
        """Carry rest points to world space with the joints and the pose; returns what `pose` returns."""
        if self.pose_basis is not None:
            bent = (axis_angle_to_matrix(params.joints) - torch.eye(3, dtype=rest.dtype, device=rest.device)).flatten(-3)
            rest = rest + (bent @ self.pose_basis.flatten(1)).unflatten(-1, (-1, 3))
        linear, translation = blend_transforms(self.world_from_parts(params), self.skin_weights)
        return (linear @ rest[..., None])[..., 0] + translation, linear

    def world_from_parts(self, params: HeadParams) -> Float[Tensor, "*b J1 4 4"]:
        """World-space motion of the root and of each joint's part relative to rest."""
        pivots = self._morph(params.shape, self.joint_pivots, self.joint_shape_basis)
        moved = joint_transforms(axis_angle_to_matrix(params.joints), pivots, self.parents)
        return params.world_from_head[..., None, :, :] @ moved

    @staticmethod
    def _morph(coefficients: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
        return mean + (coefficients @ basis.flatten(1)).unflatten(-1, (-1, 3))


class HeadModel(SkinnedModel):
    """A parametric head: skinned vertices and the surface between them."""

    def __init__(self, spec: HeadSpec, topology: HeadTopology, data: HeadData) -> None:
        super().__init__(spec, data)
        self.topology = topology

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HeadModel:
        """The surface between the vertices follows them to another device."""
        super()._apply(fn, recurse)
        self.topology = self.topology.to(self.template.device)
        return self

    def copy(self) -> HeadModel:
        """A model of its own that shares the tensors: moving one to a device leaves the other where it is."""
        data = HeadData(**{field.name: getattr(self, field.name) for field in fields(HeadData)})
        return HeadModel(self.spec, self.topology, data)

    def at_points(self, faces: Int[Tensor, " n"], bary: Float[Tensor, "n 3"]) -> SurfacePoints:
        """Points of the surface that move as the head does, for solvers that look at few of them.

        Skinning weights are interpolated, so a point moves like the interpolated surface up to the curvature of the
        skinning inside one triangle (under 0.1 mm on the heads shipped here).
        """
        corners = self.topology.faces[faces]
        data = HeadData(
            template=surface_points(self.template, corners, bary),
            shape_basis=surface_points(self.shape_basis, corners, bary),
            expression_basis=surface_points(self.expression_basis, corners, bary),
            joint_pivots=self.joint_pivots,
            joint_shape_basis=self.joint_shape_basis,
            skin_weights=(self.skin_weights[corners] * bary[..., None]).sum(-2),
            parents=self.parents,
            pose_basis=None if self.pose_basis is None else surface_points(self.pose_basis, corners, bary),
        )
        return SurfacePoints(self.spec, data)


class SurfacePoints(SkinnedModel):
    """Points of a head's surface, without the triangles between them; V counts points."""

    def select(self, points: Int[Tensor, " n"]) -> SurfacePoints:
        """Some of the points."""
        return self._replace(
            template=self.template[points],
            shape_basis=self.shape_basis[:, points],
            expression_basis=self.expression_basis[:, points],
            skin_weights=self.skin_weights[points],
            pose_basis=None if self.pose_basis is None else self.pose_basis[:, points],
        )

    def displace(self, offset: Float[Tensor, "V 3"]) -> SurfacePoints:
        """The points moved off the surface in the neutral pose, meters; they go on moving with where they came from."""
        return self._replace(template=self.template + offset)

    def _replace(self, **changed: Tensor | None) -> SurfacePoints:
        kept = {field.name: getattr(self, field.name) for field in fields(HeadData)}
        return SurfacePoints(self.spec, HeadData(**(kept | changed)))


def surface_points(vertices: Float[Tensor, "*b V 3"], corners: Int[Tensor, "n 3"], bary: Float[Tensor, "n 3"]) -> Float[Tensor, "*b n 3"]:
    """Points given by barycentric coordinates on triangles.

    Args:
        vertices: posed surface.
        corners: vertex indices of the triangle of each point.
        bary: barycentric coordinates of each point.
    """
    return (vertices[..., corners, :] * bary[..., None]).sum(-2)
