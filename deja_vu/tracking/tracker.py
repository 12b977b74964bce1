"""From a video to a tracked folder.

Find the face, crop, matte, fit the head to landmarks, refine it by the pixels, track the torso below it, mask the neck.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm import tqdm

from deja_vu.core.errors import DejaVuError, InputError
from deja_vu.core.rate import usual_rate
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.core.stopwatch import Stopwatch
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import BUST_HEAD
from deja_vu.io.tracked_folder import write_sequence
from deja_vu.tracking.config import TrackConfig
from deja_vu.tracking.crop import find_person_crop
from deja_vu.tracking.faces_picture import write_faces
from deja_vu.tracking.frames import FrameWriter, StoredWindow, begin_track, note_memory
from deja_vu.tracking.landmarks import Detections, detect_video
from deja_vu.tracking.masks import HeadMasks
from deja_vu.tracking.matte import Matting
from deja_vu.tracking.matte_check import check_mattes
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.photometric import PhotometricRefiner
from deja_vu.tracking.quality import any_fault, describe_faults, find_landmark_faults, find_pixel_faults, landmark_shares, refuse_failed
from deja_vu.tracking.solver import FaceSolver, fit_landmarks, refuse_untrackable
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.surface import HeadSurface
from deja_vu.tracking.texture import Crops
from deja_vu.tracking.torso import track_torso

CPU = torch.device("cpu")
TEST_SHARE = 0.2
"""Share of the frames that split `tail` reserves for the test."""
BLOCK = 16
"""Frames of a block in split `blocks`."""
BLOCK_PERIOD = 5
"""One block in so many is for the test."""


def track_video(video: Path, out: Path, config: TrackConfig, watch: Stopwatch | None = None, device: torch.device = CPU) -> TrackedSequence:
    """Track a video into a folder that reloads with `TrackedSequence.load`.

    Args:
        video: file with one person's face.
        out: folder to fill, without frames of another video; made if missing.
        config: recipe.
        watch: gets the seconds of every stage.
        device: where the head is fitted; faces, mattes and the torso are found on the CPU.

    Raises:
        ConfigError: the head cannot be tracked.
        InputError: the video cannot be used, or (TrackingError) the head in it could not be followed; nothing is written then.
        OutputError: the folder holds frames already, or cannot be written.
    """
    watch, head = watch or Stopwatch(), load_head(config.head)
    refuse_untrackable(head)
    detections, notes = _detect(video, config)
    watch.end("find face")
    detected = detections.index[detections.found]
    detections, state, left_out = fit_video(video, head, detections, config, device)
    watch.end("fit to landmarks")
    begin_track(out)
    windows = choose_windows(detections, config)
    _print_notes(long := note_memory(len(state.expression), windows))
    writer = FrameWriter(video, detections, out, windows)
    crops, person = _crop_and_matte(writer, config)
    _print_notes(doubts := check_mattes(crops.alpha.numpy(), crops.valid.numpy(), detections.index[detections.found], config.matte_check))
    watch.end("crop and matte")
    try:
        state, good, failed = refine_video(video, head, detections, state, crops, config, device)
    except DejaVuError:
        writer.discard()
        raise
    writer = writer.without(~good.numpy())
    watch.end("refine by pixels")
    observations = observe(writer.detections, config)
    index, test = writer.detections.index[writer.detections.found], split_frames(len(observations), config.split)
    state, remarks = add_torso(head, state, windows, person.select(good), ~test, observations, config)
    watch.end("track torso")
    writer.write_head_masks(HeadMasks(head, config.masks), state)
    watch.end("mask neck")
    info = _describe(video, writer.detections, windows, config, notes + left_out + long + doubts + failed + remarks)
    sequence = TrackedSequence(
        folder=out,
        info=replace(info, excluded=tuple(sorted(set(detected.tolist()) - set(index.tolist())))),
        params=state.params(),
        camera=state.camera(observations.window),
        index=torch.from_numpy(index).long(),
        times=observations.times,
        test=test,
        torso_shape=state.torso_shape if config.head == BUST_HEAD else None,
    )
    if detections.crowd is not None:
        write_faces(video, detections.crowd, detections.turn, out / "faces.png")
    write_sequence(sequence)  # makes the folder whole
    return sequence


def _crop_and_matte(writer: FrameWriter, config: TrackConfig) -> list[Crops]:
    """Store the pictures of each window; returns small copies of them."""
    with ExitStack() as open_mattings:
        mattings = [open_mattings.enter_context(Matting(config.matte, closed_form=config.closed_form_matte)) for _ in writer.windows]
        return writer.write_crops(mattings, config.max_frames)


def choose_windows(detections: Detections, config: TrackConfig) -> tuple[StoredWindow, StoredWindow]:
    """The stored windows: the head's, and the person's with neck and torso."""
    info, side = detections.info, config.resolution
    person = find_person_crop(detections.crop, detections.filmed, config.person_window)
    cameras = [crop.camera(config.fit.focal_ratio, info.width, info.height, side) for crop in (detections.crop, person)]
    return (
        StoredWindow("head", detections.crop, cameras[0], config.photometric.resolution),
        StoredWindow("person", person, cameras[1], config.person_small),
    )


def observe(detections: Detections, config: TrackConfig) -> Observations:
    """The solver's input from the frames in which a face was found."""
    info, crop, found = detections.info, detections.crop, detections.found
    return Observations.of(
        landmarks=crop.map_points(detections.landmarks[found, :, :2], config.resolution),
        scores=detections.scores[found],
        times=detections.times[found].astype(np.float32),
        window=crop.camera(config.fit.focal_ratio, info.width, info.height, config.resolution),
    )


def fit_video(
    video: Path, head: HeadModel, detections: Detections, config: TrackConfig, device: torch.device = CPU
) -> tuple[Detections, TrackState, tuple[str, ...]]:
    """Fit a head to the landmarks of a video, and leave out the frames in which that failed.

    Args:
        video: for messages.
        head: model.
        detections: of its face.
        config: recipe.
        device: where to fit; the state comes back to the host.

    Returns:
        The frames that are used, their state, and notes about the others.

    Raises:
        InputError: too few frames.
        TrackingError: the fit failed.
    """
    started = time.monotonic()
    solver = FaceSolver.of(head.copy().to(device), observe(detections, config).to(device), config.fit)
    _refuse_short(video, len(solver.observations), config)
    state = fit_landmarks(solver, config.fit)
    error = solver.landmark_errors(state).median()
    print(f"fit to landmarks: median error {error:.2f} px of {config.resolution}, {time.monotonic() - started:.1f} s")
    faults = find_landmark_faults(solver, state, config.quality)
    refuse_failed(video, faults, landmark_shares(solver, state), config.quality)
    bad, notes = any_fault(faults), describe_faults(faults, torch.from_numpy(detections.index[detections.found]))
    _print_notes(notes)
    _refuse_short(video, int((~bad).sum()), config)
    return detections.without(bad.numpy()), state.to(CPU).select(~bad), notes


def refine_video(
    video: Path, head: HeadModel, detections: Detections, state: TrackState, crops: Crops, config: TrackConfig, device: torch.device = CPU
) -> tuple[TrackState, Bool[Tensor, " T"], tuple[str, ...]]:
    """Refine a fit by the video's pixels.

    Args:
        video: for messages.
        head: model.
        detections: with a face in T frames.
        state: of these, fitted to landmarks.
        crops: of the same frames.
        config: recipe.
        device: where to refine; the state comes back to the host.

    Returns:
        State of the frames that succeeded, which these are, and notes about the others.

    Raises:
        TrackingError: the fit failed.
    """
    started, train = time.monotonic(), ~split_frames(len(crops.rgb), config.split)
    head, crops, state = head.copy().to(device), crops.to(device), state.to(device)
    solver = FaceSolver.of(head, observe(detections, config).to(device), config.fit)
    refiner = PhotometricRefiner(solver, crops, train.to(device), config.photometric, config.fit)
    state, texture = refiner.refine(state)
    followed = texture.deviation[texture.times_seen > 3]
    colors = f"color deviation {followed.median():.3f}" if len(followed) else "no point was seen often enough to judge colors"
    print(f"refined by pixels: {colors}, {time.monotonic() - started:.1f} s")
    surface = HeadSurface(head, config.photometric.point_grid)
    faults = find_landmark_faults(solver, state, config.quality)
    faults += find_pixel_faults(surface, texture, crops, state, config.quality, config.photometric)
    refuse_failed(video, faults, landmark_shares(solver, state), config.quality)
    good, notes = ~any_fault(faults), describe_faults(faults, torch.from_numpy(detections.index[detections.found]))
    _print_notes(notes)
    _refuse_short(video, int(good.sum()), config)
    return state.to(CPU).select(good), good, notes


def add_torso(
    head: HeadModel,
    state: TrackState,
    windows: Sequence[StoredWindow],
    crops: Crops,
    train: Bool[Tensor, " T"],
    observations: Observations,
    config: TrackConfig,
) -> tuple[TrackState, tuple[str, ...]]:
    """Track the torso; returns the state with its motion and shape, and notes about it."""
    started = time.monotonic()
    widened = state.widen(windows[1].crop.size / windows[0].crop.size)
    found, remarks = track_torso(head, widened, crops, train, observations.times, config.torso)
    print(f"torso tracked: {time.monotonic() - started:.1f} s")
    _print_notes(remarks)
    return replace(state, torso=found.torso, torso_shape=found.torso_shape), remarks


def _refuse_short(video: Path, frames: int, config: TrackConfig) -> None:
    if not split_frames(frames, config.split).any():
        raise InputError(f"{video}: {frames} frames with a face are too few to keep some for the test by split '{config.split}'.")


def split_frames(count: int, split: str) -> Bool[Tensor, " T"]:
    """Which of the frames are test frames."""
    place = torch.arange(count)
    if split == "blocks":
        return (place // BLOCK) % BLOCK_PERIOD == BLOCK_PERIOD - 1
    return place >= round(count * (1 - TEST_SHARE))


def _detect(video: Path, config: TrackConfig) -> tuple[Detections, tuple[str, ...]]:
    """Detect and follow the face; returns it with notes about the file."""
    with warnings.catch_warnings(record=True) as caught, tqdm(desc="find face", unit="frame", delay=0.5) as bar:
        warnings.simplefilter("always")

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        detections = detect_video(video, config.max_frames, advance, config.detection)
    notes = tuple(dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)))
    _print_notes(notes)
    return detections, notes


def _describe(
    video: Path, detections: Detections, windows: Sequence[StoredWindow], config: TrackConfig, notes: tuple[str, ...]
) -> TrackInfo:
    with video.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return TrackInfo(
        subject=video.stem,
        head_name=config.head,
        fps=usual_rate(torch.from_numpy(detections.times), detections.info.fps),
        source=video.name,
        source_sha256=digest,
        source_frames=detections.frames_read,
        crop=windows[0].crop.box,
        person_crop=windows[1].crop.box,
        resolution=config.resolution,
        split=config.split,
        turn=detections.turn,
        warnings=notes,
    )


def _print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"note: {note}")
