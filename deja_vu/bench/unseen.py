"""Pictures without a ground truth: other people's motion, and poses and expressions that were never filmed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8

from deja_vu.avatars import Avatar
from deja_vu.core.head import HeadParams
from deja_vu.core.image import WHITE, to_uint8
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.io.images import write_png
from deja_vu.motion.neutral import estimate_neutral
from deja_vu.motion.retarget import Retargeter
from deja_vu.motion.tracked import TrackedMotion

YAWS = (-60, -30, 0, 30, 60)
"""Degrees, for pictures of poses that were not filmed."""
DRIVEN_FRAMES = 24
"""Of each driver."""
SHOWN_EVERY = 4
"""Driven frames from one in the sheet to the next."""

Picture: TypeAlias = UInt8[np.ndarray, "H W 3"]
ScoreExpression: TypeAlias = Callable[[Picture], Float[np.ndarray, "52"] | None]
"""A detector's expression scores of a picture, each in [0, 1]; None where it finds no face."""


@dataclass(frozen=True)
class Followed:
    """An avatar that followed other people."""

    pictures: dict[str, list[str]]
    """Files of the drivers (`truth`) and of the avatar (`frames`)."""
    scores: dict[str, float]
    """`frames`; `found`, the share in which a face is found in both; `expression_error`, the mean absolute difference of the expression
    scores there."""


def follow_drivers(
    avatar: Avatar, sequence: TrackedSequence, drivers: Sequence[Path], out: Path, score_expression: ScoreExpression
) -> Followed:
    """Let an avatar follow other people, and measure by an independent detector whether their expressions arrive.

    Args:
        avatar: in evaluation mode.
        sequence: what it was learned from.
        drivers: tracked folders of other people, on the same head model.
        out: folder for the pictures.
        score_expression: the detector.
    """
    neutral = estimate_neutral(sequence.params, avatar.host_head)
    files: dict[str, list[str]] = {"frames": [], "truth": []}
    errors: list[float] = []
    count = 0
    for number, folder in enumerate(drivers):
        driver = TrackedSequence.load(folder)
        places = evenly_spaced(DRIVEN_FRAMES, len(driver))
        motion = Retargeter(avatar.host_head, TrackedMotion(driver).neutral, neutral, body=avatar.shows_person)(driver.params[places])
        theirs = [driver.frame(position).image.numpy() for position in places.tolist()]
        ours = _render(avatar, motion, sequence)
        errors += compare_expressions(theirs, ours, score_expression)
        count += len(places)
        files["truth"] += _write(theirs[::SHOWN_EVERY], out, f"driver_{number}")
        files["frames"] += _write(ours[::SHOWN_EVERY], out, f"driven_{number}")
    known = {"expression_error": round(float(np.mean(errors)), 5)} if errors else {}
    return Followed(files, {"frames": count, "found": round(len(errors) / count, 4), **known})


def compare_expressions(theirs: list[Picture], ours: list[Picture], score_expression: ScoreExpression) -> list[float]:
    """Mean absolute difference of the expression scores of two pictures, for each pair that shows a face in both."""
    pairs = [(score_expression(a), score_expression(b)) for a, b in zip(theirs, ours, strict=True)]
    return [float(np.abs(a - b).mean()) for a, b in pairs if a is not None and b is not None]


def render_unseen(avatar: Avatar, sequence: TrackedSequence, out: Path) -> list[str]:
    """Write pictures of poses and expressions that were not filmed: turned by up to 60 degrees, and half as much expression again.

    Returns:
        Names of the files.
    """
    middle = sequence.test_part().params[torch.tensor([int(sequence.test.sum()) // 2])]
    angles = torch.tensor([[0.0, yaw, 0.0] for yaw in YAWS]).deg2rad()
    turned = middle[torch.zeros(len(YAWS) + 1, dtype=torch.long)]
    pose = turned.world_from_head.clone()
    pose[: len(YAWS), :3, :3] = pose[: len(YAWS), :3, :3] @ axis_angle_to_matrix(angles)
    expression = turned.expression.clone()
    strongest = sequence.params.expression.abs().sum(1).argmax()
    expression[-1] = 1.5 * sequence.params.expression[strongest]
    return _write(_render(avatar, replace(turned, world_from_head=pose, expression=expression), sequence), out, "sweep")


@torch.no_grad()
def _render(avatar: Avatar, motion: HeadParams, sequence: TrackedSequence) -> list[Picture]:
    device = avatar.device
    camera, white = sequence.camera.to(device), WHITE.to(device)
    return [to_uint8(avatar.render(motion[t : t + 1].to(device), camera, white).rgb[0]) for t in range(len(motion))]


def _write(pictures: list[Picture], out: Path, kind: str) -> list[str]:
    """Names of the PNG files."""
    files = [f"{kind}_{number:02d}.png" for number in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        write_png(out / file, picture)
    return files
