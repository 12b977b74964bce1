"""The head in one photo: found, cropped, matted, and fitted to its landmarks and its silhouette; on request also the torso."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.errors import InputError
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import Frame
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import BUST_HEAD
from deja_vu.io.images import Picture
from deja_vu.tracking.config import FitConfig, PhotoConfig
from deja_vu.tracking.crop import Crop, crop_frame, crop_valid, find_crop, find_person_crop, shrink
from deja_vu.tracking.detector import FaceObservation
from deja_vu.tracking.landmarks import FaceFinder
from deja_vu.tracking.letterbox import Filmed, LetterboxFinder
from deja_vu.tracking.masks import HeadMasks, head_alpha
from deja_vu.tracking.matte import Matte, Matting
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.silhouette import Silhouettes
from deja_vu.tracking.solver import FaceSolver, fit_landmarks, refuse_untrackable
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.surface import HeadSurface
from deja_vu.tracking.terms import LandmarkTerm, SilhouetteTerm
from deja_vu.tracking.texture import Crops
from deja_vu.tracking.torso import track_torso

RIM = (10, 152, 234, 454, 127, 356, 172, 397)
"""Landmarks at hairline, chin, ears and jaw: those that a face cut by the border loses first."""


CPU = torch.device("cpu")


@dataclass(frozen=True)
class FittedPhoto:
    """A photo's head, ready to be lifted."""

    portrait: Portrait
    crop: Crop
    notes: tuple[str, ...]
    error_px: float
    """Median distance of the landmarks from the fitted surface, pixels of the crop."""
    person: FittedPerson | None = None
    """Neck and torso, where they were asked for and the head has a bust."""


@dataclass(frozen=True)
class FittedPerson:
    """The window with neck and torso around a photo's head."""

    portrait: Portrait
    """Its parameters are those of the head's portrait, with the torso's pose."""
    crop: Crop
    torso_shape: Float[Tensor, " K"]
    """Coefficients of the bust's own components."""


@dataclass(frozen=True)
class _Photo:
    """One photo while its head is fitted."""

    picture: Picture
    name: str
    identity: str
    face: FaceObservation
    filmed: Filmed
    fit: FitConfig


class PhotoFitter:
    """Fits a head to photos, one after the other; use it in a `with` block."""

    def __init__(self, head: HeadModel, config: PhotoConfig, device: torch.device = CPU) -> None:
        """Load detector and segmenter.

        Args:
            head: model with MediaPipe landmarks.
            config: recipe.
            device: where the head is fitted; faces, mattes, masks and the torso are found on the CPU.

        Raises:
            ConfigError: the head cannot be tracked.
            MissingAssetError: a model file or package is absent.
        """
        refuse_untrackable(head)
        self.head, self.config = head, config
        self.masks, self._there = HeadMasks(head, config.masks), head.copy().to(device)
        self.surface = HeadSurface(self._there, config.point_grid)
        self._finder = FaceFinder(config.detection)
        self._matting = Matting(config.matte)

    def __enter__(self) -> PhotoFitter:
        self._finder.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._finder.__exit__(kind, value, traceback)
        self._matting.__exit__(kind, value, traceback)

    def fit_all(self, pictures: Sequence[tuple[str, Picture]], identity: str, *, with_torso: bool = False) -> list[FittedPhoto]:
        """Fit one person's head to several photos, each with a lens and a pose of its own: all get the mean of the identities.

        Args:
            pictures: names and photos.
            identity: who they show.
            with_torso: whether to fit neck and torso of the first one, too.

        Raises:
            InputError: as of `fit`.
        """
        if len(pictures) == 1:
            return [self.fit(pictures[0][1], pictures[0][0], identity, with_torso=with_torso)]
        alone = [self.fit(picture, name, identity) for name, picture in pictures]
        shapes = torch.stack([fitted.portrait.params.shape[0] for fitted in alone])
        return [
            self.fit(picture, name, identity, with_torso=with_torso and place == 0, shape=shapes.mean(0))
            for place, (name, picture) in enumerate(pictures)
        ]

    def fit(
        self, picture: Picture, name: str, identity: str, *, with_torso: bool = False, shape: Float[Tensor, " S"] | None = None
    ) -> FittedPhoto:
        """Find the head of one photo and fit the model to it.

        Args:
            picture: photo.
            name: how messages and the portrait call it.
            identity: who it shows.
            with_torso: whether to fit neck and torso too.
            shape: the person's identity, where it is known; fitted otherwise.

        Raises:
            InputError: no face, or one that is too small, cut by the border, or in profile.
        """
        rgb, side = picture.rgb, self.config.resolution
        height, width = rgb.shape[:2]
        face, notes = self._choose_face(rgb, name)
        crop = find_crop(face.landmarks[None], width, height, self.config.detection.crop)
        face = self._average_windows(rgb, face, crop)
        landmarks = crop.map_points(face.landmarks[:, :2], side)
        letterbox = LetterboxFinder(self.config.detection.letterbox)
        letterbox.add(rgb)
        filmed = letterbox.find_filmed(height, width)
        fit = self.config.fit
        if picture.focal_ratio is not None:
            fit = replace(fit, distance=None, focal_ratio=picture.focal_ratio, focal_deviation=self.config.stated_focal_deviation)
        photo = _Photo(picture, name, identity, face, filmed, fit)
        window, matte, valid = self._cut_out(photo, crop)
        seen = Observations.of(landmarks[None], face.blendshapes[None], np.zeros(1), window).to(self._there.template.device)
        solver = FaceSolver.of(self._there, seen, fit)
        state = fit_landmarks(solver, fit)
        if shape is not None:
            state = replace(state, shape=shape.to(state.shape.device))
            for _ in range(fit.steps):
                state = solver.step(state, (solver.landmark_term(fit),), share_identity=False)
        elif self.config.silhouette_steps:
            state = self._follow_silhouette(solver, state, fit, matte.alpha, valid)
        error, state = float(solver.landmark_errors(state).median()), state.to(CPU)
        person, remarks = self._find_torso(photo, crop, state) if with_torso and self.head.spec.name == BUST_HEAD else (None, ())
        portrait = self._portray(photo, state, window, matte, valid)
        return FittedPhoto(portrait, crop, (*picture.notes, *notes, *remarks), error, person)

    def _cut_out(self, photo: _Photo, crop: Crop) -> tuple[Camera, Matte, UInt8[np.ndarray, "H W"]]:
        """The camera of a window with the expected focal length, its matte, and where it shows what was filmed."""
        rgb, side = photo.picture.rgb, self.config.resolution
        window = crop.camera(photo.fit.focal_ratio, rgb.shape[1], rgb.shape[0], side)
        valid, landmarks = crop_valid(photo.filmed, crop, side), crop.map_points(photo.face.landmarks[:, :2], side)
        self._matting.reset()
        return window, self._matting(crop_frame(rgb, crop, side, filmed=photo.filmed), landmarks, valid=valid), valid

    def _portray(self, photo: _Photo, state: TrackState, window: Camera, matte: Matte, valid: UInt8[np.ndarray, "H W"]) -> Portrait:
        """What a window shows of the fitted head, with its masks."""
        camera, params = state.camera(window), state.params()
        weight, eyes_mouth = self.masks.render(params, camera, self.config.resolution)
        planes = {
            "image": matte.foreground,
            "foreground": matte.alpha,
            "head": head_alpha(matte.alpha, weight[0]),
            "eyes_mouth": eyes_mouth[0],
            "valid": valid,
        }
        frame = Frame(**{name: torch.from_numpy(np.ascontiguousarray(plane)) for name, plane in planes.items()})
        return Portrait(photo.name, photo.identity, frame, params, camera)

    def _find_torso(self, photo: _Photo, crop: Crop, state: TrackState) -> tuple[FittedPerson, tuple[str, ...]]:
        """Neck and torso, by their outline and by what torsos do."""
        config, small = self.config, self.config.person_small
        wide = find_person_crop(crop, photo.filmed, config.person_window)
        window, matte, valid = self._cut_out(photo, wide)
        crops = Crops(
            shrink(matte.foreground, small)[None], shrink(matte.alpha, small)[None], shrink(valid, small), window.resize(small, small)
        )
        widened = state.widen(wide.size / crop.size)
        found, remarks = track_torso(self.head, widened, crops, torch.ones(1, dtype=torch.bool), torch.zeros(1), config.torso)
        portrait = self._portray(photo, found, window, matte, valid)
        return FittedPerson(portrait, wide, found.torso_shape), tuple(remark.replace("the film", photo.name) for remark in remarks)

    def _choose_face(self, rgb: np.ndarray, name: str) -> tuple[FaceObservation, list[str]]:
        """The largest face, if it can be used."""
        self._finder.reset()
        faces = self._finder.find(rgb)
        if not faces:
            raise InputError(f"{name}: no face was found. Expected one person, face to the camera, well lit.")
        face = max(faces, key=lambda face: face.width)
        notes = [f"{name} shows {len(faces)} faces; the largest is taken."] if len(faces) > 1 else []
        least = self.config.detection.min_face_px
        if face.width < least:
            raise InputError(f"{name}: the face is {face.width:.0f} pixels wide; at least {least} are needed, 200 or more are good.")
        turn = math.degrees(math.acos(float(np.clip(face.transform[2, 2] / np.linalg.norm(face.transform[:3, 2]), -1, 1))))
        if turn > self.config.max_turn:
            raise InputError(
                f"{name}: the head is turned {turn:.0f} degrees away; {self.config.max_turn:.0f} is the most. "
                "Take a photo that shows both eyes."
            )
        rim = face.landmarks[list(RIM), :2]
        beyond = float(np.maximum(-rim, rim - [rgb.shape[1], rgb.shape[0]]).max())
        if beyond > self.config.max_beyond_border * face.width:
            raise InputError(
                f"{name}: the face is cut by the picture's border ({beyond:.0f} pixels are missing). Take one that holds all of it."
            )
        return face, notes

    def _average_windows(self, rgb: np.ndarray, face: FaceObservation, crop: Crop) -> FaceObservation:
        """The same face, its landmarks and scores averaged over several windows about it."""
        scales = self.config.window_scales
        found = [other for scale in scales if (other := self._finder.find_again(rgb, face, crop.scale(scale))) is not None]
        if not found:
            return face
        marks, scores = (np.mean([getattr(other, name) for other in found], axis=0) for name in ("landmarks", "blendshapes"))
        return replace(face, landmarks=marks.astype(np.float32), blendshapes=scores.astype(np.float32))

    def _follow_silhouette(
        self, solver: FaceSolver, state: TrackState, fit: FitConfig, alpha: UInt8[np.ndarray, "H W"], valid: UInt8[np.ndarray, "H W"]
    ) -> TrackState:
        """Pull temples and ears to the matte's border, and push the scalp inside it: hair only ever adds to the head."""
        side, device = self.config.silhouette_side, self._there.template.device
        silhouette = SilhouetteTerm(
            surface=self.surface,
            silhouettes=Silhouettes(shrink(alpha, side)[None].to(device), shrink(valid, side), self.config.silhouette),
            window=solver.observations.window.resize(side, side),
            source=torch.zeros(1, dtype=torch.long, device=device),
            inset=torch.zeros(len(self.surface.layout), device=device),
            config=self.config.silhouette,
            at_least=self.surface.scalp,
        )
        landmarks = LandmarkTerm(solver.landmarks, solver.observations, fit.landmark_px, fit.robust_px)
        for _ in range(self.config.silhouette_steps):
            state = solver.step(state, (landmarks, silhouette), share_identity=True)
        return state


def fit_photo(head: HeadModel, picture: Picture, name: str, identity: str, config: PhotoConfig, *, with_torso: bool = False) -> FittedPhoto:
    """Find the head of one photo and fit the model to it; `PhotoFitter` does the same for many.

    Args:
        head: model with MediaPipe landmarks.
        picture: photo.
        name: how messages and the portrait call it.
        identity: who it shows.
        config: recipe.
        with_torso: whether to fit neck and torso too.

    Raises:
        ConfigError: the head cannot be tracked.
        InputError: no face, or one that is too small, cut by the border, or in profile.
        MissingAssetError: a model file or package is absent.
    """
    with PhotoFitter(head, config) as fitter:
        return fitter.fit(picture, name, identity, with_torso=with_torso)
