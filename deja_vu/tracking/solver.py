"""Solve for a face over a whole video: one identity and focal length, pose and expression of every frame, jointly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.core.errors import ConfigError
from deja_vu.core.sampling import evenly_spaced
from deja_vu.heads.base import HeadModel
from deja_vu.tracking.config import FitConfig
from deja_vu.tracking.normal_equations import NormalEquations
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.priors import Priors
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.terms import LandmarkPoints, LandmarkTerm, Term

NEEDED_REGIONS = ("skin", "face", "scalp", "neck", "eye_left", "eye_right")
"""Regions that tracker and avatar ask for by name."""


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


@dataclass(frozen=True)
class FaceSolver:
    """Gauss-Newton steps on a face over T frames. What is measured is passed in with each step, as terms."""

    head: HeadModel
    landmarks: LandmarkPoints
    observations: Observations
    priors: Priors

    @staticmethod
    def of(head: HeadModel, observations: Observations, config: FitConfig, landmarks: LandmarkPoints | None = None) -> FaceSolver:
        """A solver with the usual priors.

        Args:
            head: model with a `mediapipe` landmark set.
            observations: frames in which a face was found.
            config: deviations.
            landmarks: the head's, where they are at hand.
        """
        return FaceSolver(head, landmarks or LandmarkPoints.of(head, config), observations, Priors.of(head, observations, config))

    def select(self, frames: Int[Tensor, " n"]) -> FaceSolver:
        """The solver of some of the frames."""
        return replace(self, observations=self.observations.select(frames), priors=self.priors.select(frames))

    def step(self, state: TrackState, terms: Sequence[Term], *, share_identity: bool) -> TrackState:
        """One Gauss-Newton step on the frames' unknowns.

        Args:
            state: T frames.
            terms: what was measured in them; priors are added here.
            share_identity: whether to move identity and focal length too.
        """
        unknowns = self.priors.unknowns
        system = NormalEquations.zeros(len(self.observations), unknowns.size, len(state.shape) + 1 if share_identity else 0)
        for term in terms:
            term.add(system, state)
        self.priors.add(system, state)
        return unknowns.update(state, *system.solve(self.priors.coupling, self.priors.change(state)))

    def guess(self) -> TrackState:
        """Mean identity, scored expressions, and the poses that follow from them."""
        neutral = self.head.neutral((len(self.observations),))
        state = TrackState(
            shape=neutral.shape[0],
            log_focal=self.observations.expected_log_focal,
            expression=self.observations.score_expressions(self.head.spec.expression_names),
            joints=neutral.joints,
            world_from_head=neutral.world_from_head.clone(),
        )
        return self.find_poses(state)

    def find_poses(self, state: TrackState) -> TrackState:
        """Every frame's pose from its landmarks alone (perspective-n-point), with identity, focal length and expressions of the state."""
        at_origin = replace(state.params(), world_from_head=torch.eye(4).expand(len(self.observations), 4, 4))
        points, steady = self.landmarks.points(at_origin), self.landmarks.steady
        intrinsics = state.camera(self.observations.window).intrinsics.double().numpy()
        poses = state.world_from_head.clone()
        for frame in range(len(poses)):
            model = points[frame, steady].double().numpy()
            image = self.observations.landmarks[frame, self.landmarks.ids][steady].double().numpy()
            _, rotation, translation = cv2.solvePnP(model, image, intrinsics, np.zeros(4), flags=cv2.SOLVEPNP_SQPNP)
            poses[frame, :3, :3] = torch.from_numpy(cv2.Rodrigues(rotation)[0])
            poses[frame, :3, 3] = torch.from_numpy(translation[:, 0])
        return replace(state, world_from_head=poses)

    def landmark_errors(self, state: TrackState) -> Float[Tensor, "T n"]:
        """Distance of every landmark from its fitted surface point, pixels of the window."""
        pixels, _ = state.camera(self.observations.window).project(self.landmarks.points(state.params()))
        return (pixels - self.observations.landmarks[:, self.landmarks.ids]).norm(dim=-1)


def fit_landmarks(solver: FaceSolver, config: FitConfig) -> TrackState:
    """Solve identity and focal length on frames spread over the video, then pose and expression of all frames.

    Args:
        solver: of the frames in which a face was found.
        config: deviations and steps.

    Returns:
        State whose world space is the camera's.
    """
    frames = len(solver.observations)
    spread = evenly_spaced(config.identity_frames, frames)
    state = solver.guess()
    some, part = state.select(spread), solver.select(spread)
    terms = [LandmarkTerm(part.landmarks, part.observations, config.landmark_px, config.robust_px)]
    for _ in range(config.steps):
        some = part.step(some, terms, share_identity=True)
    if len(spread) == frames:
        return some
    state = solver.find_poses(replace(state, shape=some.shape, log_focal=some.log_focal))
    terms = [LandmarkTerm(solver.landmarks, solver.observations, config.landmark_px, config.robust_px)]
    for _ in range(config.steps):
        state = solver.step(state, terms, share_identity=False)
    return state
