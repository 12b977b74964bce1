"""Train the prior: from photos of many people to a network that corrects the head lifted from one photo of another person.

Everything random follows from the recipe's seed, the step and the place in the batch, whoever computes it: so a run resumes exactly, and
two processes do what one does with a batch twice as large. Which people come when is for the pipelines to say (`PriorTask.batches`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deja_vu.avatars.prior.atlas import Lifted
from deja_vu.avatars.prior.network import build_prior
from deja_vu.core.batch import Batch
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.transfer import move
from deja_vu.losses.picture import psnr
from deja_vu.render.base import rasterize
from deja_vu.training.ema import AveragedModel
from deja_vu.training.objective import ImageObjective, compensate, head_window, is_due, load_perceptual, term_weights
from deja_vu.training.prior_config import PriorPhase, PriorTrainConfig
from deja_vu.training.processes import Processes
from deja_vu.training.trainer import StepResult, Task
from deja_vu.training.validation import BestWeights


@dataclass(frozen=True)
class PriorBatch:
    """What this process does in one step."""

    positions: Int[Tensor, " B"]
    """Portraits, for messages."""
    targets: list[Batch]
    """Of each person: the views to compare with."""
    starts: list[Lifted]
    """One for each map that the network is to correct."""
    pictures: Float[Tensor, "P N 4 h h"]
    """Photos as the network takes them, for each start."""
    owner: list[int]
    """Person of each start."""
    places: range
    """Places of the people in the whole batch."""


class PriorTask(Task[PriorPhase, PriorBatch]):
    """The training of one network; kept is its average, as it was when it did best on watched people."""

    label = "prior"

    def __init__(self, config: PriorTrainConfig, processes: Processes) -> None:
        self.config, self.processes, self.device = config, processes, processes.device
        self.prior = build_prior(config.prior).to(self.device)
        self.atlas = self.prior.atlas.to(self.device)
        """Where people are posed; they are lifted on the host, by threads ahead of the step."""
        self.averaged = AveragedModel(self.prior, config.average).to(self.device)
        self.best = BestWeights(self.averaged.model).to(self.device)
        self.model = nn.ModuleList([self.prior, self.averaged, self.best])
        self.rates = config.learning_rates
        self.wrapped = processes.wrap(self.prior)
        self.objective = ImageObjective(config.loss, load_perceptual([config.loss.perceptual], config.phases, self.device))
        self.weights = term_weights(config.loss, config.regularizers)

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"network": list(self.prior.parameters())}

    def compute(self, batch: PriorBatch, step: int, generator: torch.Generator) -> StepResult:
        """Correct what is lifted, render it over gray or white, compare; the background is the same in every process."""
        config = self.config
        gray, choice = torch.rand((), generator=generator), torch.rand((), generator=generator)
        background = move(gray.expand(3) if choice < config.random_background else torch.ones(3), self.device)
        starts = [start.to(self.device) for start in batch.starts]
        perceptual = is_due(self.phase.perceptual_every, step)
        with self.processes.autocast():
            residuals = self.wrapped(starts, move(batch.pictures, self.device)).float()
        rows: list[dict[str, Tensor]] = []
        for start, residual, owner in zip(starts, residuals, batch.owner, strict=True):
            views = batch.targets[owner].to(self.device)
            gaussians = self.atlas.gaussians(start, residual, views.params)
            whole = background.expand(len(views.params), 3)
            out = rasterize(gaussians, views.camera, whole, depth=False, check=self.device.type == "cpu")
            draw = torch.Generator().manual_seed((config.seed * 1_000_003 + step) * config.batch + batch.places[owner])
            window = head_window(views.head, config.perceptual_window, draw) if perceptual else None
            terms = self.objective.terms(out, views, background, window=window) | self.size(residual)
            rows.append(terms | {"psnr": psnr(out, views, background).mean()})
        means = {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}
        score = means.pop("psnr")
        if self.weights["consistency"] and len(batch.owner) > len(batch.targets):
            means["consistency"] = self.disagreement(starts, residuals, len(batch.targets))
        weights = compensate(self.weights, {"perceptual": self.phase.perceptual_every})
        images = sum(len(batch.targets[owner].positions) for owner in batch.owner) * self.processes.count
        return StepResult(means, weights, score, images)

    def size(self, residual: Float[Tensor, "M 13"]) -> dict[str, Float[Tensor, ""]]:
        """How far a correction goes; hair may travel."""
        held = torch.where(self.atlas.scalp, self.config.scalp_freedom, 1.0)
        terms = {
            "position": (residual[:, CHANNELS["position"]].square().sum(-1) * held).mean(),
            "scale": residual[:, CHANNELS["log_scale"]].square().sum(-1).mean(),
            "opacity": residual[:, CHANNELS["opacity_logit"]].square().mean(),
        }
        return {name: value for name, value in terms.items() if self.weights[name]}

    def disagreement(self, starts: Sequence[Lifted], residuals: Float[Tensor, "P M 13"], people: int) -> Float[Tensor, ""]:
        """Mean squared difference of one person's maps from their mean, in units of the gains.

        Args:
            starts: of all maps, person by person.
            residuals: of the network.
            people: how many.
        """
        maps = torch.stack([start.base for start in starts]) / self.atlas.gains + residuals
        by_person = maps.unflatten(0, (people, -1))
        return (by_person - by_person.mean(1, keepdim=True)).square().mean()

    def after_step(self) -> None:
        self.averaged.follow(self.prior)

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.processes.mean(values)
