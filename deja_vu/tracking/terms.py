"""What is measured of a face, as terms of the solver: landmarks, colors and silhouettes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.heads.base import HeadModel, SurfacePoints
from deja_vu.tracking.config import FitConfig, PhotometricConfig, SilhouetteConfig
from deja_vu.tracking.normal_equations import NormalEquations
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.silhouette import ContourPoints, Silhouettes
from deja_vu.tracking.state import Projection, TrackState, Unknowns, project
from deja_vu.tracking.surface import Surface, SurfaceView
from deja_vu.tracking.texture import CHUNK_FRAMES, Crops, SurfaceTexture, fit_light, sample_pixels, weigh_points

CHUNK_POINTS = 40_000
"""Landmarks differentiated at once; bounds the memory of a solver step to about 100 MB."""


@runtime_checkable
class Term(Protocol):
    """A measurement of the frames that a solver moves."""

    def add(self, system: NormalEquations, state: TrackState) -> None:
        """Add the measurement's normal equations at a state."""


@runtime_checkable
class CostTerm(Term, Protocol):
    """A measurement that can say how well a state agrees with it."""

    def cost(self, state: TrackState) -> float:
        """Half the sum of the residuals' robust squares: what steps lower."""


@dataclass(frozen=True)
class LandmarkPoints:
    """The places of n detector landmarks on a head."""

    points: SurfacePoints
    ids: Int[Tensor, " n"]
    """Index of each in the detector's output."""
    weight: Float[Tensor, " n"]
    """Trust in [0, 1]."""
    steady: Bool[Tensor, " n"]
    """Whether it stays on its place of the surface, so that it can tell a pose on its own."""

    @staticmethod
    def of(head: HeadModel, config: FitConfig) -> LandmarkPoints:
        """MediaPipe's landmarks."""
        marks = head.topology.landmarks["mediapipe"]
        return LandmarkPoints(head.at_points(marks.faces, marks.bary), marks.ids, marks.weight, marks.weight > config.steady_weight)


@dataclass(frozen=True)
class LandmarkTerm:
    """Robust reprojection errors of the landmarks."""

    landmarks: LandmarkPoints
    observations: Observations
    deviation_px: float
    """Deviation of a trusted landmark, pixels of a 512-pixel crop."""
    robust_px: float
    """Distance at which a landmark counts half, in the same pixels."""

    def add(self, system: NormalEquations, state: TrackState) -> None:
        """Two rows a landmark."""
        points, observations = self.landmarks.points, self.observations
        unknowns, scale = Unknowns.of(points), observations.window.width / 512
        camera = state.camera(observations.window)
        chunk = max(1, CHUNK_POINTS // len(self.landmarks.ids))
        for start in range(0, len(observations), chunk):
            frames = slice(start, start + chunk)
            projection = project(points, state.params(frames), camera, unknowns, share_identity=system.num_shared > 0)
            residual = projection.pixels - observations.landmarks[frames][:, self.landmarks.ids]
            distance = residual.norm(dim=-1, keepdim=True) / (self.robust_px * scale)
            weight = self.landmarks.weight[:, None] / (self.deviation_px * scale) ** 2 / (1 + distance**2)
            shared = None if projection.video_jacobian is None else projection.video_jacobian.flatten(1, 2)
            system.add(frames, projection.frame_jacobian.flatten(1, 2), shared, residual.flatten(1), weight.expand_as(residual).flatten(1))

    def cost(self, state: TrackState) -> float:
        """Half the sum of the residuals' robust squares (Cauchy's)."""
        scale, camera, total = self.observations.window.width / 512, state.camera(self.observations.window), 0.0
        for frames in torch.arange(len(self.observations)).split(4 * max(1, CHUNK_POINTS // len(self.landmarks.ids))):
            pixels, _ = camera.project(self.landmarks.points(state.params(frames)))
            distance = (pixels - self.observations.landmarks[frames][:, self.landmarks.ids]).norm(dim=-1) / (self.robust_px * scale)
            total += float((self.landmarks.weight * distance.square().log1p()).sum())
        return total * (self.robust_px / self.deviation_px) ** 2 / 2


@dataclass(frozen=True)
class ColorTerm:
    """Differences between every frame's colors and the relit texture."""

    surface: Surface
    texture: SurfaceTexture
    crops: Crops
    source: Int[Tensor, " T"]
    """Place of each of the solver's frames among the crops."""
    config: PhotometricConfig

    def add(self, system: NormalEquations, state: TrackState) -> None:
        """Two rows a visible point."""
        camera = state.camera(self.crops.camera)
        for start in range(0, len(self.source), CHUNK_FRAMES):
            frames = slice(start, start + CHUNK_FRAMES)
            view = self.surface.view(state, frames, camera)
            trust = weigh_points(view, self.crops.alpha[self.source[frames]], self.config)
            trust = trust * (self.texture.times_seen >= self.config.min_times_seen)
            used = (trust > 0).any(0).nonzero()[:, 0]
            projection = self.surface.differentiate(used, state, frames, camera, system.num_shared)
            self._add_chunk(system, frames, view.select(used), trust[:, used], self.texture.select(used), projection)

    def _add_chunk(
        self,
        system: NormalEquations,
        frames: slice,
        view: SurfaceView,
        trust: Float[Tensor, "B n"],
        texture: SurfaceTexture,
        projection: Projection,
    ) -> None:
        images, config = self.crops.rgb[self.source[frames]], self.config
        deviation = (texture.deviation**2 + config.color**2).sqrt()
        color = sample_pixels(images, view.pixels)
        residual = color - fit_light(color, view.normals, trust, replace(texture, deviation=deviation), config) * texture.color
        robust = 1 / (1 + residual.square().mean(-1) / (config.robust * deviation) ** 2) ** 2
        weight = (trust * robust).clamp_max(1) / deviation**2 / config.correlation
        dx, dy = view.pixels.new_tensor([1.0, 0.0]), view.pixels.new_tensor([0.0, 1.0])
        across, down = ((sample_pixels(images, view.pixels + step) - sample_pixels(images, view.pixels - step)) / 2 for step in (dx, dy))
        root, whitened = fold_channels(torch.stack([across, down], -1), residual)
        rows = (root @ projection.frame_jacobian).flatten(1, 2)
        video_jacobian = None if projection.video_jacobian is None else (root @ projection.video_jacobian).flatten(1, 2)
        system.add(frames, rows, video_jacobian, whitened.flatten(1), weight[..., None].expand_as(whitened).flatten(1))


def fold_channels(
    slope: Float[Tensor, "B P 3 2"], residual: Float[Tensor, "B P 3"]
) -> tuple[Float[Tensor, "B P 2 2"], Float[Tensor, "B P 2"]]:
    """Two rows that give the same normal equations as three channels: S = U'U (Cholesky), and residual U^-T G'r."""
    tensor = slope.transpose(-1, -2) @ slope
    a = tensor[..., 0, 0] + 1e-8
    c = tensor[..., 1, 1] + 1e-8
    b = tensor[..., 0, 1]
    u00 = a.sqrt()
    u01 = b / u00
    u11 = (c - u01**2).clamp_min(1e-8).sqrt()
    right = (slope * residual[..., None]).sum(-2)
    r0 = right[..., 0] / u00
    r1 = (right[..., 1] - u01 * r0) / u11
    zero = torch.zeros_like(u00)
    root = torch.stack([torch.stack([u00, u01], -1), torch.stack([zero, u11], -1)], -2)
    return root, torch.stack([r0, r1], -1)


@dataclass(frozen=True)
class SilhouetteTerm:
    """Distances of a surface's contour from the border of the person's matte, against where they are expected."""

    surface: Surface
    silhouettes: Silhouettes
    window: Camera
    """On the mattes' pixel grid."""
    source: Int[Tensor, " T"]
    """Place of each of the solver's frames among the mattes."""
    inset: Float[Tensor, " P"]
    """Expected distance of each surface point inside the border when it is on the contour, pixels of the matte."""
    config: SilhouetteConfig
    at_least: Bool[Tensor, " P"] | None = None
    """Points that may lie further inside than that: hair only ever adds to a head."""

    def add(self, system: NormalEquations, state: TrackState) -> None:
        """A row a sector of the contour."""
        camera, config = state.camera(self.window), self.config
        for start in range(0, len(self.source), CHUNK_FRAMES):
            frames = slice(start, start + CHUNK_FRAMES)
            pixels = self.surface.project(state, frames, camera)
            contour = self.silhouettes.find_contour(self.source[frames], pixels, self.surface.outer)
            used, places = contour.index.unique(return_inverse=True)
            projection = self.surface.differentiate(used, state, frames, camera, system.num_shared)
            residual = (contour.distance - self.inset[contour.index]) / config.pixels
            if self.at_least is not None:
                residual = torch.where(self.at_least[contour.index], residual.clamp_max(0), residual)
            weight = contour.trusted / (1 + (residual / config.robust) ** 2) ** 2 / config.correlation
            frame_jacobian = _differentiate_distance(contour, places, projection.frame_jacobian) / config.pixels
            video_jacobian = None
            if projection.video_jacobian is not None:
                video_jacobian = _differentiate_distance(contour, places, projection.video_jacobian) / config.pixels
            system.add(frames, frame_jacobian, video_jacobian, residual, weight)


def _differentiate_distance(
    contour: ContourPoints, places: Int[Tensor, "B n"], by_pixel: Float[Tensor, "B m 2 D"]
) -> Float[Tensor, "B n D"]:
    """Derivative of the contour's distances by what moves their points, which lie at `places` among the m projected ones."""
    chosen = by_pixel.gather(1, places[..., None, None].expand(-1, -1, *by_pixel.shape[2:]))
    return (contour.slope[..., None, :] @ chosen)[..., 0, :]
