"""What a video shows of a person, which limits what an avatar can learn; what it does not show, with advice for the next one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.motion.neutral import estimate_neutral
from deja_vu.motion.openings import LIDS, Openings

SIDE = 20.0
"""Turn that shows enough of a cheek and ear, degrees."""
NOD = 8.0
"""Nod that shows enough of chin and crown, degrees."""
MOUTH_OPEN = 0.3
"""Opening of the lips over the mouth's width that shows the inside of the mouth."""
SMILE = 0.35
"""Strength of a smile, over the neutral face, that counts as shown."""
BROWS = 0.3
"""Strength of raised brows, over the neutral face, that counts as shown."""
EYES_SHUT = 0.35
"""Opening of the eyes over the neutral one below which they count as shut."""
BEYOND = 8.0
"""Degrees by which test frames may leave what training saw before their score says more about the split than about the avatar."""
FEWEST_FRAMES = 150
"""Training frames below which a video is short."""
SHORTEST = 8.0
"""Seconds below which a video is short."""


@dataclass(frozen=True)
class Shortcoming:
    """Something that the video did not show."""

    lack: str
    """What is missing, and what follows."""
    advice: str
    """What to do in the next video."""


@dataclass(frozen=True)
class Course:
    """What a person does over T frames."""

    yaw: Float[Tensor, " T"]
    """Turn to the person's own left, degrees from the camera."""
    pitch: Float[Tensor, " T"]
    """Look up, degrees from the person's usual height."""
    lips: Float[Tensor, " T"] | None
    """Opening over the mouth's width; None where the head cannot tell."""
    eyes: Float[Tensor, " T"] | None
    """Opening over that at rest; None where the head cannot tell."""
    smile: Float[Tensor, " T"] | None
    """Over rest; None where the head has no such expression."""
    brows: Float[Tensor, " T"] | None


def follow(params: HeadParams, head: HeadModel) -> Course:
    """Read a person's frames.

    Args:
        params: T frames of one person.
        head: their head model.
    """
    forward = params.world_from_head[:, :3, 2]
    yaw = torch.rad2deg(torch.atan2(forward[:, 0], -forward[:, 2]))
    pitch = torch.rad2deg(torch.asin((-forward[:, 1]).clamp(-1, 1)))
    rest, openings = estimate_neutral(params, head), Openings.of(head)
    names = () if openings is None else openings.names
    lips = eyes = None
    if openings is not None:
        opened, at_rest = openings.measure(params), openings.measure(rest)
        lips = opened[:, names.index("jawOpen")] if "jawOpen" in names else None
        lids = [names.index(name) for name in LIDS if name in names]
        eyes = (opened[:, lids] / at_rest[:, lids].clamp_min(0.1)).mean(-1) if lids else None

    def strength(*wanted: str) -> Tensor | None:
        columns = [head.spec.expression_names.index(name) for name in wanted if name in head.spec.expression_names]
        return (params.expression - rest.expression)[:, columns].mean(-1) if columns else None

    smile, brows = strength("mouthSmileLeft", "mouthSmileRight"), strength("browInnerUp", "browOuterUpLeft", "browOuterUpRight")
    return Course(yaw, pitch - pitch.median(), lips, eyes, smile, brows)


def count_blinks(eyes: Float[Tensor, " T"]) -> int:
    """How often the eyes shut."""
    shut = eyes < EYES_SHUT
    return int(shut[0]) + int((shut[1:] & ~shut[:-1]).sum())


def find_shortcomings(course: Course, test: Bool[Tensor, " T"], seconds: float) -> list[Shortcoming]:
    """What the training frames do not show.

    Args:
        course: all frames.
        test: those that training never saw.
        seconds: length of the training frames.
    """
    train = ~test
    found = _views(course.yaw[train], course.pitch[train])
    found += _faces(course, train)
    for name, values in (("to the sides", course.yaw), ("up or down", course.pitch)):
        if test.any():
            beyond = max(float(values[test].max() - values[train].max()), float(values[train].min() - values[test].min()))
            if beyond > BEYOND:
                found.append(
                    Shortcoming(
                        f"The test frames turn {beyond:.0f}° further {name} than any training frame, so they score guesses.",
                        "For fair scores, spread all movements over the whole video, or test on blocks: --split blocks.",
                    )
                )
    if int(train.sum()) < FEWEST_FRAMES or seconds < SHORTEST:
        lack = f"The video is short: {int(train.sum())} training frames in {seconds:.0f} s."
        found.append(Shortcoming(lack, "Film for 15 to 60 seconds."))
    return found


def _views(yaw: Float[Tensor, " T"], pitch: Float[Tensor, " T"]) -> list[Shortcoming]:
    found = []
    left, right = max(0.0, float(yaw.max())), max(0.0, -float(yaw.min()))
    sides = [name for name, reach in (("left", left), ("right", right)) if reach < SIDE]
    if sides:
        reach = " and ".join(f"{value:.0f}° to the {name}" for name, value in (("left", left), ("right", right)) if name in sides)
        found.append(
            Shortcoming(
                f"Side views are missing: the head turns only {reach}. Cheeks and ears beyond are guessed.",
                f"Turn the head slowly to the {' and to the '.join(sides)}, until the far ear disappears.",
            )
        )
    up, down = float(pitch.max()), -float(pitch.min())
    nods = [name for name, reach in (("up", up), ("down", down)) if reach < NOD]
    if nods:
        found.append(
            Shortcoming(
                f"The head hardly looks {' or '.join(nods)} ({up:.0f}° up, {down:.0f}° down). Chin and crown are seen at one angle only.",
                f"Look {' and '.join(nods)} slowly.",
            )
        )
    return found


def _faces(course: Course, train: Bool[Tensor, " T"]) -> list[Shortcoming]:
    found = []
    if course.lips is not None and (widest := float(course.lips[train].max())) < MOUTH_OPEN:
        found.append(
            Shortcoming(
                f"The mouth never opens wide ({max(0.0, widest):.0%} of its width). Teeth, tongue and throat are guessed.",
                "Open the mouth wide once, and say a few sentences.",
            )
        )
    if course.eyes is not None and count_blinks(course.eyes[train]) == 0:
        found.append(
            Shortcoming(
                "The eyes never close. Closed lids are stretched from open ones.",
                "Blink a few times, and keep the eyes closed for a second.",
            )
        )
    if course.smile is not None and float(course.smile[train].max()) < SMILE:
        found.append(Shortcoming("There is no smile. Its folds are unknown.", "Smile broadly once, with and without showing the teeth."))
    if course.brows is not None and float(course.brows[train].max()) < BROWS:
        found.append(Shortcoming("The brows are never raised.", "Raise the brows once."))
    return found
