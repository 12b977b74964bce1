"""Resampling of frames at uneven times to an even rate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.core.rate import is_even, usual_rate
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.skinning import axis_angle_to_matrix, invert_motion, matrix_to_axis_angle

MAX_GAP = 0.5
"""Seconds without a frame beyond which the motion is said to be bridged."""
LONGEST_BRIDGE = 600.0
"""Seconds over which a motion is bridged; clocks that jump, and recordings of several days in one file, have longer pauses."""
SHOWN_GAPS = 3
"""Gaps that are named."""


@dataclass(frozen=True)
class EvenMotion:
    """Frames at one rate."""

    params: HeadParams
    fps: float
    """1/s."""
    notes: tuple[str, ...]
    """On gaps that were bridged."""
    shortened: bool = False
    """Whether pauses were taken out."""


def play_evenly(sequence: TrackedSequence) -> EvenMotion:
    """The frames of a tracked video at its usual rate, in its own time: between frames, and over gaps, the motion is interpolated."""
    times, pauses = close_pauses(sequence.times.double(), sequence.info.source)
    rate = usual_rate(times, sequence.info.fps)
    if len(times) < 2 or is_even(times, rate):
        return EvenMotion(sequence.params, rate, pauses, bool(pauses))
    gaps = times.diff()
    long = torch.nonzero(gaps > MAX_GAP).flatten().tolist()
    where = ", ".join(f"{float(gaps[place]):.1f} s at {float(times[place] - times[0]):.1f} s" for place in long[:SHOWN_GAPS])
    more = f" and {len(long) - SHOWN_GAPS} times more" if len(long) > SHOWN_GAPS else ""
    bridged = (f"{sequence.info.source}: no face for {where}{more}; the motion is bridged there.",) if long else ()
    grid = times[0] + torch.arange(int((times[-1] - times[0]) * rate + 1e-6) + 1) / rate
    return EvenMotion(interpolate(sequence.params, times, grid), rate, pauses + bridged, bool(pauses))


def close_pauses(times: Float[Tensor, " T"], name: str) -> tuple[Float[Tensor, " T"], tuple[str, ...]]:
    """Growing times in which pauses longer than `LONGEST_BRIDGE` last a moment each, and what is to be said of them.

    Args:
        times: of frames, seconds.
        name: of the file, for the note.
    """
    steps = times.diff()
    long = steps > LONGEST_BRIDGE
    if not bool(long.any()):
        return times, ()
    first = int(long.nonzero()[0])
    many = f" (and {int(long.sum()) - 1} times more)" if long.sum() > 1 else ""
    note = f"{name}: nothing for {float(steps[first]):.0f} s after {float(times[first] - times[0]):.1f} s{many}; "
    closed = torch.cat([times[:1], times[0] + torch.where(long, MAX_GAP / 2, steps).cumsum(0)])
    return closed, (f"{note}the motion goes on there without the pause.",)


def interpolate(params: HeadParams, times: Float[Tensor, " T"], moments: Float[Tensor, " M"]) -> HeadParams:
    """Head parameters at some moments, between those of frames: linear, and along the shortest turn.

    Args:
        params: T frames.
        times: their times, growing.
        moments: within these times.
    """
    after = torch.searchsorted(times, moments).clamp(1, len(times) - 1)
    before = after - 1
    share = ((moments - times[before]) / (times[after] - times[before])).clamp(0, 1).float()
    first, second = params[before], params[after]
    head = _between(first.world_from_head, second.world_from_head, share)
    torso = _between(first.world_from_torso, second.world_from_torso, share)
    return replace(
        first,
        expression=torch.lerp(first.expression, second.expression, share[:, None]),
        joints=torch.lerp(first.joints, second.joints, share[:, None, None]),
        world_from_head=head,
        torso=invert_motion(head) @ torso,
    )


def _between(first: Float[Tensor, "M 4 4"], second: Float[Tensor, "M 4 4"], share: Float[Tensor, " M"]) -> Float[Tensor, "M 4 4"]:
    """Rigid poses part of the way from one to the other."""
    pose = first.clone()
    turn = matrix_to_axis_angle(first[:, :3, :3].mT @ second[:, :3, :3])
    pose[:, :3, :3] = first[:, :3, :3] @ axis_angle_to_matrix(share[:, None] * turn)
    pose[:, :3, 3] = torch.lerp(first[:, :3, 3], second[:, :3, 3], share[:, None])
    return pose
