"""Who is who among the faces of a video, and which of them is followed."""

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
class Chain:
    """One face seen without a break in its place or its look."""

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
    def look(self) -> Float[np.ndarray, " n"]:
        """Median appearance."""
        return np.median([face.look for face in self.faces.values()], axis=0)


def choose_person(path: Path | str, frames: Frames, config: DetectionConfig) -> list[FaceObservation | None]:
    """The one face of each frame that belongs to the wanted person.

    Faces are chained by the overlap of their boxes, and by their look: where another face appears in the same place, as after a cut, a new
    chain begins. Other chains that look like the wanted person's fill the frames in which it has nothing, so that somebody who turned away,
    left and came back, or moved in a cut, is kept; those that look more like somebody seen beside that person do not.

    Args:
        path: of the video, for messages.
        frames: all faces of every frame.
        config: whom to follow, and how.

    Raises:
        InputError: the wanted face is not there.
    """
    chains = _chain(frames, config)
    if not chains:
        return [None] * len(frames)
    wanted = _pick(path, frames, chains, config)
    followed, look = dict(wanted.faces), wanted.look
    others = [chain.look for chain in chains if chain is not wanted and chain.faces.keys() & wanted.faces.keys()]
    bound = config.same_look if others else config.alone_look
    for chain in sorted(chains, key=lambda chain: -chain.extent):
        distance = measure_unlikeness(chain.look, look)
        nearer = any(measure_unlikeness(chain.look, other) < distance for other in others)
        if chain is not wanted and distance < bound and not nearer and not chain.faces.keys() & followed.keys():
            followed |= chain.faces
    return [followed.get(place) for place in range(len(frames))]


def measure_unlikeness(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """How differently two faces look, colors in [0, 1]: the usual difference over the places of `FaceObservation.look`, for mouths open."""
    return float(np.median(np.sqrt(((first - second) ** 2).reshape(-1, 3).mean(1))))


def drop_impossible(faces: Sequence[FaceObservation | None], config: DetectionConfig) -> list[FaceObservation | None]:
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


def _chain(frames: Frames, config: DetectionConfig) -> list[Chain]:
    chains: list[Chain] = []
    for place, faces in enumerate(frames):
        open_chains = list(chains)
        for face in sorted(faces, key=lambda face: -face.width):
            fitting = [chain for chain in open_chains if overlap(face.box, chain.last.box) > config.same_face_overlap]
            fitting = [chain for chain in fitting if measure_unlikeness(face.look, chain.last.look) < config.other_look]
            best = max(fitting, key=lambda chain: overlap(face.box, chain.last.box), default=None)
            if best is None:
                chains.append(Chain({place: face}))
            else:
                best.faces[place] = face
                open_chains = [chain for chain in open_chains if chain is not best]
    return chains


def crowded_frame(frames: Frames, least: int = 2) -> int | None:
    """Place of the first frame in which so many faces are seen at once, else of the first with the most; None where there are none."""
    most = max((len(faces) for faces in frames), default=0)
    return next((place for place, faces in enumerate(frames) if faces and len(faces) >= min(least, most)), None)


def from_the_left(faces: Sequence[FaceObservation]) -> list[FaceObservation]:
    """Faces of one frame in the order of their numbers."""
    return sorted(faces, key=lambda face: face.box[0])


def _pick(path: Path | str, frames: Frames, chains: Sequence[Chain], config: DetectionConfig) -> Chain:
    """The chain of the wanted face: of the one seen longest and largest, or by its place where most faces are seen at once."""
    if config.point is not None:
        return _pick_at(path, frames, chains, config.point)
    if config.face == "main":
        return max(chains, key=lambda chain: chain.extent)
    number = int(config.face) if config.face.isdigit() else 1
    place = crowded_frame(frames, max(2, number))
    assert place is not None, "there are chains"
    row = sorted((chain for chain in chains if place in chain.faces), key=lambda chain: chain.faces[place].box[0])
    if number > len(row):
        raise InputError(
            f"{path}: at most {len(row)} faces are seen at once, and face {number} from the left is asked for. "
            f"Choose --face 1 to {len(row)}: {_say_places([chain.faces[place] for chain in row])}."
        )
    if config.face == "largest":
        return max(row, key=lambda chain: chain.faces[place].width)
    return row[-1] if config.face == "right" else row[number - 1]


def _pick_at(path: Path | str, frames: Frames, chains: Sequence[Chain], point: tuple[float, float]) -> Chain:
    """The chain of the face about a point, in the first frame with a face, or else in the first with several."""
    first, several = crowded_frame(frames, 1), crowded_frame(frames)
    assert first is not None and several is not None, "there are chains"  # noqa: PT018
    for place in (first, several):
        hit = [chain for chain in chains if place in chain.faces and _holds(chain.faces[place], point)]
        if hit:
            return min(hit, key=lambda chain: float(np.linalg.norm(_middle(chain.faces[place]) - point)))
    raise InputError(
        f"{path}: there is no face at {point[0]:.0f},{point[1]:.0f} where one is first seen. Faces, and places in them for --face: "
        f"{_say_places(from_the_left(frames[several]))}."
    )


def _holds(face: FaceObservation, point: tuple[float, float]) -> bool:
    """Whether a point lies in a face, its hair and chin included."""
    reach = HEAD_REACH * face.width
    return bool((face.box[:2] - reach <= point).all() and (point <= face.box[2:] + reach).all())


def _middle(face: FaceObservation) -> Float[np.ndarray, "2"]:
    return (face.box[:2] + face.box[2:]) / 2


def _say_places(faces: Sequence[FaceObservation]) -> str:
    """Numbers and middles of some faces."""
    return "; ".join(f"{number} at {x:.0f},{y:.0f}" for number, (x, y) in enumerate(map(_middle, faces), 1))
