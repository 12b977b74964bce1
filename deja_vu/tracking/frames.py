"""The frames of a tracked folder: windows of the video, mattes, and where the head ends in them."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8
from tqdm import tqdm

from deja_vu.core.camera import Camera
from deja_vu.core.errors import FormatError, InputError, OutputError
from deja_vu.core.image import decode_picture
from deja_vu.core.sequence import WINDOW_FOLDERS, Window
from deja_vu.io.decode import refuse_changed
from deja_vu.io.tracked_folder import make_frame_folders, write_frame, write_masks
from deja_vu.tracking.crop import Crop, crop_frame, crop_valid, shrink
from deja_vu.tracking.landmarks import Detections, read_turned
from deja_vu.tracking.masks import HeadMasks, head_alpha
from deja_vu.tracking.matte import Matting
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.texture import CHUNK_FRAMES, Crops

WORKERS = min(4, os.cpu_count() or 1)
"""Threads that refine mattes and write pictures."""


MUCH_MEMORY = 1.0
"""Gigabytes of small copies from which on they are mentioned: two minutes of film or more."""


def begin_track(folder: Path) -> None:
    """Make a folder for the frames of a video; what was filmed is closed to other users of this machine.

    Raises:
        OutputError: it holds a tracked video or frames already, or cannot be written.
    """
    try:
        places = make_frame_folders(folder, list(WINDOW_FOLDERS))
        if (folder / "track.json").exists() or any(any(place.iterdir()) for place in places):
            raise OutputError(f"{folder} holds frames already. Choose another folder.")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}). Choose another --out.") from error


@dataclass(frozen=True)
class StoredWindow:
    """A square window of the video as it is stored."""

    name: Window
    crop: Crop
    camera: Camera
    """On the stored pixels, with the video's expected focal length."""
    small_side: int
    """Of the small copies that the tracker looks at, pixels."""


def note_memory(frames: int, windows: Sequence[StoredWindow]) -> tuple[str, ...]:
    """What is to be said of the memory that the small copies of a long film take, if it is unusual."""
    gigabytes = frames * sum(4 * window.small_side**2 for window in windows) / 1e9
    if gigabytes < MUCH_MEMORY:
        return ()
    return (f"{frames} frames take {gigabytes:.1f} GB of memory. --max-frames uses the beginning alone; a minute is enough for an avatar.",)


@dataclass(frozen=True)
class FrameWriter:
    """Stores windows of the frames in which a face was found, and later their masks."""

    video: Path
    detections: Detections
    out: Path
    windows: Sequence[StoredWindow]

    def write_crops(self, mattings: Sequence[Matting], max_frames: int | None = None) -> list[Crops]:
        """Store the windows and the person's alpha of every frame with a face.

        Args:
            mattings: one for each window, of this video alone.
            max_frames: as the detections were made with.

        Returns:
            Small copies of each window.

        Raises:
            InputError: the video changed since its faces were looked for; nothing is kept then.
        """
        indices = self.detections.index[self.detections.found]
        places = {int(index): place for place, index in enumerate(indices)}
        storing = [_WindowStore(self, window, matting) for window, matting in zip(self.windows, mattings, strict=True)]
        waiting: deque[Future[None]] = deque()
        with tqdm(total=len(places), desc="crop and matte", unit="frame") as bar, ThreadPoolExecutor(WORKERS) as pool:
            for index, _, image in read_turned(self.video, self.detections.turn, max_frames, warn=False):  # the detector said it all
                if index not in places:
                    continue
                for one in storing:
                    crop = crop_frame(image, one.window.crop, one.side, filmed=self.detections.filmed)
                    waiting.append(pool.submit(one.store, places[index], index, crop, one.matting.coarse(crop)))
                while len(waiting) > 2 * WORKERS:
                    waiting.popleft().result()
                bar.update()
            for future in waiting:
                future.result()
        try:
            refuse_changed(self.video, self.detections.mark)
            if bar.n < len(places):
                raise InputError(f"{self.video}: {bar.n} of {len(places)} frames with a face could be read again. Copy it to another disk.")
        except InputError:
            self.discard()
            raise
        return [one.crops() for one in storing]

    def without(self, bad: Bool[np.ndarray, " n"]) -> FrameWriter:
        """The same without some of the stored frames, whose pictures and masks are deleted."""
        for index in self.detections.index[self.detections.found][bad]:
            for window in self.windows:
                pictures, planes = WINDOW_FOLDERS[window.name]
                (self.out / pictures / f"{index:06d}.jpg").unlink()
                (self.out / planes / f"{index:06d}.png").unlink()
        return replace(self, detections=self.detections.without(bad))

    def discard(self) -> None:
        """Delete what was stored."""
        for window in self.windows:
            for name in WINDOW_FOLDERS[window.name]:
                shutil.rmtree(self.out / name)

    def write_head_masks(self, masks: HeadMasks, state: TrackState) -> None:
        """Complete the stored masks: head alpha is the person's without neck and torso; eyes_mouth is on eyes and mouth.

        Args:
            masks: of the head.
            state: of the frames with a face, in the head's window.
        """
        indices = self.detections.index[self.detections.found]
        with ThreadPoolExecutor(WORKERS) as pool:
            for start in tqdm(range(0, len(indices), CHUNK_FRAMES), desc="mask neck", unit="batch"):
                chunk = slice(start, start + CHUNK_FRAMES)
                for window in self.windows:
                    side = window.camera.width
                    valid = crop_valid(self.detections.filmed, window.crop, side)

                    def finish(
                        index: int, weight: np.ndarray, eyes_mouth: np.ndarray, name: Window = window.name, valid: np.ndarray = valid
                    ) -> None:
                        foreground = read_foreground(self.out, index, name)
                        planes = np.stack([foreground, head_alpha(foreground, weight), eyes_mouth, valid], axis=-1)
                        write_masks(self.out, index, planes, name)

                    camera = state.widen(window.crop.size / self.detections.crop.size).camera(window.camera)
                    weights, eyes_mouth = masks.render(state.params(chunk), camera, side)
                    list(pool.map(finish, indices[chunk].tolist(), weights, eyes_mouth))


class _WindowStore:
    """One window's pictures on their way to disk, and their small copies."""

    def __init__(self, writer: FrameWriter, window: StoredWindow, matting: Matting) -> None:
        found, small = writer.detections.found, window.small_side
        self.out, self.window, self.matting, self.side = writer.out, window, matting, window.camera.width
        self.valid = crop_valid(writer.detections.filmed, window.crop, self.side)
        self.landmarks = window.crop.map_points(writer.detections.landmarks[found, :, :2], self.side)
        self.rgb = torch.empty(len(self.landmarks), small, small, 3, dtype=torch.uint8)
        self.alpha = torch.empty(len(self.landmarks), small, small, dtype=torch.uint8)

    def store(self, place: int, index: int, crop: UInt8[np.ndarray, "side side 3"], coarse: np.ndarray) -> None:
        """Refine the matte of one frame and write both."""
        matte = self.matting.refine(crop, coarse, self.landmarks[place], valid=self.valid)
        write_frame(self.out, index, matte.foreground, self.window.name)
        write_masks(self.out, index, np.repeat(matte.alpha[..., None], 4, axis=2), self.window.name)
        small = self.window.small_side
        self.rgb[place], self.alpha[place] = shrink(crop, small), shrink(matte.alpha, small)

    def crops(self) -> Crops:
        """The small copies."""
        small = self.window.small_side
        return Crops(self.rgb, self.alpha, shrink(self.valid, small), self.window.camera.resize(small, small))


def read_foreground(folder: Path, index: int, window: Window = "head") -> UInt8[np.ndarray, "H W"]:
    """The person's alpha of a frame stored by `FrameWriter.write_crops`.

    Raises:
        FormatError: it is not there any more.
    """
    planes = decode_picture(folder / WINDOW_FOLDERS[window][1] / f"{index:06d}.png", cv2.IMREAD_UNCHANGED)
    if planes is None:
        raise FormatError(f"{folder}: the masks of frame {index:06d} vanished while tracking. Track the video again.")
    return planes[..., 0]
