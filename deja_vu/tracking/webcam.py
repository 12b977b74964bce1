"""A camera as a motion: a face followed as it moves, a few hundredths of a second behind."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType

import cv2
import numpy as np
import torch
from torch import Tensor

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.core.camera import Camera
from deja_vu.core.errors import InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.motion import MotionSource
from deja_vu.heads import load_head
from deja_vu.io.video import Image
from deja_vu.tracking.config import FitConfig
from deja_vu.tracking.detector import FaceObservation, LandmarkDetector
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.solver import FaceSolver, fit_landmarks, refuse_untrackable
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.terms import LandmarkPoints, LandmarkTerm

CALIBRATION_FRAMES = 24
"""Frames at the start, with a relaxed face, from which identity, focal length and rest are taken."""
WINDOW = 3
"""Frames solved together, of which the last is new: the change in time is held down as in a video."""
STEPS = 2
"""Gauss-Newton steps a frame, from where the face was a frame ago."""
PATIENCE = 10.0
"""Seconds to wait for a face at the start."""
JUMP = 0.25
"""Shift of the face between two frames, in face widths, beyond which its pose is found anew."""


@dataclass(frozen=True)
class Shot:
    """One picture of a camera."""

    image: Image
    seconds: float
    """When it was taken, on the clock of `time.monotonic`."""


class Webcam:
    """A camera of this machine, read in a thread that keeps the latest picture only; use it in a `with` block."""

    def __init__(self, index: int) -> None:
        """Open a camera.

        Args:
            index: its number, 0 for the first.

        Raises:
            InputError: there is no such camera, or another program has it.
        """
        self._capture = cv2.VideoCapture(index)
        working, first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not working or first is None:
            self._capture.release()
            raise InputError(
                f"There is no camera {index}, or another program uses it. Connect one, or close that program; "
                "a recorded video can be given with --motion FILE instead."
            )
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 30.0
        self._latest: Shot | None = Shot(_rgb(first), time.monotonic())
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Webcam:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._ended = True
        self._thread.join(timeout=2)
        self._capture.release()

    def shots(self) -> Iterator[Shot]:
        """The latest picture each time one is asked for; ends when the camera is unplugged."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._latest is not None or self._ended)
                shot, self._latest = self._latest, None
            if shot is None:
                return
            yield shot

    def _read(self) -> None:
        while not self._ended:
            working, picture = self._capture.read()
            with self._changed:
                if working and picture is not None:
                    self._latest = Shot(_rgb(picture), time.monotonic())
                else:
                    self._ended = True
                self._changed.notify()


def _rgb(picture: np.ndarray) -> Image:
    return np.ascontiguousarray(picture[..., ::-1])


class LiveMotion(MotionSource):
    """Whoever sits before a camera. The first second, with a relaxed face, is the rest."""

    live = True

    def __init__(self, shots: Iterator[Shot], fps: float, head_name: str, say: Callable[[str], None]) -> None:
        """Find the face and learn its rest.

        Args:
            shots: pictures, as they are taken.
            fps: their rate, 1/s.
            head_name: model of the avatar to be moved.
            say: told what the person before the camera is to do.

        Raises:
            InputError: no face for some seconds, or the camera ended.
        """
        self._head = load_head(head_name)
        refuse_untrackable(self._head)
        self.head_name, self.fps, self.taken = head_name, fps, 0.0
        self._shots, self._detector, self._config = shots, LandmarkDetector(), FitConfig()
        say("Look into the camera with a relaxed face, lips closed ...")
        observations, self._landmarks = self._calibrate(), LandmarkPoints.of(self._head)
        state = fit_landmarks(FaceSolver.of(self._head, observations, self._config, self._landmarks), self._config)
        self.neutral = _median(state.params())
        last = torch.arange(len(observations))[-WINDOW + 1 :]
        self._state, self._observations = state.select(last), observations.select(last)
        say("Ready.")

    def frames(self) -> Iterator[HeadParams]:
        """The face in every picture that shows it; `taken` then says when that picture was taken."""
        for shot in self._shots:
            face = self._detector.detect(shot.image)
            if face is None:
                continue
            self.taken = shot.seconds
            yield self._follow(face, shot)

    def __len__(self) -> int:
        return 0

    def close(self) -> None:
        """Free the detector."""
        self._detector.close()

    def _calibrate(self) -> Observations:
        found: deque[tuple[FaceObservation, Shot]] = deque()
        until = time.monotonic() + PATIENCE
        for shot in self._shots:
            face = self._detector.detect(shot.image)
            if face is not None:
                found.append((face, shot))
            if len(found) == CALIBRATION_FRAMES:
                return _observations([face for face, _ in found], [shot for _, shot in found], self._config)
            if face is None and time.monotonic() > until:
                raise InputError(f"The camera showed no face for {PATIENCE:.0f} s. Sit before it, with light on the face.")
        raise InputError("The camera's pictures ended before a face was found in enough of them.")

    def _follow(self, face: FaceObservation, shot: Shot) -> HeadParams:
        fresh = _observations([face], [shot], self._config)
        observations = self._observations.append(fresh)
        solver = FaceSolver.of(self._head, observations, self._config, self._landmarks)
        state = _extended(self._state)
        jump = (fresh.landmarks[0] - self._observations.landmarks[-1]).norm(dim=-1).median() / face.width
        if jump > JUMP:
            state = solver.find_poses(state)
        terms = [LandmarkTerm(self._landmarks, observations, self._config.landmark_px, self._config.robust_px)]
        for _ in range(STEPS):
            state = solver.step(state, terms, share_identity=False)
        keep = torch.arange(len(observations))[-WINDOW + 1 :]
        self._state, self._observations = state.select(keep), observations.select(keep)
        return state.params(slice(-1, None))


def _observations(faces: list[FaceObservation], shots: list[Shot], config: FitConfig) -> Observations:
    height, width = shots[0].image.shape[:2]
    return Observations(
        torch.from_numpy(np.stack([face.landmarks[:, :2] for face in faces])).float(),
        torch.from_numpy(np.stack([face.blendshapes for face in faces])).float(),
        ARKIT_NAMES,
        Camera.from_focal(config.focal_ratio * max(width, height), width, height),
        torch.tensor([shot.seconds for shot in shots], dtype=torch.float64),
    )


def _extended(state: TrackState) -> TrackState:
    """One more frame, as the last one is."""

    def again(values: Tensor) -> Tensor:
        return torch.cat([values, values[-1:]])

    return replace(state, expression=again(state.expression), joints=again(state.joints), world_from_head=again(state.world_from_head))


def _median(params: HeadParams) -> HeadParams:
    """The usual face of some frames in which hardly anything happens [1], in the pose of the middle one."""
    middle = params.world_from_head[len(params) // 2][None]
    expression, joints = (values.median(0, keepdim=True).values for values in (params.expression, params.joints))
    return HeadParams(params.shape[:1], expression, joints, middle)
