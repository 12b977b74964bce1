"""One person's face through a video: found, tracked, cropped."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.core.errors import InputError
from deja_vu.io.decode import FileMark, refuse_changed
from deja_vu.io.video import Image, InputWarning, VideoInfo, probe, read_frames
from deja_vu.tracking.crop import Crop, find_crop
from deja_vu.tracking.detection_config import DetectionConfig
from deja_vu.tracking.detector import NUM_LANDMARKS, FaceObservation, LandmarkDetector, overlap
from deja_vu.tracking.letterbox import Filmed, LetterboxFinder
from deja_vu.tracking.people import choose_person, drop_outliers, find_crowded_frame, sort_from_left

TURNED = {1: "on its side, to the right", 2: "upside down", 3: "on its side, to the left"}
"""How a face lies, by the quarter turns to the left that bring it upright."""


@dataclass(frozen=True)
class Crowd:
    """The faces of the first frame that shows several at once."""

    index: int
    """Position of the frame among the file's frames."""
    boxes: Float[np.ndarray, "n 4"]
    """Of each face, from the left: x0, y0, x1, y1 in pixels."""
    followed: int | None
    """Which of them is followed; None where the followed face is seen only later."""


@dataclass(frozen=True)
class Detections:
    """The followed face in all T frames that were read."""

    info: VideoInfo
    frames_read: int
    """Frames looked at."""
    index: Int[np.ndarray, " T"]
    """Position of each frame among the file's frames."""
    times: Float[np.ndarray, " T"]
    """Seconds since the file's start."""
    found: Bool[np.ndarray, " T"]
    """Whether the face was found."""
    landmarks: Float[np.ndarray, "T 478 3"]
    """As in `FaceObservation`; NaN where no face was found."""
    scores: Float[np.ndarray, "T 52"]
    """Expression scores ordered as `ARKIT_NAMES`; NaN where no face was found."""
    transforms: Float[np.ndarray, "T 4 4"]
    """As in `FaceObservation`; NaN where no face was found."""
    crop: Crop
    """Window around the head in all frames."""
    filmed: Filmed
    """What bars leave of the picture in the frames with a face."""
    mark: FileMark
    """Of the file before it was read."""
    turn: int = 0
    """Quarter turns to the left that bring the file's pictures upright; all pixels here are those of turned pictures."""
    crowd: Crowd | None = None
    """Who else is seen, where there is anybody."""

    def without(self, bad: Bool[np.ndarray, " n"]) -> Detections:
        """The same with some of the frames with a face counted as without one, in the same window."""
        found = self.found.copy()
        found[np.flatnonzero(found)[bad]] = False
        return replace(self, found=found)


def detect_video(
    path: Path | str,
    max_frames: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    config: DetectionConfig = DetectionConfig(),
) -> Detections:
    """Find and follow one face through a video.

    Of several people the one that `config.face` names is followed. A video in which the face lies on its side or upside down is turned
    upright. A face too small for the detector is looked for in overlapping parts of the picture, and then in a window that moves with it.

    Args:
        path: video.
        max_frames: read only so many frames.
        progress: called with (frames done, frames announced) after each frame.
        config: recipe.

    Raises:
        InputError: the video cannot be read, or shows no face, the face too rarely or too small.
    """
    mark, info, finder = FileMark.of(path), probe(path), FaceFinder(config)
    with finder:
        found = _detect_faces(path, finder, 0, max_frames, progress)
        turn = find_turn(found.rolls)
        if turn:
            warnings.warn(f"{path}: the face lies {TURNED[turn]}, so that the video is turned upright.", InputWarning, stacklevel=2)
            info = replace(info, width=info.height, height=info.width) if turn % 2 else info
            finder.reset()
            found = _detect_faces(path, finder, turn, max_frames, progress)
    refuse_changed(path, mark)
    index, faces = found.index, found.faces
    chosen = drop_outliers(choose_person(path, faces, config), config)
    shown = [face for face in chosen if face is not None]
    _refuse_poor(path, len(index), shown, config)
    nothing = FaceObservation(
        np.full((NUM_LANDMARKS, 3), np.nan, np.float32), np.full(len(ARKIT_NAMES), np.nan, np.float32), np.full((4, 4), np.nan, np.float32)
    )
    full = [face or nothing for face in chosen]
    return Detections(
        info=info,
        frames_read=len(index),
        index=np.array(index),
        times=np.array(found.times),
        found=np.array([face is not None for face in chosen]),
        landmarks=np.stack([face.landmarks for face in full]),
        scores=np.stack([face.blendshapes for face in full]),
        transforms=np.stack([face.transform for face in full]),
        crop=find_crop(np.stack([face.landmarks for face in shown]), info.width, info.height, config.crop),
        filmed=found.letterbox.find_filmed(info.height, info.width),
        turn=turn,
        crowd=_find_crowd(found, chosen) if _warn_of_crowd(path, faces, config) else None,
        mark=mark,
    )


def _find_crowd(found: _Found, chosen: Sequence[FaceObservation | None]) -> Crowd | None:
    """Who is seen in the first frame that shows several."""
    place = find_crowded_frame(found.faces)
    if place is None:
        return None
    row = sort_from_left(found.faces[place])
    followed = next((number for number, face in enumerate(row) if face is chosen[place]), None)
    return Crowd(found.index[place], np.stack([face.box for face in row]), followed)


def _cut(rgb: Image, face: FaceObservation, faces: float) -> UInt8[np.ndarray, "rows columns 3"]:
    """A window about a face, so many faces wide, as far as it lies in the picture."""
    low, high = (face.box[:2] + face.box[2:] - faces * face.width) / 2, (face.box[:2] + face.box[2:] + faces * face.width) / 2
    (x0, y0), (x1, y1) = low.clip(0).astype(int), high.astype(int)
    return rgb[y0:y1, x0:x1]


@dataclass(frozen=True)
class _Found:
    """All faces of a video."""

    index: list[int]
    times: list[float]
    faces: list[list[FaceObservation]]
    letterbox: LetterboxFinder
    rolls: list[float]
    """How far the face is turned to the right in some frames, degrees."""


def _detect_faces(
    path: Path | str, finder: FaceFinder, turn: int, max_frames: int | None, progress: Callable[[int, int], None] | None
) -> _Found:
    """Look for faces in every frame of a video that is turned by quarters to the left."""
    found, announced = _Found([], [], [], LetterboxFinder(finder.config.letterbox), []), probe(path).frames
    for place, time, rgb in read_turned(path, turn, max_frames, warn=turn == 0):
        found.index.append(place)
        found.times.append(time)
        found.faces.append(finder.find(rgb))
        if found.faces[-1]:
            found.letterbox.add(rgb)
        if len(found.rolls) < finder.config.turn_frames and (roll := finder.measure_roll(rgb, found.faces[-1])) is not None:
            found.rolls.append(roll)
        if progress:
            progress(len(found.index), min(announced, max_frames or announced))
    return found


def read_turned(path: Path | str, turn: int, max_frames: int | None, *, warn: bool) -> Iterator[tuple[int, float, Image]]:
    """As `read_frames`, with the pictures turned by quarters to the left."""
    for place, time, rgb in read_frames(path, max_frames, warn=warn):
        yield place, time, np.ascontiguousarray(np.rot90(rgb, turn))


def find_turn(rolls: Sequence[float]) -> int:
    """Quarter turns to the left that bring most of some faces upright.

    Args:
        rolls: how far each is turned to the right, degrees.
    """
    quarters = [round(roll / 90) % 4 for roll in rolls]
    most = max(range(4), key=quarters.count)
    return most if 2 * quarters.count(most) > len(quarters) else 0


def _refuse_poor(path: Path | str, frames: int, shown: list[FaceObservation], config: DetectionConfig) -> None:
    if not shown:
        raise InputError(f"{path}: no face was found in any of its {frames} frames. Expected one person, face to the camera, well lit.")
    if len(shown) < config.min_found * frames:
        raise InputError(
            f"{path}: a face was found in only {len(shown)} of {frames} frames; at least {config.min_found:.0%} are needed. "
            "Cut the video to the part where the face is seen."
        )
    width = float(np.median([face.width for face in shown]))
    if width < config.min_face_px:
        raise InputError(
            f"{path}: the face is {width:.0f} pixels wide; at least {config.min_face_px} are needed, 200 or more are good. "
            "Record closer to the camera or at a higher resolution."
        )


class FaceFinder:
    """Detector that narrows its view to a window when the face is small in the picture."""

    def __init__(self, config: DetectionConfig = DetectionConfig()) -> None:
        self.config = config
        self._detector = LandmarkDetector(config.max_faces, runtime=config.runtime)
        self._window: Crop | None = None
        self._misses = 0

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._detector.close()

    def find(self, rgb: Image) -> list[FaceObservation]:
        """Every face of the next frame, in its pixels."""
        faces = self._detect_in(rgb, self._window)
        if not faces and self._window is not None:
            self._window = None
            faces = self._detect_in(rgb, None)
        if not faces:
            self._misses += 1
            if self._misses <= self.config.search_frames or self._misses % self.config.search_every == 0:
                faces = self._search(rgb)
            if not faces:
                return []
        self._misses = 0
        self._narrow(rgb, max(faces, key=lambda face: face.width))
        return faces

    def find_again(self, rgb: Image, face: FaceObservation, window: Crop) -> FaceObservation | None:
        """The same face, seen in another window of the picture; None where it is not found there."""
        found = max(self._detect_in(rgb, window), key=lambda other: overlap(other.box, face.box), default=None)
        return found if found is not None and overlap(found.box, face.box) > self.config.same_face_overlap else None

    def measure_roll(self, rgb: Image, faces: list[FaceObservation]) -> float | None:
        """How far the largest face is turned to the right in a picture, degrees; None where none is found.

        The detector finds faces that lie on their side, but takes one that is upside down for an upright one, or misses it. So the picture
        is looked at lying on its side too.

        Args:
            rgb: picture.
            faces: found in it.
        """
        face = max(faces, key=lambda face: face.width, default=None)
        if face is not None and abs(abs(face.roll) - 90) < 45:
            return face.roll
        around = rgb if face is None else _cut(rgb, face, self.config.window_faces)
        aside = self._detector.detect_all(np.ascontiguousarray(np.rot90(around)))
        turned = max(aside, key=lambda face: face.width, default=None)
        if turned is not None and abs(abs(turned.roll) - 90) < 45:
            return (turned.roll + 90 + 180) % 360 - 180
        return None if face is None else face.roll

    def reset(self) -> None:
        """Take the next picture for the first of another scene."""
        self._window, self._misses = None, 0

    def _narrow(self, rgb: Image, face: FaceObservation) -> None:
        height, width = rgb.shape[:2]
        if face.width > self.config.small_face * max(width, height):
            self._window = None
            return
        center = (face.box[:2] + face.box[2:]) / 2
        size = round(self.config.window_faces * face.width)
        window = self._window
        if window is not None:
            drift = np.abs(center - np.array([window.x0, window.y0]) - window.size / 2).max()
            fits = self.config.window_shrink < size / window.size < self.config.window_growth
            if drift < self.config.window_drift * window.size and fits:
                return
        self._window = Crop(int(center[0] - size / 2), int(center[1] - size / 2), size)

    def _search(self, rgb: Image) -> list[FaceObservation]:
        """Look into overlapping squares of half, then a quarter of the picture; the largest face's square counts."""
        height, width = rgb.shape[:2]
        for part in (2, 4):
            size = max(width, height) // part
            if size < self.config.search_faces * self.config.min_face_px:
                break
            columns = np.unique(np.linspace(0, max(0, width - size), max(1, 2 * width // size - 1)).astype(int))
            rows = np.unique(np.linspace(0, max(0, height - size), max(1, 2 * height // size - 1)).astype(int))
            found = [self._detect_in(rgb, Crop(int(x), int(y), size)) for y in rows for x in columns]
            if any(found):
                return max(found, key=lambda faces: max((face.width for face in faces), default=0.0))
        return []

    def _detect_in(self, rgb: Image, window: Crop | None) -> list[FaceObservation]:
        if window is None:
            return self._detector.detect_all(rgb)
        height, width = rgb.shape[:2]
        x0, y0 = max(0, window.x0), max(0, window.y0)
        part = rgb[y0 : min(height, window.y0 + window.size), x0 : min(width, window.x0 + window.size)]
        if min(part.shape[:2]) < self.config.min_face_px:
            return []
        shift = np.array([x0, y0, 0], dtype=np.float32)
        return [replace(face, landmarks=face.landmarks + shift) for face in self._detector.detect_all(part)]


def _warn_of_crowd(path: Path | str, frames: list[list[FaceObservation]], config: DetectionConfig) -> bool:
    """Warn where several people are seen; returns whether there are."""
    crowded = sum(len(faces) > 1 for faces in frames)
    told = crowded > config.crowded * len(frames)
    if told:
        most = max(len(faces) for faces in frames)
        whom = "the one seen longest and largest" if config.face == "main" else f"face '{config.face}'"
        warnings.warn(
            f"{path}: up to {most} faces at once, in {crowded} of {len(frames)} frames; {whom} is followed. "
            "Choose with --face left, right, largest, a number from the left, or X,Y in pixels: see faces.png beside the tracked frames.",
            InputWarning,
            stacklevel=3,
        )
    return told
