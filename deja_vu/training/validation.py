"""Validation during training: frames held out, their scores and pictures."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deja_vu.avatars.base import Avatar
from deja_vu.core.batch import Batch
from deja_vu.core.image import over
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.regions import followed_parts, points_box
from deja_vu.io.frames import FrameSource
from deja_vu.losses.picture import psnr, to_decibels
from deja_vu.training.config import ValidationConfig
from deja_vu.training.logging import RunLogger

TRAIN_PICTURE = "train/target_render_error"
VALIDATION_PICTURE = "validation/target_render_error"
VALIDATION_PSNR = "validation/psnr"
"""Of the whole picture; a region's has its name behind it."""
REGION_MARGIN = 0.2
"""Share of a region's size added to its box on every side."""


def hold_out(sequence: TrackedSequence, share: float) -> tuple[TrackedSequence, TrackedSequence]:
    """Frames to train on, and a block in their middle, `share` of them, to watch."""
    count = round(share * len(sequence))
    first = (len(sequence) - count) // 2
    positions = torch.arange(len(sequence))
    held = (positions >= first) & (positions < first + count)
    return sequence.select(positions[~held]), sequence.select(positions[held])


class BestWeights(nn.Module):
    """A copy of a model as it was when it did best on what is only watched."""

    score: Tensor
    """Of the kept state, higher is better; minus infinity before the first one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.register_buffer("score", torch.tensor(-math.inf, dtype=torch.float64))
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BestWeights:
        """The model follows to another device; the score, which every look reads, stays on the host."""
        score = self.score
        super()._apply(fn, recurse)
        self.score = score
        return self

    def train(self, mode: bool = True) -> BestWeights:
        """Stay in evaluation mode: what is kept is never trained."""
        return super().train(False)

    @torch.no_grad()
    def offer(self, model: nn.Module, score: float) -> None:
        """Keep a model's state if its score is the highest so far."""
        if score > float(self.score):
            self.score.fill_(score)
            self.model.load_state_dict(model.state_dict())


class Validation:
    """The same frames each time, over white: the middle one trained on, and some that are not."""

    def __init__(self, trained: TrackedSequence, watched: TrackedSequence, config: ValidationConfig) -> None:
        self.trained, self.watched, self.config = trained, watched, config

    @torch.no_grad()
    def log(self, logger: RunLogger, avatar: Avatar, resolution: int, step: int) -> None:
        """Write a picture of each kind, the run's preview, and PSNR in dB: means of the watched frames, their lips, eyes, brows and face.

        Args:
            logger: of the run.
            avatar: in training mode; stays in it.
            resolution: side of the pictures, pixels.
            step: steps done.
        """
        avatar.eval()
        middle = torch.tensor([len(self.trained) // 2])
        shown = self._score(avatar, FrameSource(self.trained, resolution).batch(middle))[0]
        logger.image(step, TRAIN_PICTURE, shown)
        if len(self.watched):
            source = FrameSource(self.watched, resolution)
            spread = evenly_spaced(self.config.frames, len(self.watched))
            scored = [self._score(avatar, batch) for batch in source.stream(iter(spread[:, None]))]
            shown = scored[len(scored) // 2][0]
            logger.image(step, VALIDATION_PICTURE, shown)
            names = set.intersection(*(set(scores) for _, scores in scored))
            logger.scalars(step, {name: sum(scores[name] for _, scores in scored) / len(scored) for name in sorted(names)})
        logger.preview(shown)
        avatar.train()

    def _score(self, avatar: Avatar, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Target, render and absolute error (times four) of one frame side by side, and its scores."""
        device = avatar.device
        batch, white = avatar.subject(batch.to(device)), torch.ones(3, device=device)
        out = avatar.render(batch.params, batch.camera, white)
        target, shown = over(batch.image, batch.head, white)[0], out.rgb[0].clamp(0, 1)
        error = (4 * (shown - target).abs() * batch.loss_mask[0]).clamp(0, 1)
        scores = {VALIDATION_PSNR: float(psnr(out, batch, white))} | region_psnr(avatar, batch, shown, target)
        return torch.cat([target, shown, error], dim=1), scores


def region_psnr(avatar: Avatar, batch: Batch, shown: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> dict[str, float]:
    """PSNR of every part of the face that shows whether an avatar follows, in dB; without those of which no pixel counts.

    Args:
        avatar: whose head's parts are meant.
        batch: one frame.
        shown: its render.
        target: what it should show.
    """
    vertices, mask = avatar.head(batch.params)[0], batch.loss_mask[0]
    squares, scores = (shown - target).square() * mask, {}
    for name, parts in followed_parts(avatar.head.topology).items():
        windows = [points_box(vertices[part], batch.camera, REGION_MARGIN) for part in parts]
        counts = [3 * mask[window].sum() for window in windows]
        if all(count > 0 for count in counts):
            errors = [squares[window].sum() / count for window, count in zip(windows, counts, strict=True)]
            scores[f"{VALIDATION_PSNR}_{name}"] = float(to_decibels(torch.stack(errors)).sum()) / len(errors)
    return scores
