"""Train a radiance field avatar on one tracked video: first the volume, then super-resolution on top of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deja_vu.avatars.nerf import NerfAvatar
from deja_vu.avatars.nerf.planes import EncodedPlanes, project_frontal
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.errors import ConfigError
from deja_vu.core.head import HeadParams
from deja_vu.core.image import RenderOutput
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.transfer import move
from deja_vu.heads import load_head
from deja_vu.heads.regions import region_window
from deja_vu.io.frames import FrameSource, shuffle_positions
from deja_vu.losses.perceptual import MIN_SIZE
from deja_vu.losses.photometric import absolute_difference
from deja_vu.losses.picture import psnr
from deja_vu.render.volume import SCENE_SCALE
from deja_vu.training.checkpoint import video_print
from deja_vu.training.divergence import refuse_broken_frames
from deja_vu.training.logging import RunLogger
from deja_vu.training.nerf_config import NerfPhase, NerfTrainConfig
from deja_vu.training.objective import ImageObjective, compensate, draw_background, head_window, is_due, load_perceptual, term_weights
from deja_vu.training.trainer import StepResult, Task, Trainer
from deja_vu.training.validation import Validation, hold_out


@torch.no_grad()
def init_nerf(sequence: TrackedSequence, config: NerfTrainConfig) -> NerfAvatar:
    """Avatar with the tracked identity; the code's components and source pictures come from training frames."""
    torch.manual_seed(config.seed)
    avatar = NerfAvatar(load_head(sequence.info.head_name), sequence.params.shape[0], config.avatar)
    avatar.fit(sequence.params)
    show_spread_sources(avatar, sequence)
    return avatar


def show_spread_sources(avatar: NerfAvatar, sequence: TrackedSequence) -> None:
    """Let an encoder see frames from all over the video."""
    if isinstance(avatar.planes, EncodedPlanes):
        show_sources(avatar, sequence, torch.linspace(0, len(sequence) - 1, avatar.config.sources).round().long())


def draw_sources(count: int, wanted: int, targets: Int[Tensor, " B"], generator: torch.Generator) -> Int[Tensor, " K"]:
    """Frames that an encoder sees in a step: any but those that it must make, as the published method has it.

    Args:
        count: frames there are.
        wanted: frames to draw, each on its own.
        targets: places of the step's frames; where there are no others, these are drawn.
        generator: source of the draw.
    """
    others = torch.ones(count, dtype=torch.bool)
    others[targets.cpu()] = False
    places = others.nonzero()[:, 0] if others.any() else torch.arange(count)
    return places[torch.randint(len(places), (wanted,), generator=generator)]


@torch.no_grad()
def show_sources(avatar: NerfAvatar, sequence: TrackedSequence, positions: Int[Tensor, " K"]) -> None:
    """Let the encoder see some frames: what each shows of the head's frontal plane, before black."""
    assert isinstance(avatar.planes, EncodedPlanes)
    source = FrameSource(sequence, sequence.info.resolution, cache_bytes=0)
    pictures = []
    for position in positions:
        batch = source.batch(position[None])
        pose = batch.params.world_from_head[0] @ torch.diag(torch.tensor([1 / SCENE_SCALE] * 3 + [1.0]))
        pictures.append(project_frontal((batch.image * batch.head)[0], batch.camera, pose, avatar.config.encoder_size))
    avatar.planes.set_sources(move(torch.stack(pictures), avatar.device))


def train_nerf(
    avatar: NerfAvatar,
    sequence: TrackedSequence,
    config: NerfTrainConfig,
    run: Path,
    *,
    device: torch.device,
    resume: bool,
    started: float | None = None,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Run all phases; returns the seconds that this and earlier attempts took.

    Args:
        avatar: trained in place, and moved to the device.
        sequence: training frames.
        config: recipe.
        run: folder for curves and the checkpoint.
        device: where to train.
        resume: continue from the run's checkpoint.
        started: `time.monotonic()` when the work on this avatar began.
        on_step: called after every step with the number of steps done.

    Raises:
        ConfigError: a phase's pictures do not fit the super-resolution.
        DivergedError: a value is not finite.
    """
    refuse_odd_sizes(config)
    started = time.monotonic() if started is None else started
    task = NerfTask(avatar.to(device), sequence, config)
    seconds = Trainer(task, config, run, resume=resume, started=started).fit(on_step)
    show_spread_sources(avatar, sequence)
    return seconds


class NerfTask(Task[NerfPhase, Batch]):
    """The training of one radiance field."""

    label = "nerf"

    def __init__(self, avatar: NerfAvatar, sequence: TrackedSequence, config: NerfTrainConfig) -> None:
        self.model = self.avatar = avatar
        self.config, self.sequence, self.device = config, sequence, avatar.shape.device
        self.learned_from = video_print(sequence)
        self.rates = config.learning_rates
        self.trained, watched = hold_out(sequence, config.validation.share)
        self.validation = Validation(self.trained, watched, config.validation)
        own = config.regularizers
        dear = [config.loss.perceptual, own.face_perceptual, own.low_perceptual]
        self.objective = ImageObjective(config.loss, load_perceptual(dear, config.phases, self.device))
        self.weights = term_weights(config.loss, own)
        avatar.code.noise = config.code_noise

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return self.avatar.param_groups()

    def batches(self, phase: NerfPhase, begin: int, start: int) -> Iterator[Batch]:
        """Frames in random order."""
        self.phase = phase
        order = shuffle_positions(len(self.trained), phase.batch, phase.steps, seed=self.config.seed + begin, start=start - begin)
        return FrameSource(self.trained, phase.resolution, device=self.device).stream(order)

    def compute(self, batch: Batch, step: int, generator: torch.Generator) -> StepResult:
        """March a window's rays over grey or white and enlarge the picture; compare the pictures before and after that."""
        config, avatar, phase, weights = self.config, self.avatar, self.phase, self.weights
        refuse_broken_frames(batch, step)
        background = move(draw_background(config.random_background, generator), self.device)
        params, camera, batch = batch.params, batch.camera, batch.to(self.device)  # the first two still on the host
        if phase.window:
            batch = batch.crop(*head_window(batch.head, phase.window, generator))
        if isinstance(avatar.planes, EncodedPlanes):
            show_sources(avatar, self.trained, draw_sources(len(self.trained), config.avatar.sources, batch.positions, generator))
        out = avatar.render_all(batch.params, batch.camera, background, enlarge=phase.enlarge)
        low = batch.resize(out.fine.rgb.shape[2], out.fine.rgb.shape[1])
        terms = {"fine": absolute_difference(out.fine, low, background, config.loss.neck)}
        terms["coarse"] = absolute_difference(out.coarse, low, background, config.loss.neck)
        terms |= avatar.penalties(out.planes) | {"opacity": out.opacity}
        terms = {name: value for name, value in terms.items() if weights[name]}
        if out.full is None:
            return StepResult(terms, weights, psnr(out.fine, low, background).mean(), len(batch.positions))
        perceptual = is_due(phase.perceptual_every, step)
        window = head_window(batch.head, config.perceptual_window, generator) if perceptual else None
        terms |= self.objective.terms(out.full, batch, background, window=window)
        if weights["low_perceptual"] and perceptual:
            terms["low_perceptual"] = self.perceptual(out.fine, low, background) + self.perceptual(out.coarse, low, background)
        if weights["face"] or weights["face_perceptual"]:
            renders = [(out.coarse, low), (out.fine, low), (out.full, batch)]
            camera = batch.camera.to("cpu") if phase.window else camera  # where a window was drawn, the host has to wait for it
            terms |= self.face_terms(renders, self.face_boxes(params, camera), background, perceptual=perceptual)
        rare = dict.fromkeys(("perceptual", "low_perceptual", "face_perceptual"), phase.perceptual_every)
        return StepResult(terms, compensate(weights, rare), psnr(out.full, batch, background).mean(), len(batch.positions))

    def perceptual(self, out: RenderOutput, batch: Batch, background: Float[Tensor, "3"]) -> Float[Tensor, ""]:
        """Mean perceptual distance of some frames."""
        assert self.objective.perceptual is not None
        return self.objective.perceptual(out.rgb, self.objective.target(batch, background)).mean()

    def face_boxes(self, params: HeadParams, camera: Camera) -> list[tuple[slice, slice]]:
        """Rows and columns of each frame's face; parameters and camera lie on the host, where boxes are numbers."""
        head = self.avatar.host_head
        faces, face = head.topology.faces, head.topology.regions["face"]
        return [region_window(vertices, faces, face, camera) for vertices in head(params)]

    def face_terms(
        self,
        renders: list[tuple[RenderOutput, Batch]],
        boxes: list[tuple[slice, slice]],
        background: Float[Tensor, "3"],
        *,
        perceptual: bool,
    ) -> dict[str, Float[Tensor, ""]]:
        """Terms on the face's box: sums over the pictures, each on its own grid, of the mean over frames.

        Args:
            renders: pictures and their targets; the full ones last.
            boxes: for each frame, on the full pictures' grid.
            background: color.
            perceptual: measure the perceptual distance too, where the box is large enough.
        """
        full = renders[-1][1].image.shape[2]
        sums: dict[str, list[Tensor]] = {"face": [], "face_perceptual": []}
        for out, batch in renders:
            share = batch.image.shape[2] / full
            for number, box in enumerate(boxes):
                rows, columns = (slice(int(s.start * share), max(int(s.stop * share), int(s.start * share) + 1)) for s in box)
                target = batch.frame(number).crop(rows, columns)
                shown = RenderOutput(out.rgb[number : number + 1, rows, columns], out.alpha[number : number + 1, rows, columns])
                if self.weights["face"]:
                    sums["face"].append(absolute_difference(shown, target, background, self.config.loss.neck))
                if self.weights["face_perceptual"] and perceptual and min(target.image.shape[1:3]) >= MIN_SIZE:
                    sums["face_perceptual"].append(self.perceptual(shown, target, background))
        return {name: torch.stack(values).sum() / len(boxes) for name, values in sums.items() if values}

    def validate(self, logger: RunLogger, step: int) -> None:
        self.validation.log(logger, self.avatar, self.phase.resolution, step)


def refuse_odd_sizes(config: NerfTrainConfig) -> None:
    """Refuse phases whose pictures do not fit the super-resolution.

    Raises:
        ConfigError: the published one sees whole pictures; the others need multiples of four.
    """
    for phase in config.phases:
        if config.avatar.upscale == "style" and phase.window:
            raise ConfigError("The published super-resolution sees whole pictures. Set window: 0 in every phase, or a light upscale.")
        if config.avatar.upscale != "style":
            refuse_odd_size(phase.resolution, phase.window)


def refuse_odd_size(resolution: int, window: int) -> None:
    """Refuse pictures that super-resolution by four cannot make.

    Raises:
        ConfigError: a side is no multiple of four.
    """
    if resolution % 4 or window % 4:
        raise ConfigError(f"Phase of {resolution} pixels, window {window}: super-resolution by four needs both to be multiples of 4.")
