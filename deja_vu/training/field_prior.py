"""Train a radiance field for many people (GPAvatar, ICLR 2024): an encoder makes planes from some pictures, others supervise them.

Everything random follows from the recipe's seed, the step and the place in the batch, so a run resumes exactly. Which people come when, and
with which pictures, is for the pipelines to say (`FieldPriorTask.batches`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.avatars.nerf import NerfAvatar
from deja_vu.core.batch import Batch
from deja_vu.core.transfer import move
from deja_vu.training.divergence import refuse_broken_frames
from deja_vu.training.field import FieldTask
from deja_vu.training.nerf_config import NerfTrainConfig
from deja_vu.training.objective import draw_background
from deja_vu.training.trainer import StepResult
from deja_vu.training.validation import BestWeights


@dataclass(frozen=True)
class FieldExample:
    """One person in a step."""

    sources: Float[Tensor, "N s s 3"]
    """Pictures that the encoder sees, from `read_photos`."""
    target: Batch
    """Other pictures of the person, which are to be made."""


@dataclass(frozen=True)
class FieldBatch:
    """What one step is computed from."""

    positions: Int[Tensor, " B"]
    """Portraits, for messages."""
    people: list[FieldExample]


class FieldPriorTask(FieldTask[FieldBatch]):
    """The training of one field for many people, of which the state that does best on watched people is kept."""

    label = "field"

    def __init__(self, prior: NerfAvatar, config: NerfTrainConfig) -> None:
        super().__init__(prior, config)
        self.prior = prior
        self.best = BestWeights(prior).to(self.device)
        self.model = torch.nn.ModuleList([prior, self.best])

    def compute(self, batch: FieldBatch, step: int, generator: torch.Generator) -> StepResult:
        """Make every person of the step from their sources, over one gray or white; the terms are means over people."""
        background = move(draw_background(self.config.random_background, generator), self.device)
        results = []
        for person in batch.people:
            refuse_broken_frames(person.target, step)
            self.prior.become(person.target.params.shape[0], person.sources)
            results.append(self.compare(person.target, step, background, generator))
        names = {name: None for result in results for name in result.terms}
        terms = {name: torch.stack([result.terms[name] for result in results if name in result.terms]).mean() for name in names}
        score = torch.stack([result.psnr for result in results]).mean()
        return StepResult(terms, results[0].weights, score, sum(result.images for result in results))
