"""Fit a head to a video's landmarks: one identity and focal length, pose and expression of every frame, solved jointly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.errors import ConfigError
from deja_vu.core.head import LandmarkSet
from deja_vu.heads.base import HeadModel, SurfacePoints
from deja_vu.tracking.normal_equations import NormalEquations
from deja_vu.tracking.state import TrackState, Unknowns, project

NEEDED_REGIONS = ("skin", "face", "scalp", "neck", "eye_left", "eye_right")
"""Regions that tracker and avatar ask for by name."""
CHUNK_POINTS = 40_000
"""Points differentiated at once; bounds the memory of a solver step to about 100 MB."""


@dataclass(frozen=True)
class FitConfig:
    """Deviations of the tracker's measurements and priors."""

    landmark_px: float = 2.0
    """Deviation of a trusted landmark in pixels of a 512-pixel crop."""
    robust_px: float = 4.0
    """Distance at which a landmark counts half, in the same pixels."""
    expression: float = 0.15
    """Deviation of an ARKit-named expression from the landmarker's score."""
    unnamed_expression: float = 1.0
    """Deviation of an expression that the landmarker does not score, from zero."""
    jaw: float = 0.03
    """Deviation of the jaw joint from rest, radians; jawOpen does the opening."""
    eye: float = 0.35
    """Deviation of the gaze from straight ahead, radians."""
    identity: float = 0.25
    """Deviation of the identity coefficients; well under one, for a landmark's error is much the same in every frame."""
    focal_ratio: float = 1.8
    """Expected focal length over the longer side of the video's frame."""
    focal_deviation: float = 0.07
    """Deviation of the focal length's logarithm; tight for the same reason."""
    rotation_change: float = 0.02
    """Deviation of the head's rotation between frames at 30 fps, radians."""
    translation_change: float = 0.004
    """Deviation of the head's position between frames at 30 fps, metres."""
    expression_change: float = 0.15
    """Deviation of an expression between frames at 30 fps."""
    identity_frames: int = 120
    """Frames, spread over the video, from which identity and focal length are solved."""
    steps: int = 8
    """Gauss-Newton steps with shared identity, and again for all frames."""


@dataclass(frozen=True)
class Observations:
    """What the detectors saw, in pixels of one window of the video."""

    landmarks: Float[Tensor, "T L 2"]
    """Detector landmarks."""
    scores: Float[Tensor, "T 52"]
    """ARKit scores in [0, 1]."""
    score_names: Sequence[str]
    window: Camera
    """Crop window with the video's expected focal length."""
    times: Float[Tensor, " T"]
    """Seconds."""

    def select(self, frames: Int[Tensor, " n"]) -> Observations:
        """Some of the frames."""
        return replace(self, landmarks=self.landmarks[frames], scores=self.scores[frames], times=self.times[frames])


class Priors:
    """Gaussian priors of every unknown, and of its change in time."""

    def __init__(self, head: HeadModel, seen: Observations, config: FitConfig, expression: float | None = None) -> None:
        unknowns = Unknowns.of(head)
        self.unknowns, self.config = unknowns, config
        self.mean = torch.zeros(len(seen.scores), unknowns.size)
        self.precision = torch.zeros(unknowns.size)
        for index, name in enumerate(head.spec.expression_names):
            column = unknowns.expression.start + index
            if name in seen.score_names:
                self.mean[:, column] = seen.scores[:, list(seen.score_names).index(name)]
                self.precision[column] = (expression or config.expression) ** -2
            else:
                self.precision[column] = config.unnamed_expression**-2
        for joint in unknowns.joints:
            eye = head.spec.joint_names[joint].startswith("eye")
            twist = 0.01 if eye else config.jaw
            deviation = torch.tensor([config.eye, config.eye, twist] if eye else [config.jaw] * 3)
            self.precision[unknowns.joint(joint)] = deviation**-2
        gaps = (seen.times[1:] - seen.times[:-1]).clamp_min(1e-3) * 30
        change = torch.empty(unknowns.size)
        change[:3], change[3:6] = config.rotation_change, config.translation_change
        change[6:] = config.expression_change
        self.coupling = change**-2 / gaps[:, None]

    def add(self, system: NormalEquations, state: TrackState) -> None:
        """Add the priors of every frame's unknowns."""
        system.add_prior(self.precision, self.values(state) - self.mean)

    def values(self, state: TrackState) -> Float[Tensor, "T D"]:
        """Present values in the order of the unknowns; the pose's part is zero (it has no prior)."""
        value = torch.zeros_like(self.mean)
        value[:, self.unknowns.expression] = state.expression
        for joint in self.unknowns.joints:
            value[:, self.unknowns.joint(joint)] = state.joints[:, joint]
        return value

    def change(self, state: TrackState) -> Float[Tensor, "T1 D"]:
        """Change of every unknown between neighbouring frames."""
        value = self.values(state)
        change = value[1:] - value[:-1]
        rotation = state.world_from_head[:, :3, :3]
        relative = rotation[1:] @ rotation[:-1].transpose(1, 2)
        skew = relative - relative.transpose(1, 2)
        change[:, 0], change[:, 1], change[:, 2] = skew[:, 2, 1] / 2, skew[:, 0, 2] / 2, skew[:, 1, 0] / 2
        change[:, 3:6] = state.world_from_head[1:, :3, 3] - state.world_from_head[:-1, :3, 3]
        return change


def refuse_untrackable(head: HeadModel) -> None:
    """Check that a head names what the tracker looks for.

    Raises:
        ConfigError: landmarks or regions are missing, as with a FLAME file that lacks its companions.
    """
    missing = [f"region {name}" for name in NEEDED_REGIONS if name not in head.topology.regions]
    missing += [] if "mediapipe" in head.topology.landmarks else ["MediaPipe landmarks"]
    if missing:
        raise ConfigError(
            f"Head '{head.spec.name}' cannot be tracked: it lacks {', '.join(missing)}. For FLAME, put FLAME_masks.pkl and "
            "mediapipe_landmark_embedding.npz beside the model file; or use head 'anny'."
        )


def fit_landmarks(head: HeadModel, seen: Observations, config: FitConfig) -> TrackState:
    """Solve identity and focal length on frames spread over the video, then pose and expression of all frames.

    Args:
        head: model with a `mediapipe` landmark set.
        seen: landmarks and scores of the frames in which a face was found.
        config: deviations.

    Returns:
        State whose world space is the camera's.
    """
    marks = head.topology.landmarks["mediapipe"]
    points = head.at_points(marks.faces, marks.bary)
    state = _first_guess(head, points, marks, seen)
    spread = torch.linspace(0, len(seen.times) - 1, min(config.identity_frames, len(seen.times))).round().long().unique()
    some, seen_some = state.select(spread), seen.select(spread)
    for _ in range(config.steps):
        some = landmark_step(head, points, marks, some, seen_some, config, shared=True)
    state = replace(state, shape=some.shape, log_focal=some.log_focal)
    if not torch.equal(spread, torch.arange(len(seen.times))):
        state = resume_poses(points, marks, state, seen)
        for _ in range(config.steps):
            state = landmark_step(head, points, marks, state, seen, config, shared=False)
        return state
    return some


def landmark_errors(head: HeadModel, state: TrackState, seen: Observations) -> Float[Tensor, "T L"]:
    """Distance of every landmark from its fitted surface point, pixels of the window."""
    marks = head.topology.landmarks["mediapipe"]
    points = head.at_points(marks.faces, marks.bary)
    pixels, _ = state.camera(seen.window).project(points(state.params()))
    return (pixels - seen.landmarks[:, marks.ids]).norm(dim=-1)


def _first_guess(head: HeadModel, points: SurfacePoints, marks: LandmarkSet, seen: Observations) -> TrackState:
    """Mean identity, scored expressions, and poses by a perspective-n-point solution of each frame."""
    frames = len(seen.times)
    neutral = head.neutral((frames,))
    expression = neutral.expression.clone()
    for index, name in enumerate(head.spec.expression_names):
        if name in seen.score_names:
            expression[:, index] = seen.scores[:, list(seen.score_names).index(name)]
    log_focal = expected_focal(seen.window)
    state = TrackState(neutral.shape[0], log_focal, expression, neutral.joints, neutral.world_from_head.clone())
    return resume_poses(points, marks, state, seen)


def resume_poses(points: SurfacePoints, marks: LandmarkSet, state: TrackState, seen: Observations) -> TrackState:
    """Every frame's pose from its landmarks alone, with the state's identity, focal length and expressions."""
    rest = points(replace(state.params(), world_from_head=torch.eye(4).expand(len(seen.times), 4, 4)))
    trusted = marks.weight > 0.3
    intrinsics = state.camera(seen.window).intrinsics.double().numpy()
    poses = state.world_from_head.clone()
    for frame in range(len(poses)):
        model = rest[frame, trusted].double().numpy()
        image = seen.landmarks[frame, marks.ids][trusted].double().numpy()
        _, rotation, translation = cv2.solvePnP(model, image, intrinsics, np.zeros(4), flags=cv2.SOLVEPNP_SQPNP)
        poses[frame, :3, :3] = torch.from_numpy(cv2.Rodrigues(rotation)[0])
        poses[frame, :3, 3] = torch.from_numpy(translation[:, 0])
    return replace(state, world_from_head=poses)


def add_landmarks(
    system: NormalEquations, points: SurfacePoints, marks: LandmarkSet, state: TrackState, seen: Observations, config: FitConfig
) -> None:
    """Add the landmarks' robust reprojection errors to the normal equations."""
    unknowns, scale = Unknowns.of(points), seen.window.width / 512
    camera = state.camera(seen.window)
    chunk = max(1, CHUNK_POINTS // len(marks.ids))
    for start in range(0, len(seen.times), chunk):
        frames = slice(start, start + chunk)
        projection = project(points, state.params(frames), camera, unknowns, shared=len(system.video) > 0)
        residual = projection.pixels - seen.landmarks[frames][:, marks.ids]
        distance = residual.norm(dim=-1, keepdim=True) / (config.robust_px * scale)
        weight = marks.weight[:, None] / (config.landmark_px * scale) ** 2 / (1 + distance**2)
        by_video = None if projection.by_video is None else projection.by_video.flatten(1, 2)
        system.add(frames, projection.by_frame.flatten(1, 2), by_video, residual.flatten(1), weight.expand_as(residual).flatten(1))


def add_video_priors(system: NormalEquations, state: TrackState, seen: Observations, config: FitConfig) -> None:
    """Add the priors of identity and focal length."""
    precision = torch.full((len(state.shape) + 1,), config.identity**-2)
    precision[-1] = config.focal_deviation**-2
    system.add_video_prior(precision, torch.cat([state.shape, (state.log_focal - expected_focal(seen.window))[None]]))


def expected_focal(window: Camera) -> Float[Tensor, ""]:
    """Logarithm of a window's own focal length over its width."""
    return (window.intrinsics[0, 0] / window.width).log()


def landmark_step(
    head: HeadModel, points: SurfacePoints, marks: LandmarkSet, state: TrackState, seen: Observations, config: FitConfig, *, shared: bool
) -> TrackState:
    """One Gauss-Newton step of all frames, and of identity and focal length where they are shared."""
    unknowns, priors = Unknowns.of(head), Priors(head, seen, config)
    system = NormalEquations.zeros(len(seen.times), unknowns.size, len(state.shape) + 1 if shared else 0)
    add_landmarks(system, points, marks, state, seen, config)
    priors.add(system, state)
    if shared:
        add_video_priors(system, state, seen, config)
    step, video_step = system.solve(priors.coupling, priors.change(state))
    state = unknowns.update(state, step)
    if shared:
        state = replace(state, shape=state.shape + video_step[:-1], log_focal=state.log_focal + video_step[-1])
    return state
