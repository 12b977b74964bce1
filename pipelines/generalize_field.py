"""The generalize stage for radiance fields (GPAvatar): encoder, attention, field and super-resolution learn from many people.

Of every person of a step the encoder sees some portraits, and another one is to be made, never one of those. People of whom there is one
portrait only are seen as renders of their lifted head in several poses (`deja_vu.datasets.prior_examples`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.nerf import NerfAvatar
from deja_vu.avatars.nerf.prior import build_field_prior, make_person, save_field_prior
from deja_vu.avatars.prior.atlas import load_atlas
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.core.image import WHITE, RenderOutput, over
from deja_vu.datasets.prior_examples import PriorSampler, stack_portraits
from deja_vu.datasets.shards import ShardSet
from deja_vu.heads import load_head
from deja_vu.losses.picture import psnr
from deja_vu.pipelines.ahead import draw_ahead
from deja_vu.pipelines.configs import GeneralizeConfig
from deja_vu.pipelines.generalize_report import origin, report_scores, spread
from deja_vu.tracking.masks import HeadMasks
from deja_vu.training.checkpoint import fingerprint
from deja_vu.training.field_prior import FieldBatch, FieldExample, FieldPriorTask
from deja_vu.training.logging import RunLogger
from deja_vu.training.nerf import refuse_odd_sizes
from deja_vu.training.nerf_config import NerfPhase
from deja_vu.training.trainer import Trainer
from deja_vu.training.validation import VALIDATION_PICTURE, VALIDATION_PSNR

TEXELS = 128
"""A side, of the map on which people of one portrait are lifted."""


def learn_field(shards: ShardSet, folder: Path, config: GeneralizeConfig, device: torch.device, *, resume: bool) -> None:
    """Train and measure a field for many people in an open run.

    Args:
        shards: prepared portraits.
        folder: of the run.
        config: recipe.
        device: where to train.
        resume: continue from the run's checkpoint.

    Raises:
        ConfigError: the recipe's planes are not encoded, or its pictures do not fit the super-resolution.
        InputError: there is nobody to train on.
        DivergedError: a term is not finite.
    """
    if config.nerf.avatar.planes != "encoded":
        raise ConfigError("A field for many people needs an encoder. Set nerf.avatar.planes: encoded, as every recipe of the stage has it.")
    refuse_odd_sizes(config.nerf.phases, config.nerf.avatar)
    if not shards.part("train"):
        raise InputError("The shards hold no portraits to train on: all of them are held out. Add more people.")
    torch.manual_seed(config.nerf.seed)
    task = GeneralizeFieldTask(config, shards, device)
    Trainer(task, config.nerf, folder, resume=resume).fit()
    prior = task.best.model
    assert isinstance(prior, NerfAvatar)
    facts = origin(config) | {"steps": str(sum(phase.steps for phase in config.nerf.phases))}
    save_field_prior(prior, folder / "prior.safetensors", facts)
    report_scores(shards, prior, folder, config, facts, device)


class GeneralizeFieldTask(FieldPriorTask):
    """The training of a field on people from shards."""

    def __init__(self, config: GeneralizeConfig, shards: ShardSet, device: torch.device) -> None:
        head = load_head(shards.head_name)
        super().__init__(build_field_prior(head, config.nerf.avatar).to(device), config.nerf)
        self.recipe, self.shards = config, shards
        self.learned_from = fingerprint([(entry.key, entry.split, sorted(entry.places.items())) for entry in shards.entries])
        self.atlas, self.masks = load_atlas(shards.head_name, TEXELS), HeadMasks(head)
        self.learned, self.watched = shards.watch(config.watched_share)

    def batches(self, phase: NerfPhase, begin: int, start: int) -> Iterator[FieldBatch]:
        """People of every step, drawn by threads ahead of time."""
        self.phase = phase
        people = PriorSampler(
            self.shards,
            self.learned,
            self.atlas,
            lambda params, camera, side: self.masks.render(params, camera, side)[1],
            self.recipe.people,
            phase.resolution,
        )
        return draw_ahead(partial(self.draw, people), range(start, begin + phase.steps), self.recipe.loaders)

    def draw(self, people: PriorSampler, step: int) -> FieldBatch:
        """The people of one step."""
        places = range(self.phase.batch)
        rngs = [np.random.default_rng([self.config.seed, step, place]) for place in places]
        shares = np.array(self.recipe.photo_counts) / sum(self.recipe.photo_counts)
        examples = [people.draw_unseen(1 + int(rng.choice(len(shares), p=shares)), rng) for rng in rngs]
        drawn = [FieldExample(self.prior.read_photos(example.photos), example.targets) for example in examples]
        return FieldBatch(torch.tensor([example.index for example in examples]), drawn)

    def validate(self, logger: RunLogger, step: int) -> None:
        """Watched people, each in another portrait than the encoder sees, decide which state is kept; without any the last one is."""
        pairs = watched_pairs(self.shards, self.watched or self.learned)
        shown = [self.compare_pair(pairs[place]) for place in spread(range(len(pairs)), self.recipe.watched_people)]
        score = sum(found for _, found in shown) / len(shown)
        logger.image(step, VALIDATION_PICTURE, torch.cat([picture for picture, _ in shown[: self.recipe.grid_people]]))
        logger.scalars(step, {VALIDATION_PSNR: score})
        self.best.offer(self.prior, score if self.watched else step)

    @torch.no_grad()
    def compare_pair(self, pair: tuple[int, int]) -> tuple[Float[Tensor, "h W 3"], float]:
        """Source, target, render and absolute error (times four) of one person side by side, and the PSNR in dB."""
        source, target = (stack_portraits([self.shards.read(number).resize(self.phase.resolution)], number) for number in pair)
        person = make_person(self.prior, target.params.shape[0], self.prior.read_photos(source))
        background = WHITE.to(self.device)
        out = person.render(target.params.to(self.device), target.camera.to(self.device), background)
        shown = RenderOutput(out.rgb.clamp(0, 1).cpu(), out.alpha.cpu())
        wanted = over(target.image, target.head, WHITE)
        error = (4 * (shown.rgb - wanted).abs() * target.loss_mask).clamp(0, 1)
        beside = torch.cat([over(source.image, source.head, WHITE), wanted, shown.rgb, error], dim=2)[0]
        return beside, float(psnr(shown, target, WHITE))


def watched_pairs(shards: ShardSet, numbers: list[int]) -> list[tuple[int, int]]:
    """For each person the portrait that an encoder is shown, the one that faces the camera most squarely, and one that is to be made."""
    chosen, pairs = set(numbers), []
    for group in shards.people.values():
        facing = sorted((n for n in group if n in chosen), key=lambda n: float(shards.entries[n].params.world_from_head[0, 2, 2]))
        if facing:
            pairs.append((facing[0], facing[len(facing) // 2] if len(facing) > 1 else facing[0]))
    return pairs
