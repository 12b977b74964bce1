"""What the tracker solves for, and how the image of a surface point moves with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import TORSO_SHAPE, HeadParams
from deja_vu.heads.base import SkinnedModel, SurfacePoints
from deja_vu.heads.skinning import axis_angle_to_matrix

POSE = 6
"""Unknowns of a frame's rigid pose: rotation (world axes, about the head's origin), shift across the view, and the logarithm of the depth,
which keeps the head before the camera and lets distances scale with the focal length without moving any prior."""
DEPTH = 5
"""Place of the depth among them."""
EXPRESSION_OVERSHOOT = 0.5
"""How far an expression may go beyond the head's limits, so that noise at either end averages out."""
MIN_DEPTH = 1e-3
"""Least depth at which a point is projected, meters."""
PER_FRAME = ("expression", "joints", "world_from_head", "torso")
"""Fields of `TrackState` that have a row for each frame."""
MAX_STEP = 0.5
"""Largest turn of a frame's head (radians), and change of the logarithm of its depth or of the focal length, in one step."""
JOINT_STEP = 1e-2
"""Finite-difference step for joint rotations, radians: truncation and float32 rounding both stay under 1 % of the jacobian."""


@dataclass(frozen=True)
class TrackState:
    """Identity and focal length of a video, pose and expression of its T frames, and the torso below the head."""

    shape: Float[Tensor, " S"]
    log_focal: Float[Tensor, ""]
    """Logarithm of the focal length over the window's width, so that it holds on every pixel grid of that window."""
    expression: Float[Tensor, "T E"]
    joints: Float[Tensor, "T J 3"]
    world_from_head: Float[Tensor, "T 4 4"]
    torso: Float[Tensor, "T 4 4"] = None  # type: ignore[assignment]  # `__post_init__` fills it
    """As in `HeadParams`; left out, the torso follows the head as one piece."""
    torso_shape: Float[Tensor, " K"] = field(default_factory=lambda: torch.zeros(TORSO_SHAPE))
    """The torso's own identity components, in standard deviations."""

    def __post_init__(self) -> None:
        pose = self.world_from_head
        object.__setattr__(self, "torso_shape", self.torso_shape.to(pose.device))
        if self.torso is None:
            object.__setattr__(self, "torso", torch.eye(4, device=pose.device).expand(len(pose), 4, 4))

    def params(self, frames: slice | Tensor = slice(None)) -> HeadParams:
        """Head parameters of some frames; the identity is repeated."""
        expression = self.expression[frames]
        shape = self.shape.expand(len(expression), -1)
        return HeadParams(shape, expression, self.joints[frames], self.world_from_head[frames], self.torso[frames])

    def camera(self, window: Camera) -> Camera:
        """The window's camera with the state's focal length."""
        window = window.to(self.log_focal.device)
        intrinsics = window.intrinsics.clone()
        intrinsics[0, 0] = intrinsics[1, 1] = self.log_focal.exp() * window.width
        return replace(window, intrinsics=intrinsics)

    def to(self, device: torch.device) -> TrackState:
        """The same on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})

    def widen(self, factor: float) -> TrackState:
        """The same video in a window `factor` times as wide, in widths of which the focal length is then counted."""
        return replace(self, log_focal=self.log_focal - math.log(factor))

    def select(self, frames: Tensor) -> TrackState:
        """The same video with some of its frames only."""
        return replace(self, **{name: getattr(self, name)[frames] for name in PER_FRAME})

    def insert(self, frames: Tensor, part: TrackState) -> TrackState:
        """The same video with the part's identity and focal length, and some of its frames replaced by the part's."""
        return replace(part, **{name: getattr(self, name).index_copy(0, frames, getattr(part, name)) for name in PER_FRAME})


@dataclass(frozen=True)
class Unknowns:
    """Order of one frame's unknowns: pose, expressions, then the joints that turn."""

    num_expression: int
    joints: tuple[int, ...]
    limits: tuple[float, float]
    """Least and largest coefficient of an expression."""

    @staticmethod
    def of(head: SkinnedModel) -> Unknowns:
        """All expressions and every joint but the neck, which a head without a torso cannot tell from its pose."""
        movable = tuple(i for i, name in enumerate(head.spec.joint_names) if name != "neck")
        low, high = head.spec.expression_limits
        return Unknowns(head.spec.num_expression, movable, (low - EXPRESSION_OVERSHOOT, high + EXPRESSION_OVERSHOOT))

    @property
    def size(self) -> int:
        return POSE + self.num_expression + 3 * len(self.joints)

    @property
    def expression(self) -> slice:
        return slice(POSE, POSE + self.num_expression)

    def joint(self, joint: int) -> slice:
        start = POSE + self.num_expression + 3 * self.joints.index(joint)
        return slice(start, start + 3)

    def update(self, state: TrackState, step: Float[Tensor, "T D"], shared_step: Float[Tensor, " C"] | None = None) -> TrackState:
        """Apply a step of all frames' unknowns, and of identity and log focal length where they are solved for.

        Expressions stay within `limits`; steps beyond `MAX_STEP` are shortened, those of all frames alike where the
        focal length's is too long.
        """
        step = step * _shorten(torch.maximum(step[:, :3].norm(dim=1), step[:, DEPTH].abs()))[:, None]
        if shared_step is not None and len(shared_step):
            shorter = _shorten(shared_step[-1].abs())
            step, shared_step = step * shorter, shared_step * shorter
        turn = axis_angle_to_matrix(step[:, :3])
        pose = state.world_from_head.clone()
        pose[:, :3, :3] = turn @ pose[:, :3, :3]
        pose[:, :2, 3] += step[:, 3:5]
        pose[:, 2, 3] *= step[:, DEPTH].exp()
        joints = state.joints.clone()
        for joint in self.joints:
            joints[:, joint] += step[:, self.joint(joint)]
        expression = (state.expression + step[:, self.expression]).clamp(*self.limits)
        state = replace(state, world_from_head=pose, joints=joints, expression=expression)
        if shared_step is None or len(shared_step) == 0:
            return state
        return replace(state, shape=state.shape + shared_step[:-1], log_focal=state.log_focal + shared_step[-1])


def _shorten(length: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Factor that brings steps down to `MAX_STEP`."""
    return MAX_STEP / length.clamp_min(MAX_STEP)


@dataclass(frozen=True)
class Projection:
    """Image of P surface points in B frames, and its derivatives."""

    pixels: Float[Tensor, "B P 2"]
    frame_jacobian: Float[Tensor, "B P 2 D"]
    """Derivative by each frame's unknowns, in the order of `Unknowns`."""
    video_jacobian: Float[Tensor, "B P 2 C"] | None
    """Derivative by identity coefficients, then the logarithm of the focal length."""


def project(points: SurfacePoints, params: HeadParams, camera: Camera, unknowns: Unknowns, *, share_identity: bool) -> Projection:
    """Project surface points and differentiate.

    Args:
        points: P points of the head.
        params: B frames.
        camera: camera at the world's origin (world space is camera space).
        unknowns: order of the derivatives.
        share_identity: whether to differentiate by identity and focal length too.
    """
    rest = points.rest(params)
    world, linear = points.skin(rest, params)
    pixels, jacobian = project_points(world, camera)
    by_rest = jacobian @ linear
    by_place = pose_jacobian(world, params.world_from_head[:, :3, 3], jacobian)
    by_place[..., DEPTH] *= params.world_from_head[:, None, None, 2, 3]
    columns = [by_place, basis_jacobian(by_rest, points.expression_basis)]
    for joint in unknowns.joints:
        columns.append(jacobian @ _joint_jacobian(points, rest, params, world, joint))
    video_jacobian = None
    if share_identity:
        video_jacobian = torch.cat([basis_jacobian(by_rest, points.shape_basis), (pixels - camera.intrinsics[:2, 2])[..., None]], -1)
    return Projection(pixels, torch.cat(columns, -1), video_jacobian)


def project_points(world: Float[Tensor, "B P 3"], camera: Camera) -> tuple[Float[Tensor, "B P 2"], Float[Tensor, "B P 2 3"]]:
    """Pixels of points before a camera at the world's origin, and their derivative by the points."""
    x, y, z = world.unbind(-1)
    z = z.clamp_min(MIN_DEPTH)
    focal, zero = camera.intrinsics[0, 0], torch.zeros_like(x)
    jacobian = torch.stack(
        [torch.stack([focal / z, zero, -focal * x / z**2], -1), torch.stack([zero, focal / z, -focal * y / z**2], -1)], -2
    )
    return focal * world[..., :2] / z[..., None] + camera.intrinsics[:2, 2], jacobian


def pose_jacobian(
    world: Float[Tensor, "B P 3"], pivot: Float[Tensor, "B 3"], jacobian: Float[Tensor, "B P 2 3"]
) -> Float[Tensor, "B P 2 6"]:
    """Derivative of pixels by a rigid pose: rotation (world axes, about the pivot), then translation.

    Args:
        world: points that the pose moves.
        pivot: about which it turns.
        jacobian: derivative of pixels by points.
    """
    return torch.cat([jacobian @ rotation_jacobian(world - pivot[:, None]), jacobian], -1)


def rotation_jacobian(arm: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Derivative of points by a turn about world axes through their pivot, from which the arms point."""
    x, y, z = arm.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], -1).unflatten(-1, (3, 3))


def basis_jacobian(by_rest: Float[Tensor, "B P 2 3"], basis: Float[Tensor, "E P 3"]) -> Float[Tensor, "B P 2 E"]:
    """Derivative of pixels by coefficients of displacements at rest, from that by the points at rest."""
    return by_rest @ basis.permute(1, 2, 0)


def _joint_jacobian(points: SurfacePoints, rest: Tensor, params: HeadParams, world: Tensor, joint: int) -> Float[Tensor, "B P 3 3"]:
    columns = []
    for axis in range(3):
        nudged = params.joints.clone()
        nudged[:, joint, axis] += JOINT_STEP
        columns.append((points.skin(rest, replace(params, joints=nudged))[0] - world) / JOINT_STEP)
    return torch.stack(columns, -1)
