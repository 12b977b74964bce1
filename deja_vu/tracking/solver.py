"""Solve for a face over a whole video: one identity and focal length, pose and expression of every frame, jointly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.core.errors import ConfigError, DivergedError
from deja_vu.core.sampling import evenly_spaced
from deja_vu.heads.base import HeadModel
from deja_vu.tracking.config import FitConfig
from deja_vu.tracking.normal_equations import NormalEquations
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.priors import Priors
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.terms import CostTerm, LandmarkPoints, LandmarkTerm, Term

FIRST_DAMPING = 1e-3
"""Damping after the first step that would raise the cost."""
MAX_DAMPING = 1e4
"""Damping beyond which no step is tried."""
DAMPING_RATIO = 10.0
"""Of the damping of one attempt to that of the last."""
MIN_START_DEPTH = 0.05
"""Nearest place of a head before the camera at which a fit begins, meters."""
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
        solver = FaceSolver(head, landmarks or LandmarkPoints.of(head, config), observations, Priors.of(head, observations, config))
        return solver if config.distance is None else replace(solver, priors=solver.priors.expect_focal(solver._expect_focal(config)))

    def _expect_focal(self, config: FitConfig) -> Float[Tensor, ""]:
        """Logarithm of the focal length at which a mean head would be as far as expected in half of the frames."""
        assert config.distance is not None
        usual = self.observations.expected_log_focal
        some = self.select(evenly_spaced(config.start_frames, len(self.observations)))
        depth = some.guess(usual).world_from_head[:, 2, 3].median()
        low, high = (math.log(bound / config.focal_ratio) for bound in config.focal_range)
        return usual + (math.log(config.distance) - depth.log()).clamp(low, high)

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
        system = self._linearize(state, terms, share_identity=share_identity)
        change = self.priors.change(state)
        return self.priors.unknowns.update(state, *system.solve(self.priors.coupling(change), change))

    def descend(self, state: TrackState, terms: Sequence[CostTerm], steps: int, *, share_identity: bool) -> tuple[TrackState, float]:
        """Gauss-Newton steps, damped (Levenberg and Marquardt) where they would raise the cost.

        Args:
            state: T frames.
            terms: what was measured in them; priors are added here.
            steps: the most; fewer where no damping lowers the cost any more.
            share_identity: whether to move identity and focal length too.

        Returns:
            The state of the lowest cost, and that cost.
        """
        cost, damping = self.cost(state, terms, share_identity=share_identity), 0.0
        for _ in range(steps):
            system = self._linearize(state, terms, share_identity=share_identity)
            change = self.priors.change(state)
            coupling = self.priors.coupling(change)
            while True:
                with suppress(DivergedError):
                    moved = self.priors.unknowns.update(state, *system.solve(coupling, change, damping))
                    lower = self.cost(moved, terms, share_identity=share_identity)
                    if lower <= cost:  # false for what is not a number
                        break
                damping = max(FIRST_DAMPING, damping * DAMPING_RATIO)
                if damping > MAX_DAMPING:
                    return state, cost
            state, cost = moved, lower
            damping = damping / DAMPING_RATIO if damping > FIRST_DAMPING else 0.0
        return state, cost

    def cost(self, state: TrackState, terms: Sequence[CostTerm], *, share_identity: bool) -> float:
        """What `descend` lowers: half the sum of all squared deviations, robust where the terms are."""
        return sum(term.cost(state) for term in terms) + self.priors.cost(state, share_identity=share_identity)

    def _linearize(self, state: TrackState, terms: Sequence[Term], *, share_identity: bool) -> NormalEquations:
        shared = len(state.shape) + 1 if share_identity else 0
        system = NormalEquations.zeros(len(self.observations), self.priors.unknowns.size, shared, state.expression.device)
        for term in terms:
            term.add(system, state)
        self.priors.add(system, state)
        return system

    def guess(self, log_focal: Float[Tensor, ""]) -> TrackState:
        """Mean identity, scored expressions, and the poses that follow from them at a focal length (logarithm, over the window's width)."""
        neutral = self.head.neutral((len(self.observations),))
        state = TrackState(
            shape=neutral.shape[0],
            log_focal=log_focal,
            expression=self.observations.score_expressions(self.head.spec.expression_names),
            joints=neutral.joints,
            world_from_head=neutral.world_from_head.clone(),
        )
        return self.find_poses(state)

    def find_poses(self, state: TrackState) -> TrackState:
        """Every frame's pose from its landmarks alone (perspective-n-point), with identity, focal length and expressions of the state."""
        device = state.world_from_head.device
        at_origin = replace(state.params(), world_from_head=torch.eye(4, device=device).expand(len(self.observations), 4, 4))
        points, steady = self.landmarks.points(at_origin).cpu(), self.landmarks.steady.cpu()
        intrinsics = state.camera(self.observations.window).intrinsics.double().cpu().numpy()
        seen, poses = self.observations.landmarks[:, self.landmarks.ids].cpu(), state.world_from_head.cpu().clone()
        for frame in range(len(poses)):
            model = points[frame, steady].double().numpy()
            image = seen[frame][steady].double().numpy()
            _, rotation, translation = cv2.solvePnP(model, image, intrinsics, np.zeros(4), flags=cv2.SOLVEPNP_SQPNP)
            poses[frame, :3, :3] = torch.from_numpy(cv2.Rodrigues(rotation)[0])
            poses[frame, :3, 3] = torch.from_numpy(translation[:, 0])
        poses[:, 2, 3] = poses[:, 2, 3].clamp_min(MIN_START_DEPTH)
        return replace(state, world_from_head=poses.to(device))

    def landmark_term(self, config: FitConfig) -> LandmarkTerm:
        """The landmarks of the solver's frames, as strong as a recipe has them."""
        return LandmarkTerm(self.landmarks, self.observations, config.landmark_px, config.robust_px)

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
    part = solver.select(spread)
    state, _ = part.descend(_find_start(part, config), [part.landmark_term(config)], config.steps, share_identity=True)
    if len(spread) == frames:
        return state
    every = solver.find_poses(replace(solver.guess(state.log_focal), shape=state.shape))
    return solver.descend(every, [solver.landmark_term(config)], config.steps, share_identity=False)[0]


def _find_start(solver: FaceSolver, config: FitConfig) -> TrackState:
    """Where a fit to all frames begins: of the fits to few frames from several focal lengths, the one of the lowest cost."""
    few = solver.select(evenly_spaced(config.start_frames, len(solver.observations)))
    term, fits = few.landmark_term(config), []
    for ratio in config.start_ratios:
        start = few.guess(few.observations.expected_log_focal + math.log(ratio / config.focal_ratio))
        fits.append(few.descend(start, [term], config.start_steps, share_identity=True))
    best = min(fits, key=lambda fit: fit[1])[0]
    return solver.find_poses(replace(solver.guess(best.log_focal), shape=best.shape))
