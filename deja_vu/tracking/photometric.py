"""Refine pose and expression by the pixels: every frame against a texture of the same head lifted from training frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deja_vu.core.sampling import evenly_spaced
from deja_vu.tracking.config import FitConfig, PhotometricConfig
from deja_vu.tracking.priors import Priors
from deja_vu.tracking.silhouette import Silhouettes, mean_distance
from deja_vu.tracking.solver import FaceSolver
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.surface import HeadSurface
from deja_vu.tracking.terms import ColorTerm, LandmarkTerm, SilhouetteTerm, Term
from deja_vu.tracking.texture import CHUNK_FRAMES, Crops, SurfaceTexture, lift_texture
from deja_vu.uv.attach import attach
from deja_vu.uv.hull import HairHull


class PhotometricRefiner:
    """Alternates between lifting the texture from training frames and moving all frames onto it."""

    def __init__(self, solver: FaceSolver, crops: Crops, train: Bool[Tensor, " T"], config: PhotometricConfig, fit: FitConfig) -> None:
        """Prepare a refinement; nothing is computed yet.

        Args:
            solver: of all T frames.
            crops: of the same frames.
            train: frames from which texture and identity are taken.
            config: recipe.
            fit: deviations of landmarks and priors where the recipe has none of its own.
        """
        priors = Priors.of(solver.head, solver.observations, replace(fit, expression=config.expression))
        priors = priors.expect_focal(solver.priors.shared_mean[-1])
        self.solver, self.crops, self.config, self.fit = replace(solver, priors=priors), crops, config, fit
        self.train = train.nonzero()[:, 0]

    def refine(self, state: TrackState) -> tuple[TrackState, SurfaceTexture]:
        """Run all rounds; every frame, trained on or not, is moved alike. Returns the new state and its texture."""
        config, everything = self.config, torch.arange(len(state.expression), device=state.expression.device)
        surface, silhouettes = HeadSurface(self.solver.head, config.point_grid), None
        for turn in range(config.rounds):
            if turn == 1:
                surface = HeadSurface(self.solver.head, config.point_grid, self._find_hair_heights(surface, state))
                if config.silhouette.pixels:
                    silhouettes = Silhouettes(self.crops.alpha, self.crops.valid, config.silhouette)
            if config.video_frames:
                picked = _spread(self.train, config.video_frames)
                state = self._refine_video(surface, silhouettes, state, picked)
                terms = self._measure(surface, silhouettes, state, picked, everything, config.landmark_px)
            else:
                terms = self._measure(surface, silhouettes, state, self.train, everything, config.landmark_px)
            for _ in range(config.steps):
                state = self.solver.step(state, terms, share_identity=False)
        return state, lift_texture(surface, self.crops, state, _spread(self.train, config.texture_frames), config)

    def _refine_video(
        self, surface: HeadSurface, silhouettes: Silhouettes | None, state: TrackState, picked: Int[Tensor, " n"]
    ) -> TrackState:
        """Refine identity and focal length along with some frames.

        The other frames' poses still belong to the former identity; their distance follows the focal length, so that sizes hold.
        """
        some, solver = state.select(picked), self.solver.select(picked)
        terms = self._measure(surface, silhouettes, state, self.train, picked, self.config.video_landmark_px)
        for _ in range(self.config.steps):
            some = solver.step(some, terms, share_identity=True)
        pose = state.world_from_head.clone()
        pose[:, 2, 3] *= (some.log_focal - state.log_focal).exp()
        return replace(state, world_from_head=pose).insert(picked, some)

    def _measure(
        self,
        surface: HeadSurface,
        silhouettes: Silhouettes | None,
        state: TrackState,
        lift_from: Int[Tensor, " n"],
        source: Int[Tensor, " m"],
        landmark_px: float,
    ) -> Sequence[Term]:
        """Terms of the frames `source`, whose expected colors and silhouette are those of the frames `lift_from`."""
        config, lifted = self.config, _spread(lift_from, self.config.texture_frames)
        observations = self.solver.observations.select(source)
        texture = lift_texture(surface, self.crops, state, lifted, config)
        terms: list[Term] = [
            LandmarkTerm(self.solver.landmarks, observations, landmark_px, self.fit.robust_px),
            ColorTerm(surface, texture, self.crops, source, config),
        ]
        if silhouettes is not None:
            inset = self._find_inset(surface, silhouettes, state, lifted)
            terms.append(SilhouetteTerm(surface, silhouettes, self.crops.camera, source, inset, config.silhouette))
        return terms

    def _find_hair_heights(self, surface: HeadSurface, state: TrackState) -> Float[Tensor, " P"]:
        """How far hair stands off each point, from the silhouettes of training frames."""
        hull, camera = HairHull(len(surface.layout), device=state.expression.device), state.camera(self.crops.camera)
        for chunk in _spread(self.train, self.config.hull_frames).split(CHUNK_FRAMES):
            frames = attach(surface.head(state.params(chunk)), surface.head.topology.faces, surface.layout)
            foreground = self.crops.alpha[chunk][..., None].float() / 255
            hull.add(frames, camera, foreground, (self.crops.valid / 255.0)[None, ..., None].expand_as(foreground))
        return hull.estimate_heights(surface.layout, surface.scalp)

    def _find_inset(
        self, surface: HeadSurface, silhouettes: Silhouettes, state: TrackState, frames: Int[Tensor, " n"]
    ) -> Float[Tensor, " P"]:
        """How far inside the matte's border each point of the contour lies in some frames: what hair and cheeks add to the mesh."""
        config, camera = self.config.silhouette, state.camera(self.crops.camera)
        contours = [
            silhouettes.find_contour(chunk, surface.project(state, chunk, camera), surface.outer) for chunk in frames.split(CHUNK_FRAMES)
        ]
        inset = mean_distance(contours, surface.layout, config.pixels * config.robust)
        return torch.where(surface.scalp, inset, inset.clamp_min(0))


def _spread(frames: Int[Tensor, " n"], count: int) -> Int[Tensor, " m"]:
    """At most so many of the frames, evenly spaced."""
    return frames[evenly_spaced(count, len(frames))]
