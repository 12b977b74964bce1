"""The frames of a tracked folder: head crops, mattes, and where the head ends in them."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from tqdm import tqdm

from deja_vu.core.camera import Camera
from deja_vu.core.errors import FormatError, OutputError
from deja_vu.io.tracked_folder import write_frame, write_masks
from deja_vu.io.video import read_frames
from deja_vu.tracking.crop import crop_frame, crop_valid, shrink
from deja_vu.tracking.landmarks import Detections
from deja_vu.tracking.masks import HeadMasks, head_alpha
from deja_vu.tracking.matte import Matting
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.texture import CHUNK_FRAMES, Crops

WORKERS = min(4, os.cpu_count() or 1)
"""Threads that refine mattes and write pictures."""


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


@dataclass(frozen=True)
class FrameWriter:
    """Stores the frames of a video in which a face was found, and later their masks."""

    video: Path
    detections: Detections
    out: Path
    side: int
    """Of the stored head crop, pixels."""

    @property
    def valid(self) -> UInt8[np.ndarray, "side side"]:
        """255 where the crop shows what was filmed."""
        return crop_valid(self.detections.filmed, self.detections.crop, self.side)

    def write_crops(self, matting: Matting, window: Camera, small_side: int, max_frames: int | None = None) -> Crops:
        """Store the crop and the person's alpha of every frame with a face.

        Args:
            matting: of this video alone.
            window: camera of the stored crop.
            small_side: of the copies that are returned, pixels.
            max_frames: as the detections were made with.
        """
        detections, valid = self.detections, self.valid
        landmarks = detections.crop.map_points(detections.landmarks[detections.found, :, :2], self.side)
        places = {int(index): place for place, index in enumerate(detections.index[detections.found])}
        rgb = torch.empty(len(places), small_side, small_side, 3, dtype=torch.uint8)
        alpha = torch.empty(len(places), small_side, small_side, dtype=torch.uint8)

        def finish(place: int, index: int, crop: np.ndarray, coarse: np.ndarray) -> None:
            matte = matting.refine(crop, coarse, landmarks[place], valid=valid)
            write_frame(self.out, index, matte.foreground)
            write_masks(self.out, index, np.repeat(matte.alpha[..., None], 4, axis=2))
            rgb[place], alpha[place] = shrink(crop, small_side), shrink(matte.alpha, small_side)

        waiting: deque[Future[None]] = deque()
        with tqdm(total=len(places), desc="crop and matte", unit="frame") as bar, ThreadPoolExecutor(WORKERS) as pool:
            for index, _, image in read_frames(self.video, max_frames=max_frames):
                if index not in places:
                    continue
                crop = crop_frame(image, detections.crop, self.side, filmed=detections.filmed)
                waiting.append(pool.submit(finish, places[index], index, crop, matting.coarse(crop)))
                if len(waiting) > 2 * WORKERS:
                    waiting.popleft().result()
                bar.update()
            for future in waiting:
                future.result()
        return Crops(rgb, alpha, shrink(valid, small_side), window.resize(small_side, small_side))

    def write_head_masks(self, masks: HeadMasks, state: TrackState, window: Camera) -> None:
        """Complete the stored masks: head alpha is the person's without neck and torso; eyes_mouth is on eyes and mouth."""
        camera, valid = state.camera(window), self.valid
        indices = self.detections.index[self.detections.found]

        def finish(index: int, weight: np.ndarray, eyes_mouth: np.ndarray) -> None:
            foreground = read_foreground(self.out, index)
            write_masks(self.out, index, np.stack([foreground, head_alpha(foreground, weight), eyes_mouth, valid], axis=-1))

        with ThreadPoolExecutor(WORKERS) as pool:
            for start in tqdm(range(0, len(indices), CHUNK_FRAMES), desc="mask neck", unit="batch"):
                chunk = slice(start, start + CHUNK_FRAMES)
                weights, eyes_mouth = masks.render(state.params(chunk), camera, window.width)
                list(pool.map(finish, indices[chunk].tolist(), weights, eyes_mouth))


def read_foreground(folder: Path, index: int) -> UInt8[np.ndarray, "H W"]:
    """The person's alpha of a frame stored by `FrameWriter.write_crops`.

    Raises:
        FormatError: it is not there any more.
    """
    planes = cv2.imread(str(folder / "masks" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)
    if planes is None:
        raise FormatError(f"{folder}: the masks of frame {index:06d} vanished while tracking. Track the video again.")
    return planes[..., 0]
