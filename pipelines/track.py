"""From a video to a tracked folder: find the face, crop, matte, fit the head to landmarks, refine it by the pixels, mask the neck."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from deja_vu.core.camera import Camera
from deja_vu.core.errors import FormatError, InputError, OutputError
from deja_vu.core.sequence import TrackedSequence, TrackInfo, write_frame, write_masks
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.io.video import read_frames
from deja_vu.pipelines.run_folder import open_run
from deja_vu.tracking.config import TrackConfig
from deja_vu.tracking.landmarks import ARKIT_NAMES, Detections, cut, cut_valid, detect_video
from deja_vu.tracking.masks import HeadMasks
from deja_vu.tracking.matte import Matting
from deja_vu.tracking.matte_check import doubt_mattes
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.overlay import write_overlay
from deja_vu.tracking.photometric import PhotometricRefiner
from deja_vu.tracking.solver import FaceSolver, fit_landmarks, refuse_untrackable
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.texture import Crops

WORKERS = min(4, os.cpu_count() or 1)
"""Threads that refine mattes and write pictures."""
TEST_SHARE = 0.2
BLOCK, BLOCK_PERIOD = 16, 5
PICTURE_SIDE = 256
"""Side of the small crops against which the photometric refinement runs."""


def track_into(video: Path, out: Path, config: TrackConfig, *, overwrite: bool, read: Sequence[Path] = ()) -> None:
    """Track a video into a run folder of its own.

    Args:
        video: file with one person's face.
        out: run folder.
        config: recipe.
        overwrite: replace the tracked video that the folder holds, once the new one is whole.
        read: further files that the command reads.

    Raises:
        InputError: the video cannot be used.
        OutputError: `out` holds what no run wrote, or a tracked video and the flag is missing; it is in use, or cannot be written.
    """
    with open_run(out, "track", inputs=[video, *read], overwrite=overwrite) as run:
        run.note(video=video.name)
        track(video, run.folder, config)


def track(video: Path, out: Path, config: TrackConfig) -> TrackedSequence:
    """Track a video into a folder that reloads with `TrackedSequence.load`.

    Args:
        video: file with one person's face.
        out: folder to fill, without frames of another video; made if missing.
        config: recipe.

    Raises:
        InputError: the video cannot be used; nothing is written then.
    """
    head = load_head(config.head)
    refuse_untrackable(head)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with tqdm(desc="find face", unit="frame") as bar:
            detections = detect_video(video, config.max_frames, partial(advance, bar))
    notes = tuple(dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)))
    say(notes)
    seen = observe(detections, config)
    test = split_frames(len(seen.times), config.split)
    if not test.any():
        raise InputError(f"{video}: {len(test)} frames with a face are too few to keep some for the test by split '{config.split}'.")
    begin_track(out)
    pictures, alphas, valid = crop_frames(video, detections, config, out)
    doubts = doubt_mattes(alphas.numpy(), shrunk(valid).numpy(), detections.index[detections.found])
    say(doubts)
    started = time.monotonic()
    solver = FaceSolver.of(head, seen, config.fit)
    state = fit_landmarks(solver, config.fit)
    error = solver.landmark_errors(state).median()
    print(f"fit to landmarks: median error {error:.2f} px of {config.resolution}, {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    crops = Crops(pictures, alphas, shrunk(valid), seen.window.resized(PICTURE_SIDE, PICTURE_SIDE))
    state, texture = PhotometricRefiner(solver, crops, ~test, config.photometric, config.fit).refine(state)
    print(
        f"refined by pixels: color deviation {texture.deviation[texture.times_seen > 3].median():.3f}, {time.monotonic() - started:.1f} s"
    )
    write_head_masks(head, state, seen.window, detections, valid, out)
    with video.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    info = TrackInfo(
        subject=video.stem,
        head_name=config.head,
        fps=detections.info.fps,
        source=video.name,
        source_sha256=digest,
        source_frames=detections.frames_read,
        crop=(detections.crop.x0, detections.crop.y0, detections.crop.x0 + detections.crop.size, detections.crop.y0 + detections.crop.size),
        resolution=config.resolution,
        split=config.split,
        warnings=notes + doubts,
    )
    index = torch.from_numpy(detections.index[detections.found]).long()
    sequence = TrackedSequence(out, info, state.params(), state.camera(seen.window), index, seen.times, test)
    sequence.save()
    write_overlay(head, sequence, out / "overlay.mp4")
    return sequence


def say(notes: tuple[str, ...]) -> None:
    """Print what the user should know."""
    for note in notes:
        print(f"note: {note}")


def begin_track(folder: Path) -> None:
    """Make a folder for the frames of a video.

    Raises:
        OutputError: it holds a tracked video or frames already, or cannot be written.
    """
    try:
        for name in ("frames", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        if (folder / "track.json").exists() or any(any((folder / name).iterdir()) for name in ("frames", "masks")):
            raise OutputError(f"{folder} holds frames already. Choose another folder.")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}). Choose another --out.") from error


def advance(bar: tqdm, done: int, total: int) -> None:
    """Move a bar to `done` of `total`."""
    bar.total = total
    bar.update(done - bar.n)


def crop_frames(video: Path, detections: Detections, config: TrackConfig, out: Path) -> tuple[Tensor, Tensor, np.ndarray]:
    """Store the crop and person alpha of every frame with a face.

    Returns:
        Small copies of both, uint8 [T 256 256 3] and [T 256 256], and where the crop shows what was filmed, uint8 [side side].
    """
    wanted = {int(index): place for place, index in enumerate(detections.index[detections.found])}
    side = config.resolution
    pictures = torch.empty(len(wanted), PICTURE_SIDE, PICTURE_SIDE, 3, dtype=torch.uint8)
    alphas = torch.empty(len(wanted), PICTURE_SIDE, PICTURE_SIDE, dtype=torch.uint8)
    landmarks, filmed = window_landmarks(detections, side), detections.filmed
    valid = cut_valid(filmed, detections.crop, side)
    bar = tqdm(total=len(wanted), desc="crop and matte", unit="frame")
    with bar, Matting(closed_form=config.closed_form_matte) as matting, ThreadPoolExecutor(WORKERS) as pool:

        def finish(place: int, index: int, crop: np.ndarray, coarse: np.ndarray) -> None:
            matte = matting.refine(crop, coarse, landmarks[place], valid=valid)
            write_frame(out, index, matte.foreground)
            write_masks(out, index, np.repeat(matte.alpha[..., None], 4, axis=2))
            pictures[place], alphas[place] = shrunk(crop), shrunk(matte.alpha)

        waiting: deque[Future[None]] = deque()
        for index, _, image in read_frames(video, max_frames=config.max_frames):
            place = wanted.get(index)
            if place is None:
                continue
            crop = cut(image, detections.crop, side, filmed=filmed)
            waiting.append(pool.submit(finish, place, index, crop, matting.coarse(crop)))
            if len(waiting) > 2 * WORKERS:
                waiting.popleft().result()
            bar.update()
        for future in waiting:
            future.result()
    return pictures, alphas, valid


def shrunk(image: np.ndarray) -> Tensor:
    """Small copy for the photometric refinement."""
    return torch.from_numpy(cv2.resize(image, (PICTURE_SIDE, PICTURE_SIDE), interpolation=cv2.INTER_AREA))


def window_landmarks(detections: Detections, side: int) -> np.ndarray:
    """Landmarks of the frames with a face, in pixels of the resized crop [T 478 2]."""
    origin = np.array([detections.crop.x0, detections.crop.y0], np.float32)
    return (detections.landmarks[detections.found, :, :2] - origin) * (side / detections.crop.size)


def observe(detections: Detections, config: TrackConfig) -> Observations:
    """What the solver needs of the frames in which a face was found."""
    info, crop, side = detections.info, detections.crop, config.resolution
    whole = Camera.from_focal(config.fit.focal_ratio * max(info.width, info.height), info.width, info.height)
    window = whole.cropped(crop.x0, crop.y0, crop.size, crop.size).resized(side, side)
    return Observations(
        torch.from_numpy(window_landmarks(detections, side)).float(),
        torch.from_numpy(detections.scores[detections.found]).float(),
        ARKIT_NAMES,
        window,
        torch.from_numpy(detections.times[detections.found]).float(),
    )


def split_frames(count: int, split: str) -> Tensor:
    """Which of the frames are for test only [T] bool."""
    place = torch.arange(count)
    if split == "blocks":
        return (place // BLOCK) % BLOCK_PERIOD == BLOCK_PERIOD - 1
    return place >= round(count * (1 - TEST_SHARE))


def read_person(folder: Path, index: int) -> np.ndarray:
    """Person alpha of a frame stored by `crop_frames`, uint8 [H W].

    Raises:
        FormatError: it is not there any more.
    """
    planes = cv2.imread(str(folder / "masks" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)
    if planes is None:
        raise FormatError(f"{folder}: the masks of frame {index:06d} vanished while tracking. Track the video again.")
    return planes[..., 0]


def write_head_masks(head: HeadModel, state: TrackState, window: Camera, detections: Detections, valid: np.ndarray, out: Path) -> None:
    """Complete the stored masks: head alpha is the person's without neck and torso; eyes_mouth is on eyes and mouth."""
    masks = HeadMasks(head)
    camera = state.camera(window)
    indices = detections.index[detections.found]

    def finish(index: int, weight: np.ndarray, eyes_mouth: np.ndarray) -> None:
        foreground = read_person(out, index)
        above = np.rint(foreground * (weight / 255.0)).astype(np.uint8)
        write_masks(out, index, np.stack([foreground, above, eyes_mouth, valid], axis=-1))

    with ThreadPoolExecutor(WORKERS) as pool:
        for start in tqdm(range(0, len(indices), 16), desc="mask neck", unit="batch"):
            chunk = slice(start, start + 16)
            weights, eyes_mouth = masks.render(state.params(chunk), camera, window.width)
            list(pool.map(finish, indices[chunk].tolist(), weights, eyes_mouth))
