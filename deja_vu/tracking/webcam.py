"""A camera as a source of motion: a face is tracked live, a few hundredths of a second late."""

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

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.live_reader import LivePicture, LiveReader
from deja_vu.core.camera import Camera
from deja_vu.core.errors import InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.motion import MotionSource
from deja_vu.core.sampling import evenly_spaced
from deja_vu.heads import load_head
from deja_vu.io.video import Image
from deja_vu.tracking.config import LiveConfig
from deja_vu.tracking.detector import FaceObservation, LandmarkDetector
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.solver import FaceSolver, fit_landmarks, refuse_untrackable
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.terms import LandmarkPoints


@dataclass(frozen=True)
class CameraPicture:
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
        self._latest: CameraPicture | None = CameraPicture(_to_rgb(first), time.monotonic())
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

    def pictures(self) -> Iterator[CameraPicture]:
        """The latest picture each time one is asked for; ends when the camera is unplugged."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._latest is not None or self._ended)
                picture, self._latest = self._latest, None
            if picture is None:
                return
            yield picture

    def _read(self) -> None:
        while not self._ended:
            working, picture = self._capture.read()
            with self._changed:
                if working and picture is not None:
                    self._latest = CameraPicture(_to_rgb(picture), time.monotonic())
                else:
                    self._ended = True
                self._changed.notify()


def _to_rgb(picture: np.ndarray) -> Image:
    return np.ascontiguousarray(picture[..., ::-1])


class LiveMotion(MotionSource):
    """Whoever sits before a camera. The first second, with a relaxed face, is the rest."""

    live = True

    def __init__(
        self,
        pictures: Iterator[CameraPicture],
        fps: float,
        head_name: str,
        say: Callable[[str], None],
        config: LiveConfig = LiveConfig(),
        own: GaussianAvatar | None = None,
    ) -> None:
        """Find the face and learn its rest.

        Args:
            pictures: pictures, as they are taken.
            fps: their rate, 1/s.
            head_name: model of the avatar to be moved.
            say: told what the person before the camera is to do.
            config: recipe.
            own: avatar of the very person before the camera, on the CPU, in evaluation mode, with a reader: expression, jaw and eyes are
                read from every picture then.

        Raises:
            InputError: no face for some seconds, or the camera ended.
        """
        self._head = load_head(head_name)
        refuse_untrackable(self._head)
        self.head_name, self.fps, self.taken = head_name, fps, 0.0
        self._pictures, self._detector, self._config = pictures, LandmarkDetector(), config
        say("Look into the camera with a relaxed face, lips closed ...")
        (observations, rest), self._landmarks = self._calibrate(), LandmarkPoints.of(self._head, config.fit)
        solver = FaceSolver.of(self._head, observations, config.fit, self._landmarks)
        state = fit_landmarks(solver, config.fit)
        self._reader: LiveReader | None = None
        if own is not None and own.reader is not None:
            start = solver.find_poses(replace(state, shape=own.shape))
            state, _ = solver.descend(start, [solver.landmark_term(config.fit)], config.fit.steps, share_identity=False)
            seen = [_join(rest[number], state, number, observations) for number in evenly_spaced(config.read_frames, len(rest)).tolist()]
            self._reader = LiveReader(own, own.reader, seen)
        self.neutral = _estimate_neutral(state.params())
        last = torch.arange(len(observations))[1 - config.window_frames :]
        self._state, self._observations = state.select(last), observations.select(last)
        say("Ready.")

    def frames(self) -> Iterator[HeadParams]:
        """The face in every picture that shows it; `taken` then says when that picture was taken."""
        for picture in self._pictures:
            face = self._detector.detect(picture.image)
            if face is None:
                continue
            self.taken = picture.seconds
            params = self._follow(face, picture)
            if self._reader is not None:
                params = self._reader.read(_join(picture, self._state, -1, self._observations))
            yield params

    def __len__(self) -> int:
        return 0

    def close(self) -> None:
        """Free the detector."""
        self._detector.close()

    def _calibrate(self) -> tuple[Observations, list[CameraPicture]]:
        found: deque[tuple[FaceObservation, CameraPicture]] = deque()
        until = time.monotonic() + self._config.patience
        for picture in self._pictures:
            face = self._detector.detect(picture.image)
            if face is not None:
                found.append((face, picture))
            if len(found) == self._config.calibration_frames:
                pictures = [picture for _, picture in found]
                return self._observe([face for face, _ in found], pictures), pictures
            if face is None and time.monotonic() > until:
                raise InputError(f"The camera showed no face for {self._config.patience:.0f} s. Sit before it, with light on the face.")
        raise InputError("The camera's pictures ended before a face was found in enough of them.")

    def _follow(self, face: FaceObservation, picture: CameraPicture) -> HeadParams:
        config, fresh = self._config, self._observe([face], [picture])
        observations = self._observations.append(fresh)
        solver = FaceSolver.of(self._head, observations, config.fit, self._landmarks)
        state = _repeat_last(self._state)
        jump = (fresh.landmarks[0] - self._observations.landmarks[-1]).norm(dim=-1).median() / face.width
        if jump > config.jump:
            state = solver.find_poses(state)
        state, _ = solver.descend(state, [solver.landmark_term(config.fit)], config.steps, share_identity=False)
        keep = torch.arange(len(observations))[1 - config.window_frames :]
        self._state, self._observations = state.select(keep), observations.select(keep)
        return state.params(slice(-1, None))

    def _observe(self, faces: list[FaceObservation], pictures: list[CameraPicture]) -> Observations:
        height, width = pictures[0].image.shape[:2]
        return Observations.of(
            landmarks=np.stack([face.landmarks[:, :2] for face in faces]),
            scores=np.stack([face.blendshapes for face in faces]),
            times=np.array([picture.seconds for picture in pictures]),
            window=Camera.from_focal(self._config.fit.focal_ratio * max(width, height), width, height),
        )


def _join(picture: CameraPicture, state: TrackState, number: int, observations: Observations) -> LivePicture:
    """A picture with what was tracked there, in one of the state's frames."""
    frame = torch.arange(len(state.expression))[number, None]
    return LivePicture(torch.from_numpy(picture.image), state.params(frame), state.camera(observations.window))


def _repeat_last(state: TrackState) -> TrackState:
    """One more frame, as the last one is."""
    count = len(state.expression)
    return state.select(torch.arange(count + 1).clamp_max(count - 1))


def _estimate_neutral(params: HeadParams) -> HeadParams:
    """The usual face of some frames in which hardly anything happens [1], in the pose of the middle one."""
    middle = params.world_from_head[len(params) // 2][None]
    expression, joints = (values.median(0, keepdim=True).values for values in (params.expression, params.joints))
    return HeadParams(params.shape[:1], expression, joints, middle)
