"""What the detectors found in a video, in pixels of one window of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.core.camera import Camera


@dataclass(frozen=True)
class Observations:
    """Landmarks and expression scores of T frames."""

    landmarks: Float[Tensor, "T L 2"]
    """Detector landmarks, pixels of the window."""
    scores: Float[Tensor, "T N"]
    """Expression scores in [0, 1]."""
    score_names: Sequence[str]
    """Names of the N scores."""
    window: Camera
    """Crop window with the video's expected focal length."""
    times: Float[Tensor, " T"]
    """Seconds."""

    @staticmethod
    def of(
        landmarks: Float[np.ndarray, "T L 2"], scores: Float[np.ndarray, "T 52"], times: Float[np.ndarray, " T"], window: Camera
    ) -> Observations:
        """What MediaPipe's landmarker found.

        Args:
            landmarks: pixels of the window.
            scores: ordered as ARKIT_NAMES.
            times: seconds.
            window: camera on those pixels.
        """
        return Observations(
            landmarks=torch.from_numpy(landmarks).float(),
            scores=torch.from_numpy(scores).float(),
            score_names=ARKIT_NAMES,
            window=window,
            times=torch.from_numpy(times),
        )

    def __len__(self) -> int:
        return len(self.times)

    def to(self, device: torch.device) -> Observations:
        """The same on another device; the window stays on the host."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("landmarks", "scores", "times")})

    def select(self, frames: Int[Tensor, " n"]) -> Observations:
        """Some of the frames."""
        return replace(self, landmarks=self.landmarks[frames], scores=self.scores[frames], times=self.times[frames])

    def append(self, later: Observations) -> Observations:
        """These frames, then later ones of the same window."""
        return replace(
            self,
            landmarks=torch.cat([self.landmarks, later.landmarks]),
            scores=torch.cat([self.scores, later.scores]),
            times=torch.cat([self.times, later.times]),
        )

    def score_expressions(self, names: Sequence[str]) -> Float[Tensor, "T E"]:
        """Scores in the order of a head's E expressions; 0 for one that has no score."""
        scored = self.scores.new_zeros(len(self), len(names))
        for column, name in enumerate(names):
            if name in self.score_names:
                scored[:, column] = self.scores[:, list(self.score_names).index(name)]
        return scored

    @property
    def expected_log_focal(self) -> Float[Tensor, ""]:
        """Logarithm of the window's own focal length over its width."""
        return (self.window.intrinsics[0, 0] / self.window.width).log().to(self.times.device)
