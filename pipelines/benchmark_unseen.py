"""What a benchmark shows without a truth: other people's motion, and poses and expressions that were never filmed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from deja_vu.avatars import Avatar
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.motion.neutral import estimate_neutral
from deja_vu.motion.retarget import Retargeter
from deja_vu.motion.tracked import TrackedMotion
from deja_vu.pipelines.evaluate import WHITE, to_bytes, write_png
from deja_vu.tracking.detector import LandmarkDetector

YAWS = (-60, -30, 0, 30, 60)
"""Degrees, for pictures of poses that were not filmed."""
DRIVEN_FRAMES = 24
"""Of each driver."""
SHOWN_EVERY = 4
"""Driven frames from one in the sheet to the next."""

Picture = UInt8[np.ndarray, "H W 3"]


def driven(avatar: Avatar, sequence: TrackedSequence, drivers: tuple[Path, ...], out: Path) -> dict[str, Any]:
    """The avatar following other people: pictures, and how well an independent detector finds the driver's expression in them.

    `expression_error` is the mean absolute difference of the detector's 52 scores, each in [0, 1], between the driver's picture and
    the avatar's; `found` the share of frames in which it finds a face in both.

    Args:
        avatar: in evaluation mode.
        sequence: what it was learned from.
        drivers: tracked folders of other people, on the same head model.
        out: folder for the pictures.
    """
    head = load_head(sequence.info.head_name)
    files: dict[str, list[str]] = {"frames": [], "truth": []}
    errors: list[float] = []
    count = 0
    for number, folder in enumerate(drivers):
        driver = TrackedSequence.load(folder)
        spread = torch.linspace(0, len(driver) - 1, min(DRIVEN_FRAMES, len(driver))).round().long()
        motion = Retargeter(head, TrackedMotion(driver).neutral, estimate_neutral(sequence.params, head))(driver.params[spread])
        theirs = [driver.frame(position).image.numpy() for position in spread.tolist()]
        ours = _pictures(avatar, motion, sequence)
        errors += expression_errors(theirs, ours)
        count += len(spread)
        files["truth"] += _written(theirs[::SHOWN_EVERY], out, f"driver_{number}")
        files["frames"] += _written(ours[::SHOWN_EVERY], out, f"driven_{number}")
    known = {"expression_error": round(float(np.mean(errors)), 5)} if errors else {}
    return {"pictures": files, "scores": {"frames": count, "found": round(len(errors) / count, 4), **known}}


def expression_errors(theirs: list[Picture], ours: list[Picture]) -> list[float]:
    """Mean absolute difference of the expression scores of two pictures, for each pair that shows a face in both."""
    with LandmarkDetector() as detector:
        pairs = [(detector.detect(a), detector.detect(b)) for a, b in zip(theirs, ours, strict=True)]
    return [float(np.abs(a.blendshapes - b.blendshapes).mean()) for a, b in pairs if a is not None and b is not None]


def swept(avatar: Avatar, sequence: TrackedSequence, out: Path) -> list[str]:
    """Pictures of poses and expressions that were not filmed: turned by up to 60 degrees, and half as much expression again."""
    middle = sequence.test_part().params[torch.tensor([int(sequence.test.sum()) // 2])]
    angles = torch.tensor([[0.0, yaw, 0.0] for yaw in YAWS]).deg2rad()
    turned = middle[torch.zeros(len(YAWS) + 1, dtype=torch.long)]
    pose = turned.world_from_head.clone()
    pose[: len(YAWS), :3, :3] = pose[: len(YAWS), :3, :3] @ axis_angle_to_matrix(angles)
    expression = turned.expression.clone()
    strongest = sequence.params.expression.abs().sum(1).argmax()
    expression[-1] = 1.5 * sequence.params.expression[strongest]
    return _written(_pictures(avatar, replace(turned, world_from_head=pose, expression=expression), sequence), out, "sweep")


@torch.no_grad()
def _pictures(avatar: Avatar, motion: HeadParams, sequence: TrackedSequence) -> list[Picture]:
    device = next(avatar.parameters()).device
    camera, white = sequence.camera.to(device), WHITE.to(device)
    return [to_bytes(avatar.render(motion[t : t + 1].to(device), camera, white).rgb[0].cpu()) for t in range(len(motion))]


def _written(pictures: list[Picture], out: Path, kind: str) -> list[str]:
    """Names of the PNG files."""
    files = [f"{kind}_{number:02d}.png" for number in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        write_png(out / file, picture[..., ::-1])
    return files
