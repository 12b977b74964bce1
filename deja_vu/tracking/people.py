"""Which faces of a video belong to the same person, and which person is followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from deja_vu.core.errors import InputError
from deja_vu.tracking.detection_config import DetectionConfig
from deja_vu.tracking.detector import FaceObservation, overlap

Frames = Sequence[Sequence[FaceObservation]]
"""All faces of every frame."""
HEAD_REACH = 0.3
"""How far a head reaches beyond its landmarks, widths of the face."""


@dataclass(frozen=True)
class Tracklet:
    """One face seen without a break in its place or its appearance."""

    faces: dict[int, FaceObservation]
    """By frame."""

    @property
    def last(self) -> FaceObservation:
        return self.faces[max(self.faces)]

    @property
    def extent(self) -> float:
        """Summed width: how long and how large it was seen, pixels."""
        return sum(face.width for face in self.faces.values())

    @property
    def appearance(self) -> Float[np.ndarray, " n"]:
        """Median appearance."""
        return np.median([face.appearance for face in self.faces.values()], axis=0)


def choose_person(path: Path | str, frames: Frames, config: DetectionConfig) -> list[FaceObservation | None]:
    """The one face of each frame that belongs to the wanted person.

    Faces are linked to tracklets by the overlap of their boxes and by their appearance: where another face appears in the same place, as
    after a cut, a new tracklet begins. Frames without the wanted person are filled from other tracklets of similar appearance, so that
    somebody who turned away, left and came back, or moved in a cut, is kept; but not from those that look more like somebody seen
    together with that person.

    Args:
        path: of the video, for messages.
        frames: all faces of every frame.
        config: whom to follow, and how.

    Raises:
        InputError: the wanted face is not there.
    """
    tracklets = _link_tracklets(frames, config)
    if not tracklets:
        return [None] * len(frames)
    wanted = _pick(path, frames, tracklets, config)
    followed, appearance = dict(wanted.faces), wanted.appearance
    others = [tracklet.appearance for tracklet in tracklets if tracklet is not wanted and tracklet.faces.keys() & wanted.faces.keys()]
    bound = config.same_appearance if others else config.alone_appearance
    for tracklet in sorted(tracklets, key=lambda tracklet: -tracklet.extent):
        distance = appearance_distance(tracklet.appearance, appearance)
        nearer = any(appearance_distance(tracklet.appearance, other) < distance for other in others)
        if tracklet is not wanted and distance < bound and not nearer and not tracklet.faces.keys() & followed.keys():
            followed |= tracklet.faces
    return [followed.get(place) for place in range(len(frames))]


def appearance_distance(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Difference of two appearances, colors in [0, 1]: the median over the places of `FaceObservation.appearance`, for mouths open."""
    return float(np.median(np.sqrt(((first - second) ** 2).reshape(-1, 3).mean(1))))


def drop_outliers(faces: Sequence[FaceObservation | None], config: DetectionConfig) -> list[FaceObservation | None]:
    """The same without faces that are where, or as large as, no face between its neighbors can be.

    A face is dropped if both its neighbors contradict it and agree with each other.

    Args:
        faces: one or none a frame.
        config: bounds.
    """
    seen = [(place, face) for place, face in enumerate(faces) if face is not None]
    kept = list(faces)
    for (_, before), (place, face), (_, after) in zip(seen, seen[1:], seen[2:], strict=False):
        if _fits(before, after, config) and not _fits(before, face, config) and not _fits(face, after, config):
            kept[place] = None
    return kept


def _fits(first: FaceObservation, second: FaceObservation, config: DetectionConfig) -> bool:
    """Whether two faces can be one in neighboring frames."""
    way = np.abs((first.box[:2] + first.box[2:]) / 2 - (second.box[:2] + second.box[2:]) / 2).max()
    ratio = max(first.width, second.width) / max(min(first.width, second.width), 1e-6)
    return bool(way < config.neighbor_way * first.width and ratio < config.neighbor_ratio)


def _link_tracklets(frames: Frames, config: DetectionConfig) -> list[Tracklet]:
    tracklets: list[Tracklet] = []
    for place, faces in enumerate(frames):
        open_tracklets = list(tracklets)
        for face in sorted(faces, key=lambda face: -face.width):
            fitting = [tracklet for tracklet in open_tracklets if overlap(face.box, tracklet.last.box) > config.same_face_overlap]
            distances = [appearance_distance(face.appearance, tracklet.last.appearance) for tracklet in fitting]
            fitting = [tracklet for tracklet, distance in zip(fitting, distances, strict=True) if distance < config.other_appearance]
            best = max(fitting, key=lambda tracklet: overlap(face.box, tracklet.last.box), default=None)
            if best is None:
                tracklets.append(Tracklet({place: face}))
            else:
                best.faces[place] = face
                open_tracklets = [tracklet for tracklet in open_tracklets if tracklet is not best]
    return tracklets


def find_crowded_frame(frames: Frames, least: int = 2) -> int | None:
    """Place of the first frame in which so many faces are seen at once, else of the first with the most; None where there are none."""
    most = max((len(faces) for faces in frames), default=0)
    return next((place for place, faces in enumerate(frames) if faces and len(faces) >= min(least, most)), None)


def sort_from_left(faces: Sequence[FaceObservation]) -> list[FaceObservation]:
    """Faces of one frame in the order of their numbers."""
    return sorted(faces, key=lambda face: face.box[0])


def _pick(path: Path | str, frames: Frames, tracklets: Sequence[Tracklet], config: DetectionConfig) -> Tracklet:
    """The tracklet of the wanted face: of the one seen longest and largest, or by its place where most faces are seen at once."""
    if config.point is not None:
        return _pick_at(path, frames, tracklets, config.point)
    if config.face == "main":
        return max(tracklets, key=lambda tracklet: tracklet.extent)
    number = int(config.face) if config.face.isdigit() else 1
    place = find_crowded_frame(frames, max(2, number))
    assert place is not None, "there are tracklets"
    row = sorted((tracklet for tracklet in tracklets if place in tracklet.faces), key=lambda tracklet: tracklet.faces[place].box[0])
    if number > len(row):
        raise InputError(
            f"{path}: at most {len(row)} faces are seen at once, and face {number} from the left is asked for. "
            f"Choose --face 1 to {len(row)}: {_list_places([tracklet.faces[place] for tracklet in row])}."
        )
    if config.face == "largest":
        return max(row, key=lambda tracklet: tracklet.faces[place].width)
    return row[-1] if config.face == "right" else row[number - 1]


def _pick_at(path: Path | str, frames: Frames, tracklets: Sequence[Tracklet], point: tuple[float, float]) -> Tracklet:
    """The tracklet of the face about a point, in the first frame with a face, or else in the first with several."""
    first, several = find_crowded_frame(frames, 1), find_crowded_frame(frames)
    assert first is not None and several is not None, "there are tracklets"  # noqa: PT018
    for place in (first, several):
        hit = [tracklet for tracklet in tracklets if place in tracklet.faces and _contains(tracklet.faces[place], point)]
        if hit:
            return min(hit, key=lambda tracklet: float(np.linalg.norm(_middle(tracklet.faces[place]) - point)))
    raise InputError(
        f"{path}: there is no face at {point[0]:.0f},{point[1]:.0f} where one is first seen. Faces, and places in them for --face: "
        f"{_list_places(sort_from_left(frames[several]))}."
    )


def _contains(face: FaceObservation, point: tuple[float, float]) -> bool:
    """Whether a point lies in a face, its hair and chin included."""
    reach = HEAD_REACH * face.width
    return bool((face.box[:2] - reach <= point).all() and (point <= face.box[2:] + reach).all())


def _middle(face: FaceObservation) -> Float[np.ndarray, "2"]:
    return (face.box[:2] + face.box[2:]) / 2


def _list_places(faces: Sequence[FaceObservation]) -> str:
    """Numbers and middles of some faces."""
    return "; ".join(f"{number} at {x:.0f},{y:.0f}" for number, (x, y) in enumerate(map(_middle, faces), 1))
