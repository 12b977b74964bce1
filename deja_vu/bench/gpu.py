"""Checks and measurements on a GPU: that it draws what the CPU draws, and how fast it trains and renders.

On a CPU the same code runs at tiny sizes, so that no minute on a GPU is lost to a mistake in it.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from deja_vu.avatars import Avatar
from deja_vu.bench.cost import latency
from deja_vu.bench.curve import Curve
from deja_vu.bench.rasterizers import accuracy, compare_backends
from deja_vu.bench.scenes import Scene
from deja_vu.bench.training import PathKind, TrainingSize, profile_training, time_training
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.provenance import commit, machine
from deja_vu.training.devices import device_name
from deja_vu.training.gaussian import train_gaussian
from deja_vu.training.gaussian_config import GaussianTrainConfig
from deja_vu.training.gaussian_init import init_avatar
from deja_vu.training.nelf_config import NelfTrainConfig
from deja_vu.training.nerf_config import NerfTrainConfig

PACKAGES = ("gsplat", "numpy", "easypytorch3d", "triton")
"""Whose versions are told, beside PyTorch's."""
GOALS = (28.0, 30.0, 32.0)
"""PSNR on held-out frames whose times are told, dB."""


@dataclass(frozen=True)
class GpuPlan:
    """How large everything is."""

    frames: int = 60
    """Of the made-up person's film."""
    side: int = 512
    """Of its pictures, pixels."""
    batches: tuple[int, ...] = (1, 4, 16)
    """Frames a step of the Gaussian trainings that are timed."""
    steps: int = 100
    """That are timed of each training."""
    shown: tuple[int, ...] = (512, 1024)
    """Sides of the pictures whose rate is measured, pixels."""
    seconds: float = 3.0
    """For each rate."""
    personalize: bool = True
    """Train the whole recipe, and follow its scores."""


@dataclass(frozen=True)
class GpuRecipes:
    """What is trained."""

    gaussian: GaussianTrainConfig
    """The default."""
    batched: GaussianTrainConfig
    """Of the recipe for a GPU, several frames a step."""
    nerf: NerfTrainConfig
    nelf: NelfTrainConfig


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Device, memory, processor and versions."""
    found: dict[str, Any] = {"device": device_name(device), "processor": machine(), "commit": commit(), "torch": torch.__version__}
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        found |= {"cuda": torch.version.cuda, "capability": f"{facts.major}.{facts.minor}", "memory_mb": facts.total_memory // 2**20}
    installed = {distribution.metadata["Name"].lower() for distribution in metadata.distributions()}
    return found | {name: metadata.version(name) for name in PACKAGES if name in installed}


def prove(
    plan: GpuPlan, recipes: GpuRecipes, sequence: TrackedSequence, device: torch.device, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Answer every question on a device.

    Args:
        plan: sizes.
        recipes: of the three kinds of avatar.
        sequence: tracked video with its split, of the plan's size.
        device: GPU; the CPU to try everything out.
        tell: what a section found, as it is found.

    Returns:
        What `run_sections` does.
    """
    backend, train = "gsplat" if device.type == "cuda" else "cpu", sequence.train_part()
    sections: dict[str, Callable[[], Any]] = {
        "conformance": lambda: check_conformance(recipes.gaussian, train, device, backend),
        "training": lambda: time_gaussians(plan, recipes.gaussian, train, device),
        "fields": lambda: time_fields(plan, recipes, train, device),
        "showing": lambda: time_showing(plan, recipes.gaussian, train, device),
    }
    if plan.personalize:
        sections["personalization"] = lambda: follow_personalization(recipes.gaussian, sequence, device)
        sections["personalization_in_batches"] = lambda: follow_personalization(recipes.batched, sequence, device)
    return run_sections(sections, tell)


def run_sections(sections: Mapping[str, Callable[[], Any]], tell: Callable[[str], None]) -> dict[str, Any]:
    """What each section found, in turn; one that failed holds `error`, and the others go on."""
    found: dict[str, Any] = {}
    for name, run in sections.items():
        begun = time.perf_counter()
        try:
            found[name] = run()
        except Exception as error:  # whatever it is: the minutes that the other sections take are not to be lost
            found[name] = {"error": f"{type(error).__name__}: {error}"}
        tell(f"{name} ({time.perf_counter() - begun:.0f} s): {found[name]}")
    return found


def check_conformance(config: GaussianTrainConfig, train: TrackedSequence, device: torch.device, backend: str) -> dict[str, Any]:
    """Relative L2 errors of pictures and gradients: against the reference in float64, and of an avatar against the CPU's rasterizer."""
    avatar = init_avatar(train, replace(config, init="gray")).eval()
    camera = train.camera
    with torch.no_grad():
        scene = Scene("avatar", avatar.gaussians(train.params[:1])[0], camera)
    return {
        "reference": {f"degree {degree}": accuracy(degree, backend, device) for degree in (0, 3)},
        "cpu": compare_backends(scene, (backend, device), ("cpu", torch.device("cpu"))),
    }


def time_gaussians(plan: GpuPlan, config: GaussianTrainConfig, train: TrackedSequence, device: torch.device) -> dict[str, Any]:
    """Speed, parts and floors of the Gaussian training by its batch."""
    sizes = {batch: TrainingSize(plan.side, batch, plan.steps, max(1, plan.steps // 5)) for batch in plan.batches}
    return {f"batch {batch}": profile_training(train, config, size, device) for batch, size in sizes.items()}


def time_fields(plan: GpuPlan, recipes: GpuRecipes, train: TrackedSequence, device: torch.device) -> dict[str, Any]:
    """Speed of the field paths at their own batch."""
    found: dict[str, Any] = {}
    chosen: dict[PathKind, Any] = {"nerf": recipes.nerf, "nelf": recipes.nelf}
    for path, config in chosen.items():
        size = TrainingSize(plan.side, config.phases[-1].batch, max(1, plan.steps // 5), max(1, plan.steps // 20))
        found[path] = time_training(path, train, config, size, device)
    return found


def time_showing(plan: GpuPlan, config: GaussianTrainConfig, train: TrackedSequence, device: torch.device) -> dict[str, Any]:
    """Pictures a second from changing parameters to 8-bit pixels on the device, by their side, drawn one by one and many at once."""
    avatar = init_avatar(train, replace(config, init="gray")).to(device).eval()
    sizes = {(side, together) for side in plan.shown for together in (1, max(plan.batches))}
    return {f"{side}, {together} at once": show_frames(avatar, train, side, together, plan.seconds) for side, together in sorted(sizes)}


@torch.no_grad()
def show_frames(avatar: Avatar, sequence: TrackedSequence, side: int, together: int, seconds: float) -> dict[str, float]:
    """Latency of one group of frames after another, and frames a second."""
    device = avatar.device
    camera, white = sequence.camera.resize(side, side).to(device), torch.ones(3, device=device)
    places = itertools.cycle(range(len(sequence)))
    groups = [sequence.params[[next(places) for _ in range(together)]].to(device) for _ in range(len(sequence))]
    shown = itertools.cycle(groups)

    @torch.no_grad()
    def run() -> torch.Tensor:
        return (avatar.render(next(shown), camera, white).rgb.clamp(0, 1) * 255).to(torch.uint8)

    found = latency(run, seconds)
    return found | {"fps": round(together * found["fps"], 2)}


def follow_personalization(config: GaussianTrainConfig, sequence: TrackedSequence, device: torch.device) -> dict[str, Any]:
    """The whole recipe, and when it reached what on held-out frames; measuring does not count as time."""
    curve, train = Curve(sequence, device=device), sequence.train_part()
    avatar = init_avatar(train, config)
    with tempfile.TemporaryDirectory(prefix="deja-vu-") as folder:
        seconds = train_gaussian(avatar, train, config, Path(folder), device=device, resume=False, on_step=lambda step: curve(avatar, step))
    curve.score(avatar)
    reached = {f"{goal:g} dB": next((point["seconds"] for point in curve.points if point["psnr"] >= goal), None) for goal in GOALS}
    return {"seconds": round(seconds, 1), "reached": reached, "points": curve.points}
