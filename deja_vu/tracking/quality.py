"""Whether a fit succeeded: measures for every frame and for the whole video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deja_vu.core.errors import TrackingError
from deja_vu.heads.skinning import matrix_to_axis_angle
from deja_vu.tracking.config import PhotometricConfig, QualityConfig
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.solver import FaceSolver
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.surface import HeadSurface
from deja_vu.tracking.texture import CHUNK_FRAMES, Crops, SurfaceTexture, fit_light, sample_pixels, weigh_points

MOST_NAMED = 8
"""Frames that a note names."""


@dataclass(frozen=True)
class Fault:
    """One way in which frames failed."""

    what: str
    """What is seen of it, as `the head jumps`."""
    advice: str
    """What to film better."""
    frames: Bool[Tensor, " T"]
    """On the host."""


def find_landmark_faults(solver: FaceSolver, state: TrackState, config: QualityConfig) -> list[Fault]:
    """Frames in which the fitted head cannot be right, as far as landmarks and poses tell it.

    Args:
        solver: of T frames.
        state: of the same frames.
        config: bounds.
    """
    error, depth = landmark_shares(solver, state), state.world_from_head[:, 2, 3]
    finite = torch.cat([value.flatten(1) for value in (state.expression, state.joints, state.world_from_head)], 1).isfinite().all(1)
    near, far = config.distance_range
    return [
        Fault(
            "the fitted head misses the face's landmarks",
            "Film one face, upright and lit from the front, without hands, microphone or hair before it",
            ~(error <= config.frame_error).cpu(),
        ),
        Fault(
            "the head would be in the camera or out of sight",
            "Film a face that fills a fifth of the picture or more",
            ~(finite & (depth >= near) & (depth <= far)).cpu(),
        ),
        Fault(
            "the head jumps farther than heads move",
            "Film without cuts, and hold the camera still",
            find_leaps(state, solver.observations, config).cpu(),
        ),
    ]


def landmark_shares(solver: FaceSolver, state: TrackState) -> Float[Tensor, " T"]:
    """Median distance of a frame's landmarks from the fitted head, over the face's width in that frame."""
    return solver.landmark_errors(state).median(1).values / face_widths(solver.observations)


def face_widths(observations: Observations) -> Float[Tensor, " T"]:
    """Width of the face in every frame, or of its height where that says more, as in `FaceObservation.width`."""
    low, high = observations.landmarks.amin(1), observations.landmarks.amax(1)
    return torch.maximum(high[:, 0] - low[:, 0], (high[:, 1] - low[:, 1]) / 1.25).clamp_min(1)


def find_leaps(state: TrackState, observations: Observations, config: QualityConfig) -> Bool[Tensor, " T"]:
    """Frames whose pose is out of reach of both neighbors; that of a cut is out of reach of one."""
    pose, seconds = state.world_from_head, observations.times[1:] - observations.times[:-1]
    turn = matrix_to_axis_angle(pose[1:, :3, :3] @ pose[:-1, :3, :3].mT).norm(dim=1)
    way = (pose[1:, :3, 3] - pose[:-1, :3, 3]).norm(dim=1) / pose[1:, 2, 3].abs().clamp_min(1e-3)
    leap = (turn > config.turn_rate * seconds + config.turn_slack) | (way > config.way_rate * seconds + config.way_slack)
    both = torch.zeros(len(pose), dtype=torch.bool, device=pose.device)
    both[1:-1] = leap[1:] & leap[:-1]
    return both


def find_pixel_faults(
    surface: HeadSurface, texture: SurfaceTexture, crops: Crops, state: TrackState, config: QualityConfig, photometric: PhotometricConfig
) -> list[Fault]:
    """Frames whose pixels contradict the fitted head.

    Args:
        surface: points of the head.
        texture: their usual colors.
        crops: T frames.
        state: of the same frames.
        config: bounds.
        photometric: how points are weighed and lit.
    """
    camera, colors, outside = state.camera(crops.camera), [], []
    for chunk in torch.arange(len(state.expression)).split(CHUNK_FRAMES):
        view = surface.view(state, chunk, camera)
        alpha = sample_pixels(crops.alpha[chunk][..., None], view.pixels)[..., 0]
        front = view.visible & (view.facing > photometric.min_facing)
        outside.append((front & (alpha < 0.5)).sum(1) / front.sum(1).clamp_min(1) + 1.0 * ~front.any(1))
        trust = weigh_points(view, crops.alpha[chunk], photometric) * (texture.times_seen >= photometric.min_times_seen)
        color = sample_pixels(crops.rgb[chunk], view.pixels)
        error = (color - fit_light(color, view.normals, trust, texture, photometric) * texture.color).square().mean(-1)
        colors.append(((trust * error).sum(1) / trust.sum(1).clamp_min(1e-6)).sqrt())
    return [
        Fault(
            "the face's colors are not those of the rest",
            "Lock the exposure, and keep hands and things from the face",
            (torch.cat(colors) > config.color).cpu(),
        ),
        Fault(
            "the fitted head lies outside the person's outline",
            "Film before a calm background of another color",
            (torch.cat(outside) > config.outside).cpu(),
        ),
    ]


def refuse_failed(video: Path, faults: list[Fault], error: Float[Tensor, " T"], config: QualityConfig) -> None:
    """Stop where a fit failed as a whole.

    Args:
        video: whose message it is.
        faults: of T frames.
        error: landmark error of every frame, over the face's width.
        config: bounds.

    Raises:
        TrackingError: too many frames failed, or the usual error is too large.
    """
    bad, usual = any_fault(faults), float(error.median())
    if float(bad.float().mean()) <= config.max_flagged and usual <= config.video_error:
        return
    worst = max(faults, key=lambda fault: int(fault.frames.sum()))  # the first, landmarks, where no frame is bad
    raise TrackingError(
        f"{video}: the head could not be followed: {worst.what} in {int(worst.frames.sum())} of {len(bad)} frames, and usually by "
        f"{100 * usual:.3g} % of the face's width. At most {config.max_flagged:.0%} of the frames may fail, and "
        f"{100 * config.video_error:.3g} % are allowed. {worst.advice}."
    )


def any_fault(faults: list[Fault]) -> Bool[Tensor, " T"]:
    """Frames with any of the faults."""
    return torch.stack([fault.frames for fault in faults]).any(0)


def describe_faults(faults: list[Fault], index: Int[Tensor, " T"]) -> tuple[str, ...]:
    """What to tell the user of frames that are left out.

    Args:
        faults: of T frames.
        index: of each in the video.
    """
    notes = []
    for fault in faults:
        bad = index[fault.frames].tolist()
        if bad:
            named = ", ".join(map(str, bad[:MOST_NAMED])) + (" ..." if len(bad) > MOST_NAMED else "")
            notes.append(f"{len(bad)} of {len(index)} frames are left out ({named}): {fault.what}. {fault.advice}.")
    return tuple(notes)
