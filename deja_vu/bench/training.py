"""Training throughput, and where the time of a step goes: `python -m deja_vu.bench.training --device cpu|cuda`."""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from deja_vu.bench.made_up import write_made_up
from deja_vu.bench.roofline import BACKWARD_INSTRUCTIONS, FORWARD_INSTRUCTIONS, count_pairs
from deja_vu.core.batch import Batch
from deja_vu.core.gaussians import GAUSSIAN_AXES, Gaussians
from deja_vu.core.image import RenderOutput
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.files import write_json
from deja_vu.io.frames import FrameSource
from deja_vu.io.provenance import commit
from deja_vu.render.base import rasterize
from deja_vu.render.reference import project
from deja_vu.training.devices import device_name, pick_device
from deja_vu.training.gaussian import GaussianTask, train_gaussian
from deja_vu.training.gaussian_config import GaussianPhase, GaussianTrainConfig
from deja_vu.training.gaussian_init import init_avatar
from deja_vu.training.nelf import init_nelf, train_nelf
from deja_vu.training.nerf import init_nerf, train_nerf
from deja_vu.training.objective import head_window
from deja_vu.training.optimizer import make_adam

PathKind = Literal["gaussian", "nerf", "nelf"]
STEP_TRAFFIC = 8
"""Times that a step moves every parameter: its gradient is written and read; Adam reads and writes it and two means."""
IMAGE_TRAFFIC = 4
"""Times that it moves each number of a picture, and of the Gaussians: written, read by the loss, and both again for the gradient."""


@dataclass(frozen=True)
class TrainingSize:
    """What is timed."""

    side: int = 512
    """Of the pictures, pixels."""
    batch: int = 1
    """Frames a step."""
    steps: int = 50
    """That are timed."""
    warmup: int = 10
    """Steps before these."""


def time_training(path: PathKind, sequence: TrackedSequence, config: Any, size: TrainingSize, device: torch.device) -> dict[str, float]:
    """Train as a run does, logs included, and time the steps after the first ones.

    Args:
        path: kind of avatar.
        sequence: tracked video.
        config: the path's recipe; its phases are replaced by one, its last with blendmaps and all terms.
        size: what is timed.
        device: where.

    Returns:
        `images_per_s`, `step_ms` and, on a GPU, `peak_mb`.
    """
    stamps: dict[int, float] = {}
    marks = (size.warmup, size.warmup + size.steps)

    def stamp(step: int) -> None:
        if step in marks:
            synchronize(device)
            stamps[step] = time.perf_counter()

    with tempfile.TemporaryDirectory(prefix="deja-vu-") as folder:
        # One step more than is timed: a phase's last one ends with pictures.
        chosen = one_phase(config, size, size.warmup + size.steps + 1)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        train(path, sequence, chosen, Path(folder), device, stamp)
    seconds = (stamps[marks[1]] - stamps[marks[0]]) / size.steps
    found = {"images_per_s": size.batch / seconds, "step_ms": 1e3 * seconds}
    return found | ({"peak_mb": torch.cuda.max_memory_allocated(device) / 2**20} if device.type == "cuda" else {})


def one_phase(config: Any, size: TrainingSize, steps: int) -> Any:
    """A recipe of one phase like its last, without pictures on the way, from a start that takes no time where there is a choice."""
    phase = replace(config.phases[-1], steps=steps, resolution=size.side, batch=size.batch)
    chosen = replace(config, phases=(phase,), picture_every=steps)
    return replace(chosen, init="gray") if isinstance(config, GaussianTrainConfig) else chosen


def train(path: PathKind, sequence: TrackedSequence, config: Any, run: Path, device: torch.device, on_step: Callable[[int], None]) -> None:
    """Train one avatar of a kind; a light field without a teacher."""
    if path == "gaussian":
        train_gaussian(init_avatar(sequence, config), sequence, config, run, device=device, resume=False, on_step=on_step)
    elif path == "nerf":
        train_nerf(init_nerf(sequence, config), sequence, config, run, device=device, resume=False, on_step=on_step)
    else:
        alone = replace(config, teacher="none", pseudo_share=0.0)
        train_nelf(init_nelf(sequence, alone), sequence, alone, None, run, device=device, resume=False, on_step=on_step)


def time_parts(sequence: TrackedSequence, config: GaussianTrainConfig, size: TrainingSize, device: torch.device) -> dict[str, float]:
    """Milliseconds of each part of a Gaussian step alone, forwards and backwards; rare terms by their share of the steps.

    Args:
        sequence: tracked video.
        config: recipe; its last phase counts.
        size: pictures, batch, and how often each part is timed.
        device: where.
    """
    chosen = one_phase(config, size, 1)
    with tempfile.TemporaryDirectory(prefix="deja-vu-") as folder:
        task = GaussianTask(init_avatar(sequence, chosen), sequence, chosen, Path(folder), device)
        phase: GaussianPhase = chosen.phases[0]
        batch = next(iter(task.batches(phase, 0, 0)))
    task.model.train()
    parts = step_parts(task, phase, batch)
    return {name: share * clock(run, device, size.steps) for name, (run, share) in parts.items()}


def step_parts(task: GaussianTask, phase: GaussianPhase, batch: Batch) -> dict[str, tuple[Callable[[], object], float]]:
    """Parts of a step by name, and the share of the steps that have them; each starts from values that the others left."""
    avatar, config, device = task.avatar, task.config, task.device
    source = FrameSource(task.trained, phase.resolution, device=device)
    places, batch = batch.positions, batch.to(device)
    generator, gray = torch.Generator().manual_seed(0), torch.full((3,), 0.5, device=device)
    parameters = [parameter for group in avatar.param_groups().values() for parameter in group]
    posed = avatar.gaussians(batch.params)
    leaves = Gaussians(**{name: getattr(posed, name).detach().requires_grad_() for name in GAUSSIAN_AXES})
    drawn = rasterize(leaves, batch.camera, gray, avatar.config.backend, depth=False)
    shown = RenderOutput(drawn.rgb.detach().requires_grad_(), drawn.alpha.detach().requires_grad_())
    subject = avatar.subject(batch)
    optimizer = make_adam(avatar.param_groups(), task.rates, config.adam)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)

    def pull(value: Tensor | RenderOutput | Gaussians, by: Sequence[Tensor]) -> None:
        """Gradient of the sum of all that is drawn, or of a term."""
        outputs = [value] if isinstance(value, Tensor) else [part for part in vars(value).values() if part is not None]
        needed = [part for part in outputs if part.requires_grad]
        torch.autograd.grad(needed, by, [torch.ones_like(part) for part in needed], allow_unused=True)

    def objective(*, perceptual: bool) -> None:
        window = head_window(batch.head, config.perceptual_window, generator) if perceptual else None
        terms = task.objective.terms(shown, subject, gray, window=window)
        chosen = terms["perceptual"] if perceptual else sum(terms.values(), torch.zeros(()))
        pull(chosen, [shown.rgb, shown.alpha])

    def update() -> None:
        optimizer.step()
        task.after_step()

    leaf_list = [getattr(leaves, name) for name in GAUSSIAN_AXES]
    parts: dict[str, tuple[Callable[[], object], float]] = {
        "frames": (lambda: source.batch(places).to(device), 1),
        "pose forward": (lambda: avatar.gaussians(batch.params), 1),
        "pose both ways": (lambda: pull(avatar.gaussians(batch.params), parameters), 1),
        "rasterize forward": (lambda: rasterize(leaves, batch.camera, gray, avatar.config.backend, depth=False), 1),
        "rasterize both ways": (lambda: pull(rasterize(leaves, batch.camera, gray, avatar.config.backend, depth=False), leaf_list), 1),
        "losses": (lambda: objective(perceptual=False), 1),
        "regularizers": (lambda: pull(torch.stack(list(avatar.regularizers().values())).sum(), parameters), 1),
        "optimizer": (update, 1),
    }
    if phase.perceptual_every and task.objective.perceptual is not None:
        parts["perceptual"] = (lambda: objective(perceptual=True), 1 / phase.perceptual_every)
    if config.novel_views.every:
        views = (lambda: pull(task.novel_views(avatar, batch.params, batch.camera, generator), parameters), 1 / config.novel_views.every)
        parts["novel views"] = views
    person = task.person_views
    if person is not None and config.person_views.every:
        parts["person views"] = (
            lambda: pull(person(avatar, phase.resolution, gray, generator), parameters),
            1 / config.person_views.every,
        )
    return parts


def find_floors(sequence: TrackedSequence, config: GaussianTrainConfig, size: TrainingSize, device: torch.device) -> dict[str, float]:
    """The least time that a Gaussian step's arithmetic, and its traffic with memory, can take on a device, milliseconds.

    Arithmetic is that of compositing: the (Gaussian, pixel) pairs that no algorithm can leave out, as many in every frame as in the first,
    at the rate of a matrix product. Traffic is that of parameters, Gaussians and pictures, at the rate of a copy.
    """
    avatar = init_avatar(sequence, one_phase(config, size, 1))
    camera = sequence.camera.resize(size.side, size.side)
    with torch.no_grad():
        pairs = size.batch * count_pairs(project(avatar.gaussians(sequence.params[:1])[0], camera), size.side, size.side)
    parameters = sum(parameter.numel() for parameter in avatar.parameters())
    numbers = size.batch * (4 * size.side**2 + 14 * avatar.num_gaussians)
    traffic = 4 * (STEP_TRAFFIC * parameters + IMAGE_TRAFFIC * numbers) + 7 * size.batch * size.side**2
    flops = 2 * pairs * (FORWARD_INSTRUCTIONS + BACKWARD_INSTRUCTIONS)
    return {"arithmetic_ms": 1e3 * flops / product_rate(device), "memory_ms": 1e3 * traffic / copy_rate(device)}


def product_rate(device: torch.device, side: int | None = None) -> float:
    """Floating-point operations a second of a float32 matrix product, by default so large that starting it does not count."""
    side = side or (8192 if device.type == "cuda" else 1024)
    a, b = torch.rand(2, side, side, device=device)
    return 2 * side**3 / (clock(lambda: a @ b, device, 10) / 1e3)


def copy_rate(device: torch.device, megabytes: int | None = None) -> float:
    """Bytes a second that a copy reads and writes, by default of more than caches hold."""
    megabytes = megabytes or (1024 if device.type == "cuda" else 64)
    a, b = torch.zeros(2, megabytes * 2**18, device=device)
    return 2 * megabytes * 2**20 / (clock(lambda: b.copy_(a), device, 10) / 1e3)


def clock(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median wall time of a call, milliseconds, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        synchronize(device)
        begun = time.perf_counter()
        run()
        synchronize(device)
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times[1:])


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def profile_training(sequence: TrackedSequence, config: GaussianTrainConfig, size: TrainingSize, device: torch.device) -> dict[str, Any]:
    """Speed, parts and floors of a Gaussian training; `share_of_floor` is the larger floor over the step's time."""
    speed, floors = time_training("gaussian", sequence, config, size, device), find_floors(sequence, config, size, device)
    parts, share = time_parts(sequence, config, size, device), max(floors.values()) / speed["step_ms"]
    return {**speed, "parts_ms": parts, **floors, "share_of_floor": share}


def print_profile(found: dict[str, Any]) -> None:
    """The figures of `profile_training`, a line each."""
    print(f"{found['images_per_s']:9.1f} images a second, {found['step_ms']:.2f} ms a step")
    for name, milliseconds in found["parts_ms"].items():
        print(f"{milliseconds:9.3f} ms  {name}")
    floors = f"arithmetic {found['arithmetic_ms']:.3f} ms, memory {found['memory_ms']:.3f} ms"
    print(f"floors: {floors}; reached {100 * found['share_of_floor']:.1f} % of the larger one")


def main() -> None:
    """Measure a Gaussian training on a made-up person, or on a tracked folder, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--track", type=Path, help="tracked folder; a made-up person's by default")
    parser.add_argument("--frames", type=int, default=12, help="of the made-up person")
    parser.add_argument("--side", type=int, default=512, help="of the pictures, pixels")
    parser.add_argument("--batch", type=int, default=1, help="frames a step")
    parser.add_argument("--steps", type=int, default=48, help="that are timed")
    parser.add_argument("--json", type=Path, help="write every figure there")
    options = parser.parse_args()
    device = pick_device(options.device)
    size = TrainingSize(options.side, options.batch, options.steps, math.ceil(options.steps / 4))
    with tempfile.TemporaryDirectory(prefix="deja-vu-") as folder:
        made = TrackedSequence.load(options.track) if options.track else write_made_up(Path(folder), options.frames, options.side)
        found = profile_training(made.train_part(), GaussianTrainConfig(), size, device)
    print_profile(found)
    if options.json:
        facts = {"device": device_name(device), "torch": torch.__version__, "commit": commit()}
        write_json(options.json, facts | {"side": size.side, "batch": size.batch} | found)


if __name__ == "__main__":
    main()
