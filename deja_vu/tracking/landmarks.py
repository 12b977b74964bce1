"""One person's face through a video: found, followed, cropped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from deja_vu.core.errors import InputError
from deja_vu.io.video import Image, InputWarning, VideoInfo, probe, read_frames
from deja_vu.tracking.detector import ARKIT_NAMES, NUM_LANDMARKS, SAME_FACE_OVERLAP, FaceObservation, LandmarkDetector, overlap
from deja_vu.tracking.letterbox import BarFinder, Filmed

__all__ = [
    *("ARKIT_NAMES", "Crop", "Detections", "FaceFinder", "FaceObservation", "LandmarkDetector", "cut", "cut_valid", "detect_video"),
    "find_crop",
]

MIN_FACE_PX = 64
"""Narrowest face that still shows eyes and lips."""
MIN_FOUND_SHARE = 0.3
"""Share of the frames that must show the face."""
SMALL_FACE = 0.16
"""Face width over the picture's longer side below which MediaPipe's detector starts to miss it (measured: 250 of 1920 found, 150 lost)."""
WINDOW_FACES = 4.0
"""Side of the search window around a small face, in face widths."""


@dataclass(frozen=True)
class Crop:
    """A square window of the picture, the same for all frames; it may reach beyond the border."""

    x0: int
    """Left edge, pixels of the picture."""
    y0: int
    """Top edge, pixels of the picture."""
    size: int
    """Side, pixels of the picture."""


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


def detect_video(path: Path | str, max_frames: int | None = None, progress: Callable[[int, int], None] | None = None) -> Detections:
    """Find and follow one face through a video.

    Of several people the one seen longest and largest is followed. A face too small for the detector is looked for in
    overlapping parts of the picture, and then in a window that moves with it.

    Args:
        path: video.
        max_frames: read only so many frames.
        progress: called with (frames done, frames announced) after each frame.

    Raises:
        InputError: the video cannot be read, or shows no face, the face too rarely or too small.
    """
    info = probe(path)
    index, times, faces, bars = [], [], [], BarFinder()
    with FaceFinder() as finder:
        for place, time, rgb in read_frames(path, max_frames):
            index.append(place)
            times.append(time)
            faces.append(finder.find(rgb))
            if faces[-1]:
                bars.add(rgb)
            if progress:
                progress(len(index), min(info.frames, max_frames or info.frames))
    chosen = _follow(path, faces)
    shown = [face for face in chosen if face is not None]
    _refuse_poor(path, len(index), shown)
    nothing = FaceObservation(
        np.full((NUM_LANDMARKS, 3), np.nan, np.float32), np.full(len(ARKIT_NAMES), np.nan, np.float32), np.full((4, 4), np.nan, np.float32)
    )
    full = [face or nothing for face in chosen]
    return Detections(
        info=info,
        frames_read=len(index),
        index=np.array(index),
        times=np.array(times),
        found=np.array([face is not None for face in chosen]),
        landmarks=np.stack([face.landmarks for face in full]),
        scores=np.stack([face.blendshapes for face in full]),
        transforms=np.stack([face.transform for face in full]),
        crop=find_crop(np.stack([face.landmarks for face in shown]), info.width, info.height),
        filmed=bars.filmed(info.height, info.width),
    )


def _refuse_poor(path: Path | str, frames: int, shown: list[FaceObservation]) -> None:
    if not shown:
        raise InputError(f"{path}: no face was found in any of its {frames} frames. Expected one person, face to the camera, well lit.")
    if len(shown) < MIN_FOUND_SHARE * frames:
        raise InputError(
            f"{path}: a face was found in only {len(shown)} of {frames} frames; at least {MIN_FOUND_SHARE:.0%} are needed.\n"
            "Cut the video to the part where the face is seen."
        )
    width = float(np.median([face.width for face in shown]))
    if width < MIN_FACE_PX:
        raise InputError(
            f"{path}: the face is {width:.0f} pixels wide; at least {MIN_FACE_PX} are needed, 200 or more are good.\n"
            "Record closer to the camera or at a higher resolution."
        )


def find_crop(landmarks: Float[np.ndarray, "n 478 3"], width: int, height: int) -> Crop:
    """One square window that holds face, hair and chin in all frames.

    The skull with its hair is taken as a ball about a point above the ears, which turns with the face: it covers the
    back of the head in profile and the crown in a bow, where no landmark lies. Sizes are in heights of the face from
    hairline to chin (about 18 cm): the crown lies 0.75 above the ears, hair adds some. Where the window
    fits into the picture it is moved inside.

    Args:
        landmarks: of the frames with a face, pixels.
        width: of the picture.
        height: of the picture.
    """
    hairline, chin = landmarks[:, 10], landmarks[:, 152]
    up = hairline - chin
    length = np.linalg.norm(up, axis=-1)
    ball = (landmarks[:, 234] + landmarks[:, 454]) / 2 + 0.25 * up
    low = np.minimum(landmarks[..., :2].min(1) - 0.05 * length[:, None], ball[:, :2] - 0.75 * length[:, None])
    high = np.maximum(landmarks[..., :2].max(1) + 0.05 * length[:, None], ball[:, :2] + 0.75 * length[:, None])
    high[:, 1] = np.maximum(high[:, 1], (chin - 0.15 * up)[:, 1])
    low, high = np.percentile(low, 1, axis=0), np.percentile(high, 99, axis=0)
    size = int(np.ceil((high - low).max()))
    corner = np.round((low + high - size) / 2).astype(int)
    room = np.array([width, height]) - size
    corner = np.where(room >= 0, np.clip(corner, 0, np.maximum(room, 0)), corner)
    return Crop(int(corner[0]), int(corner[1]), size)


def cut(image: np.ndarray, crop: Crop, side: int, *, filmed: Filmed | None = None, border: int | None = None) -> np.ndarray:
    """The crop of a frame, resized to `side` pixels.

    What was not filmed repeats the nearest filmed pixel: a margin of one color would pass for a wall, and bleed into the edge.

    Args:
        image: frame, uint8 [H W] or [H W C].
        crop: window; must meet what was filmed.
        side: of the result, pixels.
        filmed: part of the frame that was; all of it by default.
        border: fill what was not filmed with this value instead.
    """
    filmed = filmed or Filmed(0, 0, image.shape[1], image.shape[0])
    x0, y0 = max(filmed.left, crop.x0), max(filmed.top, crop.y0)
    x1, y1 = min(filmed.right, crop.x0 + crop.size), min(filmed.bottom, crop.y0 + crop.size)
    padded = cv2.copyMakeBorder(
        image[y0:y1, x0:x1],
        top=y0 - crop.y0,
        bottom=crop.y0 + crop.size - y1,
        left=x0 - crop.x0,
        right=crop.x0 + crop.size - x1,
        borderType=cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT,
        value=(border or 0,) * 4,
    )
    method = cv2.INTER_AREA if crop.size > side else cv2.INTER_CUBIC
    return cv2.resize(padded, (side, side), interpolation=method)


def cut_valid(filmed: Filmed, crop: Crop, side: int) -> UInt8[np.ndarray, "side side"]:
    """255 where the crop of a frame shows what was filmed, 0 where `cut` makes it up."""
    return cut(np.full((filmed.bottom, filmed.right), 255, np.uint8), crop, side, filmed=filmed, border=0)


class FaceFinder:
    """Detector that narrows its view to a window when the face is small in the picture."""

    def __init__(self) -> None:
        self._detector = LandmarkDetector()
        self._window: Crop | None = None
        self._misses = 0

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._detector.close()

    def find(self, rgb: Image) -> list[FaceObservation]:
        """Every face of the next frame, in its pixels."""
        faces = self._look(rgb, self._window)
        if not faces and self._window is not None:
            self._window = None
            faces = self._look(rgb, None)
        if not faces:
            self._misses += 1
            # A search costs some twenty detections: every frame at first, then now and then.
            if self._misses <= 5 or self._misses % 10 == 0:
                faces = self._search(rgb)
            if not faces:
                return []
        self._misses = 0
        self._narrow(rgb, max(faces, key=lambda face: face.width))
        return faces

    def again(self, rgb: Image, face: FaceObservation, window: Crop) -> FaceObservation | None:
        """The same face, seen in another window of the picture; None where it is not found there."""
        found = max(self._look(rgb, window), key=lambda other: overlap(other.box, face.box), default=None)
        return found if found is not None and overlap(found.box, face.box) > SAME_FACE_OVERLAP else None

    def forget(self) -> None:
        """Take the next picture for the first of another scene."""
        self._window, self._misses = None, 0

    def _narrow(self, rgb: Image, face: FaceObservation) -> None:
        height, width = rgb.shape[:2]
        if face.width > SMALL_FACE * max(width, height):
            self._window = None
            return
        centre = (face.box[:2] + face.box[2:]) / 2
        size = round(WINDOW_FACES * face.width)
        window = self._window
        if window is not None:
            drift = np.abs(centre - np.array([window.x0, window.y0]) - window.size / 2).max()
            if drift < window.size / 5 and 0.7 < size / window.size < 1.4:
                return
        self._window = Crop(int(centre[0] - size / 2), int(centre[1] - size / 2), size)

    def _search(self, rgb: Image) -> list[FaceObservation]:
        """Look into overlapping squares of half, then a quarter of the picture; the largest face's square counts."""
        height, width = rgb.shape[:2]
        for part in (2, 4):
            size = max(width, height) // part
            if size < 3 * MIN_FACE_PX:
                break
            columns = np.unique(np.linspace(0, max(0, width - size), max(1, 2 * width // size - 1)).astype(int))
            rows = np.unique(np.linspace(0, max(0, height - size), max(1, 2 * height // size - 1)).astype(int))
            seen = [self._look(rgb, Crop(int(x), int(y), size)) for y in rows for x in columns]
            if any(seen):
                return max(seen, key=lambda faces: max((face.width for face in faces), default=0.0))
        return []

    def _look(self, rgb: Image, window: Crop | None) -> list[FaceObservation]:
        if window is None:
            return self._detector.detect_all(rgb)
        height, width = rgb.shape[:2]
        x0, y0 = max(0, window.x0), max(0, window.y0)
        part = rgb[y0 : min(height, window.y0 + window.size), x0 : min(width, window.x0 + window.size)]
        if min(part.shape[:2]) < MIN_FACE_PX:
            return []
        shift = np.array([x0, y0, 0], dtype=np.float32)
        return [replace(face, landmarks=face.landmarks + shift) for face in self._detector.detect_all(part)]


def _follow(path: Path | str, frames: list[list[FaceObservation]]) -> list[FaceObservation | None]:
    """The one face of each frame that belongs to the main person; warns where there are others.

    Faces are chained by the overlap of their boxes. The chain with the largest summed width wins; other chains of a similar
    size fill the frames in which it has nothing, so that a person who turned away and came back is kept.
    """
    chains: list[dict[int, FaceObservation]] = []
    for place, faces in enumerate(frames):
        open_chains = [chain for chain in chains if place not in chain]
        for face in sorted(faces, key=lambda face: -face.width):
            best = max(open_chains, key=lambda chain: overlap(face.box, chain[max(chain)].box), default=None)
            if best is not None and overlap(face.box, best[max(best)].box) > SAME_FACE_OVERLAP:
                best[place] = face
                open_chains = [chain for chain in open_chains if chain is not best]
            else:
                chains.append({place: face})
    if not chains:
        return [None] * len(frames)
    chains.sort(key=lambda chain: -sum(face.width for face in chain.values()))
    followed = dict(chains[0])
    width = float(np.median([face.width for face in followed.values()]))
    for chain in chains[1:]:
        if 0.6 < float(np.median([face.width for face in chain.values()])) / width < 1.7:
            followed = {**chain, **followed}
    crowded = sum(len(faces) > 1 for faces in frames)
    if crowded > 0.02 * len(frames):
        most = max(len(faces) for faces in frames)
        warnings.warn(
            f"{path}: up to {most} faces at once, in {crowded} of {len(frames)} frames; the one seen longest and largest is followed.",
            InputWarning,
            stacklevel=3,
        )
    return [followed.get(place) for place in range(len(frames))]
