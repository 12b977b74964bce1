"""Faults in a video's light and framing, found in some of its frames."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.report.coverage import Shortcoming

SAMPLED = 24
"""Frames that are measured."""
UNSTEADY_LIGHT = 0.12
"""Relative spread of the head's brightness that is mentioned."""
BURNT = 0.02
"""Share of the head's pixels at the top of the scale that is mentioned."""
CUT_OFF = 0.2
"""Share of the frames in which the head may touch the border."""
SMALL_CROP = 320
"""Side of the head crop in the video's pixels below which detail is lost."""


def find_filming_faults(sequence: TrackedSequence) -> list[Shortcoming]:
    """Light that changes or burns, a head that is small or cut."""
    places = evenly_spaced(SAMPLED, len(sequence)).tolist()
    brightness, burnt, touching = [], [], 0
    for place in places:
        frame = sequence.frame(place)
        inside = (frame.head > 200) & (frame.valid > 127)
        if not inside.any():
            continue
        values = frame.image[inside].float()
        brightness.append(float(values.mean()))
        burnt.append(float((values.min(-1).values > 250).float().mean()))
        touching += touches_border(frame.head > 128, frame.valid > 127)
    found = []
    side = sequence.info.crop[2] - sequence.info.crop[0]
    if side < SMALL_CROP:
        found.append(Shortcoming(f"The head fills only {side} pixels of the video.", "Film closer, or at a higher resolution."))
    if brightness and np.std(brightness) / np.mean(brightness) > UNSTEADY_LIGHT:
        found.append(Shortcoming("The light on the face changes.", "Lock the exposure, and stay where the light is even."))
    if burnt and np.mean(burnt) > BURNT:
        found.append(Shortcoming(f"{np.mean(burnt):.0%} of the face is overexposed.", "Use less light, or a shorter exposure."))
    if touching > CUT_OFF * len(places):
        lack = f"The head is cut by the border in {touching} of {len(places)} frames."
        found.append(Shortcoming(lack, "Leave room around the hair."))
    return found


def touches_border(head: Bool[Tensor, "H W"], valid: Bool[Tensor, "H W"]) -> bool:
    """Whether a head is cut at its sides or above; below, the neck always is.

    Args:
        head: its pixels.
        valid: those that were filmed.
    """
    unknown = ~valid
    near = torch.zeros_like(head)
    near[1:] |= unknown[:-1]
    near[:, 1:] |= unknown[:, :-1]
    near[:, :-1] |= unknown[:, 1:]
    near[0], near[:, 0], near[:, -1] = True, True, True
    return int((head & near).sum()) > 0.03 * head.shape[0]
