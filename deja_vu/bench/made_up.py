"""A synthetic person as a tracked folder without tracking, to time training on machines without a tracker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.datasets.synthetic import SyntheticSubject
from deja_vu.io.tracked_folder import write_frame, write_masks, write_sequence
from deja_vu.tracking.masks import HeadMasks, head_alpha

TEST_EVERY = 4
"""One frame of so many is held out."""


def write_made_up(folder: Path, frames: int, side: int) -> TrackedSequence:
    """Write a film of a made-up person with its true parameters; both windows show the whole picture.

    Args:
        folder: to fill.
        frames: how many.
        side: of the pictures, pixels.
    """
    subject = SyntheticSubject(frames, side)
    masks = HeadMasks(subject.head)
    for name in ("frames", "masks", "person", "person_masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(frames):
        drawn = subject.render(index)
        weight, eyes_mouth = masks.render(subject.params[index : index + 1], subject.camera, side)
        head = head_alpha(drawn.foreground, weight[0])
        planes = np.stack([drawn.foreground, head, eyes_mouth[0], np.full_like(head, 255)], -1)
        for window in ("head", "person"):
            write_frame(folder, index, drawn.image, window)
            write_masks(folder, index, planes, window)
    whole = (0, 0, side, side)
    info = TrackInfo("made up", subject.head.spec.name, 25.0, "made_up", "0" * 64, frames, whole, side, "tail", person_crop=whole)
    places = torch.arange(frames)
    sequence = TrackedSequence(
        folder=folder,
        info=info,
        params=subject.params,
        camera=subject.camera,
        index=places,
        times=places / 25,
        test=places % TEST_EVERY == TEST_EVERY - 1,
        torso_shape=torch.zeros(12),
    )
    write_sequence(sequence)
    return sequence
