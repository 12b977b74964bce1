"""Train a Gaussian avatar on one tracked video: one global rectification of what it begins with, then expression-aware blendmaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import count
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deja_vu.avatars import GaussianAvatar, save_avatar
from deja_vu.avatars.gaussian.published import fix_mouth, fold_global_map, mouth_texels, offset_norms
from deja_vu.core.ahead import compute_ahead
from deja_vu.core.batch import Batch
from deja_vu.core.image import Lines, RenderOutput
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.stopwatch import Stopwatch
from deja_vu.core.transfer import move
from deja_vu.io.frames import FrameSource, shuffle_positions
from deja_vu.losses.photometric import huber
from deja_vu.losses.picture import psnr
from deja_vu.training.checkpoint import video_print
from deja_vu.training.divergence import refuse_broken, refuse_broken_frames
from deja_vu.training.features import cut_out, feature_faces, feature_mask
from deja_vu.training.gaussian_config import GaussianPhase, GaussianTrainConfig
from deja_vu.training.logging import RunLogger
from deja_vu.training.novel_views import NovelViewLoss
from deja_vu.training.objective import (
    ImageObjective,
    compensate,
    draw_background,
    head_window,
    is_due,
    load_perceptual,
    term_weights,
)
from deja_vu.training.person_views import PersonViewLoss
from deja_vu.training.reading import teach_reader
from deja_vu.training.trainer import StepResult, Task, Trainer, step_seed
from deja_vu.training.validation import Validation, hold_out


def train_gaussian(
    avatar: GaussianAvatar,
    sequence: TrackedSequence,
    config: GaussianTrainConfig,
    run: Path,
    *,
    device: torch.device,
    resume: bool,
    started: float | None = None,
    on_step: Callable[[int], None] | None = None,
    watch: Stopwatch | None = None,
) -> float:
    """Run all phases; returns the seconds that this and earlier attempts took.

    Args:
        avatar: trained in place, and moved to the device.
        sequence: training frames.
        config: recipe.
        run: folder for curves, checkpoint and the snapshot of the global map.
        device: where to train.
        resume: continue from the run's checkpoint.
        started: `time.monotonic()` when the work on this avatar began.
        on_step: called after every step with the number of steps done.
        watch: gets the seconds of training, and of training the reader.

    Raises:
        DivergedError: a value is not finite.
    """
    started = time.monotonic() if started is None else started
    task = GaussianTask(avatar, sequence, config, run, device, watch)
    return Trainer(task, config, run, resume=resume, started=started).fit(on_step)


@dataclass(frozen=True)
class DrawnView:
    """The random choices of one step: background and window."""

    background: Float[Tensor, "3"]
    """Color behind render and target."""
    window: tuple[Lines, Lines] | None
    """Rows and columns in which the perceptual distance is measured; None in steps without it."""
    wanted: list[Tensor] | None = None
    """Perceptual features of the target in that window, if they are computed already."""

    def agrees(self, other: DrawnView) -> bool:
        """Whether both choose the same window and background, on a CPU."""
        return self.window == other.window and torch.equal(self.background, other.background)


class GaussianTask(Task[GaussianPhase, Batch]):
    """The training of one Gaussian avatar."""

    label = "gaussian"

    def __init__(
        self,
        avatar: GaussianAvatar,
        sequence: TrackedSequence,
        config: GaussianTrainConfig,
        run: Path,
        device: torch.device,
        watch: Stopwatch | None = None,
    ) -> None:
        self.config, self.run, self.device, self.watch = config, run, device, watch or Stopwatch()
        self.learned_from = video_print(sequence)
        self.rates = config.learning_rates
        self.trained, watched = hold_out(sequence, config.validation.share)
        rarity = avatar.code.rarity(self.trained.params)  # on the host, where frames are drawn
        self.rare = rarity.topk(round(config.rare_share * len(self.trained))).indices
        features = feature_faces(avatar.head) if config.regularizers.features else None  # the head is on the host yet
        self.features = None if features is None else features.to(device)
        self.model = self.avatar = avatar.to(device)
        self.validation = Validation(self.trained, watched, config.validation)
        self.objective = ImageObjective(config.loss, load_perceptual([config.loss.perceptual], config.phases, self.device))
        self.weights = term_weights(config.loss, config.regularizers)
        self.person_views = PersonViewLoss(self.trained, config.person_views, self.objective) if avatar.shows_person else None
        avatar.code.noise = config.code_noise
        self.folds = config.global_map == "folded" and avatar.config.blendmaps > 0
        self.mouth = mouth_texels(avatar) if config.fixed_mouth else None
        self.ahead: dict[int, DrawnView] = {}
        """Choices and target features of coming steps, by number of the step; see `look_ahead`."""

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return self.avatar.param_groups()

    def batches(self, phase: GaussianPhase, begin: int, start: int) -> Iterator[Batch]:
        """Frames in random order, the rare ones more often; in the first stage, only the global map is trained."""
        self.phase, self.begin = phase, begin
        if self.folds and phase.blendmaps:
            fold_global_map(self.avatar)
        for name, parameters in self.avatar.param_groups().items():
            for parameter in parameters:
                parameter.requires_grad_(not self.folds or name != "rectification" if phase.blendmaps else name == "rectification")
                parameter.grad = None
        params = self.trained.params
        seed = self.config.seed + begin
        order = shuffle_positions(len(params), phase.batch, phase.steps, seed=seed, start=start - begin, again=self.rare)
        self.novel_views = NovelViewLoss(self.avatar, params, self.config.novel_views)
        stream = FrameSource(self.trained, phase.resolution, device=self.device).stream(order)
        self.ahead.clear()
        return compute_ahead(self.look_ahead, zip(count(start), stream)) if self.on_host else stream

    def look_ahead(self, coming: tuple[int, Batch]) -> Batch:
        """A coming step's batch; the perceptual features of its target are computed while earlier steps run."""
        step, batch = coming
        view = self.draw_view(batch, step, torch.Generator().manual_seed(step_seed(self.config, step)))
        if view.window is not None:
            wanted = self.objective.encode_target(self.subject(batch), view.background, view.window)
            self.ahead[step] = replace(view, wanted=wanted)
        return batch

    def draw_view(self, batch: Batch, step: int, generator: torch.Generator) -> DrawnView:
        """The random choices of a step: its first draws, from a generator at the step's seed."""
        background = move(draw_background(self.config.random_background, generator), self.device)
        perceptual = is_due(self.phase.perceptual_every, step) and step - self.begin >= self.phase.perceptual_from
        window = head_window(batch.head, self.config.perceptual_window, generator) if perceptual else None
        return DrawnView(background, window)

    def subject(self, batch: Batch) -> Batch:
        """The frames as targets: the head, cut out or matted, or the person."""
        return cut_out(batch) if self.config.targets == "cut" else self.avatar.subject(batch)

    def compute(self, batch: Batch, step: int, generator: torch.Generator) -> StepResult:
        """Render some frames over gray or white and compare them; regularize the maps, and what no frame shows, towards the base map."""
        config, avatar = self.config, self.avatar
        refuse_broken_frames(batch, step)
        batch = batch.to(self.device)
        view, ahead = self.draw_view(batch, step, generator), self.ahead.pop(step, None)
        view = ahead if ahead is not None and ahead.agrees(view) else view
        background = view.background
        out = self.render(batch, background, step)
        filmed, batch = batch.valid if avatar.shows_person else None, self.subject(batch)
        terms = self.objective.terms(out, batch, background, window=view.window, wanted=view.wanted, filmed=filmed)
        terms |= {name: value for name, value in avatar.regularizers().items() if self.weights[name]}
        terms |= self.published_terms(batch, out, background)
        if self.weights["novel_views"] and is_due(config.novel_views.every, step - 1):
            terms["novel_views"] = self.novel_views(avatar, batch.params, batch.camera, generator)
        if self.person_views is not None and self.weights["person"] and is_due(config.person_views.every, step - 2):
            terms["person"] = self.person_views(avatar, self.phase.resolution, background, generator)
        rare = {"perceptual": self.phase.perceptual_every, "novel_views": config.novel_views.every, "person": config.person_views.every}
        weights = compensate(self.weights, rare)
        return StepResult(terms, weights, psnr(out, batch, background).mean(), len(batch.positions))

    def published_terms(self, batch: Batch, out: RenderOutput, background: Float[Tensor, "3"]) -> dict[str, Float[Tensor, ""]]:
        """Terms of the published recipe that replace some of ours: none by default."""
        terms: dict[str, Tensor] = {}
        if self.weights["position_norm"] or self.weights["scale_norm"]:
            terms |= offset_norms(self.avatar, batch.params)
        if self.features is not None and self.phase.blendmaps:
            mask = feature_mask(self.avatar.head, batch, self.features)
            target = self.objective.target(batch, background)
            terms["features"] = huber(out.rgb * mask, target * mask, delta=self.config.loss.huber_threshold)
        return terms

    def after_step(self) -> None:
        """Pull what no frame shows back to the base map, and what is fixed back to its place."""
        self.avatar.hold_unseen(self.config.held_decay)
        self.avatar.limit_hair(self.config.hair_reach)
        self.avatar.limit_cloth(self.config.cloth_width)
        ranges = self.config.unseen_ranges
        self.avatar.limit_unseen(way=ranges.way, stretch=ranges.stretch, color=ranges.color, hue=ranges.hue)
        if self.mouth is not None:
            fix_mouth(self.avatar, self.mouth)

    def render(self, batch: Batch, background: Float[Tensor, "3"], step: int) -> RenderOutput:
        """Render a batch; what is no longer finite, and so cannot be drawn, stops the run by its name.

        Raises:
            DivergedError: the avatar's parameters, or the Gaussians that follow from them, are not finite.
        """
        try:
            return self.avatar.render(batch.params, batch.camera, background)
        except ValueError:
            gaussians = self.avatar.gaussians(batch.params)
            tensors = {f"avatar's {name}": value for name, value in self.avatar.named_parameters()}
            tensors |= {f"Gaussians' {part.name}": getattr(gaussians, part.name) for part in fields(gaussians)}
            refuse_broken(tensors, batch, step)
            raise

    def validate(self, logger: RunLogger, step: int) -> None:
        self.validation.log(logger, self.avatar, self.phase.resolution, step)

    def end_phase(self, phase: GaussianPhase, number: int) -> None:
        """Save the avatar before blendmaps are added; at the end, train its reader."""
        if not phase.blendmaps and number < len(self.config.phases):
            save_avatar(self.avatar, self.run / "global_only.safetensors", {"phase": str(number)})
        if number == len(self.config.phases):
            self.watch.end("train")
            teach_reader(self.avatar, self.trained, self.config.reader)
            self.watch.end("learn to read")
