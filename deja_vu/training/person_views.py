"""Loss in the window that holds neck and torso, which the window of the head cuts off; one of its frames every few steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars import GaussianAvatar
from deja_vu.core.batch import Batch
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.frames import FrameSource
from deja_vu.training.gaussian_config import PersonViewConfig
from deja_vu.training.objective import ImageObjective, image_weights

CACHE_BYTES = 350_000_000
"""Memory for decoded frames."""
SOFT = 0.05
"""Share of the head in a pixel from which on the pixel is the head's."""


class PersonViewLoss:
    """The picture's terms over what the person is beside the head, summed with their weights; without the perceptual one."""

    def __init__(self, sequence: TrackedSequence, config: PersonViewConfig, objective: ImageObjective) -> None:
        """Choose the frames.

        Args:
            sequence: training frames, stored with neck and torso.
            config: how closely they are looked at.
            objective: of the head's window.
        """
        self.sequence, self.config, self.objective = sequence.person_window(), config, objective
        self._source: FrameSource | None = None

    def __call__(
        self, avatar: GaussianAvatar, resolution: int, background: Float[Tensor, "3"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Terms of one frame.

        Args:
            avatar: in training.
            resolution: side of the head's pictures in this phase, pixels; these are no larger.
            background: color behind render and target.
            generator: of the draw of a frame.
        """
        side = min(resolution, self.config.resolution)
        if self._source is None or self._source.resolution != side:
            self._source = FrameSource(self.sequence, side, CACHE_BYTES, background.device)
        position = torch.randint(len(self.sequence), (1,), generator=generator)
        batch = leave_out_head(self._source.batch(position)).to(background.device)
        out = avatar.render(batch.params, batch.camera, background)
        weights = image_weights(self.objective.weights)
        terms = self.objective.terms(out, batch, background, window=None, filmed=batch.valid)
        return torch.stack([weights[name] * value for name, value in terms.items()]).sum()


def leave_out_head(frame: Batch) -> Batch:
    """A frame of the whole person without its head, which counts for nothing: its own window shows it larger; this one would blur it."""
    person = frame.whole_person()
    return replace(person, valid=person.valid * (frame.head < SOFT).float())
