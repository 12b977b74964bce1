"""The head in one photo: found, cropped, cut out, and fitted to its landmarks and its outline."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import TracebackType

import cv2
import numpy as np
import torch
from torch import Tensor

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.core.camera import Camera
from deja_vu.core.errors import InputError
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import Frame
from deja_vu.heads.base import HeadModel
from deja_vu.io.images import Picture
from deja_vu.tracking.config import FitConfig, PhotoConfig
from deja_vu.tracking.detector import FaceObservation
from deja_vu.tracking.landmarks import MIN_FACE_PX, Crop, FaceFinder, cut, cut_valid, find_crop
from deja_vu.tracking.letterbox import BarFinder
from deja_vu.tracking.masks import HeadMasks
from deja_vu.tracking.matte import Matting
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.silhouette import Silhouettes
from deja_vu.tracking.solver import FaceSolver, fit_landmarks, refuse_untrackable
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.surface import HeadSurface
from deja_vu.tracking.terms import LandmarkTerm, SilhouetteTerm

OUTLINE_SIDE = 256
"""Side of the matte on which the outline is measured, pixels."""
RIM = (10, 152, 234, 454, 127, 356, 172, 397)
"""Landmarks at hairline, chin, ears and jaw: those that a face cut by the border loses first."""
BEYOND_BORDER = 0.04
"""Share of the face's width by which the rim may lie outside the picture; landmarks are found there, but guessed."""
LARGEST_TURN = 62.0
"""Turn of the head out of the camera's axis up to which both eyes are seen, degrees."""
STATED_FOCAL_DEVIATION = 0.05
"""Deviation of the logarithm of a focal length that the camera states."""


@dataclass(frozen=True)
class FittedPhoto:
    """A photo's head, ready to be lifted."""

    portrait: Portrait
    crop: Crop
    notes: tuple[str, ...]
    error_px: float
    """Median distance of the landmarks from the fitted surface, pixels of the crop."""


class PhotoFitter:
    """Fits a head to photos, one after the other; use it in a `with` block."""

    def __init__(self, head: HeadModel, config: PhotoConfig) -> None:
        """Load detector and segmenter.

        Args:
            head: model with MediaPipe landmarks.
            config: recipe.

        Raises:
            ConfigError: the head cannot be tracked.
            MissingAssetError: a model file or package is absent.
        """
        refuse_untrackable(head)
        self.head, self.config = head, config
        self.masks, self.surface = HeadMasks(head), HeadSurface(head, 64)
        self._finder = FaceFinder()
        self._matting = Matting()

    def __enter__(self) -> PhotoFitter:
        self._finder.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._finder.__exit__(kind, value, traceback)
        self._matting.__exit__(kind, value, traceback)

    def fit(self, picture: Picture, name: str, identity: str) -> FittedPhoto:
        """Find the head of one photo and fit the model to it.

        Args:
            picture: photo.
            name: how messages and the portrait call it.
            identity: who it shows.

        Raises:
            InputError: no face, or one that is too small, cut by the border, or in profile.
        """
        config, rgb = self.config, picture.rgb
        face, notes = self._choose(rgb, name)
        height, width = rgb.shape[:2]
        crop = find_crop(face.landmarks[None], width, height)
        face = self._look_closely(rgb, face, crop)
        side = config.resolution
        landmarks = (face.landmarks[:, :2] - [crop.x0, crop.y0]) * (side / crop.size)
        bars = BarFinder()
        bars.add(rgb)
        filmed = bars.filmed(height, width)
        valid = cut_valid(filmed, crop, side)
        self._matting.forget()
        matte = self._matting(cut(rgb, crop, side, filmed=filmed), landmarks.astype(np.float32), valid=valid)
        seen, fit = self._observations(face, landmarks, crop, picture, (width, height))
        solver = FaceSolver.of(self.head, seen, fit)
        state = fit_landmarks(solver, fit)
        if config.outline_steps:
            state = self._follow_outline(solver, state, fit, matte.alpha, valid)
        camera, params = state.camera(seen.window), state.params()
        weight, eyes_mouth = self.masks.render(params, camera, side)
        above = np.rint(matte.alpha * (weight[0] / 255.0)).astype(np.uint8)
        planes = (matte.foreground, matte.alpha, above, eyes_mouth[0], valid)
        frame = Frame(*(torch.from_numpy(np.ascontiguousarray(plane)) for plane in planes))
        error = float(solver.landmark_errors(state).median())
        return FittedPhoto(Portrait(name, identity, frame, params, camera), crop, (*picture.notes, *notes), error)

    def _choose(self, rgb: np.ndarray, name: str) -> tuple[FaceObservation, list[str]]:
        """The largest face, if it can be used."""
        self._finder.forget()
        faces = self._finder.find(rgb)
        if not faces:
            raise InputError(f"{name}: no face was found. Expected one person, face to the camera, well lit.")
        face = max(faces, key=lambda face: face.width)
        notes = [f"{name} shows {len(faces)} faces; the largest is taken."] if len(faces) > 1 else []
        if face.width < MIN_FACE_PX:
            raise InputError(f"{name}: the face is {face.width:.0f} pixels wide; at least {MIN_FACE_PX} are needed, 200 or more are good.")
        turn = math.degrees(math.acos(float(np.clip(face.transform[2, 2] / np.linalg.norm(face.transform[:3, 2]), -1, 1))))
        if turn > LARGEST_TURN:
            raise InputError(
                f"{name}: the head is turned {turn:.0f} degrees away; {LARGEST_TURN:.0f} is the most.\nTake a photo that shows both eyes."
            )
        rim = face.landmarks[list(RIM), :2]
        beyond = float(np.maximum(-rim, rim - [rgb.shape[1], rgb.shape[0]]).max())
        if beyond > BEYOND_BORDER * face.width:
            raise InputError(
                f"{name}: the face is cut by the picture's border ({beyond:.0f} pixels are missing). Take one that holds all of it."
            )
        return face, notes

    def _look_closely(self, rgb: np.ndarray, face: FaceObservation, crop: Crop) -> FaceObservation:
        """The same face, its landmarks and scores averaged over several windows about it."""
        seen = [other for scale in self.config.looks if (other := self._finder.again(rgb, face, _scaled(crop, scale))) is not None]
        if not seen:
            return face
        marks, scores = (np.mean([getattr(other, name) for other in seen], axis=0) for name in ("landmarks", "blendshapes"))
        return replace(face, landmarks=marks.astype(np.float32), blendshapes=scores.astype(np.float32))

    def _observations(
        self, face: FaceObservation, landmarks: np.ndarray, crop: Crop, picture: Picture, size: tuple[int, int]
    ) -> tuple[Observations, FitConfig]:
        """What the solver needs, with the focal length that the camera states where it does."""
        side, fit = self.config.resolution, self.config.fit
        if picture.focal_ratio is not None:
            fit = replace(fit, focal_ratio=picture.focal_ratio, focal_deviation=STATED_FOCAL_DEVIATION)
        whole = Camera.from_focal(fit.focal_ratio * max(size), *size)
        window = whole.cropped(crop.x0, crop.y0, crop.size, crop.size).resized(side, side)
        marks, scores = (torch.from_numpy(values)[None].float() for values in (landmarks, face.blendshapes))
        return Observations(marks, scores, ARKIT_NAMES, window, torch.zeros(1)), fit

    def _follow_outline(self, solver: FaceSolver, state: TrackState, fit: FitConfig, alpha: np.ndarray, valid: np.ndarray) -> TrackState:
        """Pull temples and ears to the matte's border, and push the scalp inside it: hair only ever adds to the head."""
        silhouette = SilhouetteTerm(
            surface=self.surface,
            silhouettes=Silhouettes(_shrunk(alpha)[None], _shrunk(valid)),
            window=solver.observations.window.resized(OUTLINE_SIDE, OUTLINE_SIDE),
            source=torch.zeros(1, dtype=torch.long),
            inset=torch.zeros(len(self.surface.layout)),
            config=self.config.outline,
            at_least=self.surface.scalp,
        )
        landmarks = LandmarkTerm(solver.landmarks, solver.observations, fit.landmark_px, fit.robust_px)
        for _ in range(self.config.outline_steps):
            state = solver.step(state, (landmarks, silhouette), share_identity=True)
        return state


def _shrunk(plane: np.ndarray) -> Tensor:
    return torch.from_numpy(cv2.resize(plane, (OUTLINE_SIDE, OUTLINE_SIDE), interpolation=cv2.INTER_AREA))


def _scaled(crop: Crop, factor: float) -> Crop:
    """The window about the same middle, `factor` times as large."""
    size = round(crop.size * factor)
    shift = (crop.size - size) // 2
    return Crop(crop.x0 + shift, crop.y0 + shift, size)
