"""Score an avatar of a synthetic person from all sides, by the ground truth next to the sample video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from torch import Tensor

from deja_vu.avatars import Avatar
from deja_vu.bench.around import AroundBench, AroundView, TrueView, summarize_views
from deja_vu.bench.evaluate import held_out
from deja_vu.core.camera import Camera
from deja_vu.core.errors import FormatError, InputError
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.tensor_file import open_tensors
from deja_vu.datasets.synthetic import PARTS, SyntheticSubject
from deja_vu.io.images import write_png
from deja_vu.pipelines.run_folder import find_track
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.report.sheets import label_sheet

FRAMES = 3
"""Held-out frames that are seen from all sides, evenly spread."""
BORDER = 2
"""Pixels of a 256-pixel picture that are left out on each side of the border between head and neck or shirt, and the depth from which on a
pixel lies inside the head."""


class MadeUpPerson:
    """A synthetic subject as a truth that every view is known of."""

    def __init__(self, subject: SyntheticSubject) -> None:
        self.subject = subject
        topology = subject.head.topology
        self._face = topology.faces[topology.regions["face"]].unique()
        self._body = subject.figure.body

    def camera(self) -> Camera:
        return self.subject.camera

    def face(self, index: int) -> Float[Tensor, "n 3"]:
        return self.subject.figure.pose(self.subject.params[index])[0][self._face]

    def view(self, index: int, camera: Camera) -> TrueView:
        shown = self.subject.render(index, camera)
        border = max(1, round(BORDER * camera.width / 256))
        face_id = rasterize_mesh(self.subject.figure.pose(self.subject.params[index])[0], self.subject.figure.faces, camera).face_id
        body = (face_id >= 0) & self._body[face_id.clamp_min(0)]
        head = torch.from_numpy(shown.foreground > 254) & (face_id >= 0) & ~body
        return TrueView(
            image=torch.from_numpy(shown.image).float() / 255,
            scored=~_grow(body, border),
            inside=~_grow(~head, border),
            mouth=_grow(torch.from_numpy(shown.parts == PARTS.index("mouth")), border),
        )


def score_around(
    avatar: Avatar, sequence: TrackedSequence, person: MadeUpPerson, frames: int = FRAMES, sheet: Path | None = None
) -> dict[str, dict[str, float]]:
    """Scores of an avatar from all sides, by the degrees that the camera has gone round the head.

    Args:
        avatar: in evaluation mode.
        sequence: the video it was learned from.
        person: truth about that video.
        frames: how many held-out frames are seen from all sides, evenly spread.
        sheet: PNG file of the first of them, avatar above truth.
    """
    part = held_out(sequence)
    places = [int((sequence.index == part.index[chosen]).nonzero()[0, 0]) for chosen in evenly_spaced(frames, len(part))]
    views = list(AroundBench(avatar.cpu(), sequence, person).views(places))
    if sheet is not None:
        write_sheet(views[: len(views) // len(places)], sheet)
    return summarize_views(views)


def load_person(run: Path, truth: Path) -> MadeUpPerson:
    """The made-up person of a run's video.

    Args:
        run: run folder.
        truth: file that `deja-vu sample` wrote beside the video.

    Raises:
        InputError: the truth is about another video.
        FormatError: it is damaged, or `deja-vu sample` did not write it.
    """
    subject, info = read_subject(truth), TrackedSequence.load(find_track(run)).info
    if (info.source_frames, info.head_name) != (len(subject), subject.head.spec.name):
        raise InputError(
            f"{truth} knows {len(subject)} frames of head '{subject.head.spec.name}', but the run's video {info.source} has "
            f"{info.source_frames} and head '{info.head_name}'. Give the file that `deja-vu sample` wrote beside that video."
        )
    return MadeUpPerson(subject)


def read_subject(truth: Path) -> SyntheticSubject:
    """The made-up person of a sample video, from the truth beside it.

    Raises:
        FormatError: the file is damaged, or not one that `deja-vu sample` wrote.
    """
    try:
        with open_tensors(truth) as file:
            facts: dict[str, Any] = file.metadata()
            frames = len(file.get_tensor("expression"))
        size, seed, fps, close = int(facts["size"]), int(facts["seed"]), float(facts["fps"]), facts["close"] == "True"
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{truth} is not a truth file of this version's `deja-vu sample` ({type(error).__name__}: {error}).") from error
    return SyntheticSubject(frames, size, seed, fps, close=close)


def write_sheet(views: Sequence[AroundView], path: Path) -> None:
    """The avatar from all sides over the truth."""
    ordered = sorted(views, key=lambda view: view.yaw)
    images = torch.stack([view.image for view in ordered] + [view.truth.image for view in ordered])
    write_png(path, label_sheet(images, [f"{view.yaw}°" for view in ordered] + ["truth"] * len(ordered), columns=len(ordered)))


def _grow(mask: Bool[Tensor, "H W"], pixels: int) -> Bool[Tensor, "H W"]:
    """Pixels at most so far from the mask along rows and columns."""
    return torch.from_numpy(cv2.dilate(mask.numpy().astype(np.uint8), np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)) > 0)
