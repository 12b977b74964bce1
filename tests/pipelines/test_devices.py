"""One training step of every path on another device than the host: torch's `meta`, which refuses, as CUDA does, to mix its tensors with
those of the CPU, and has no values that a host could wait for; and CUDA where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deja_vu.avatars import GaussianAvatar, GaussianConfig
from deja_vu.bench.metrics import FrameMetrics
from deja_vu.core.camera import Camera
from deja_vu.core.image import over
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.core.transfer import move
from deja_vu.datasets.shards import Sample, ShardInfo, ShardSet, begin_shards, write_shard
from deja_vu.heads import load_head
from deja_vu.io.frames import FrameSource
from deja_vu.io.tracked_folder import write_frame, write_masks
from deja_vu.losses.perceptual import KERNELS, PerceptualDistance
from deja_vu.pipelines.generalize import GeneralizeTask
from deja_vu.pipelines.recipes import Recipe, shipped_recipe
from deja_vu.training.gaussian import GaussianTask
from deja_vu.training.gaussian_config import GaussianPhase, GaussianTrainConfig, NovelViewConfig, PersonViewConfig
from deja_vu.training.nelf import NelfTask, init_nelf
from deja_vu.training.nelf_config import NelfPhase
from deja_vu.training.nerf import NerfTask, init_nerf
from deja_vu.training.nerf_config import NerfPhase
from deja_vu.training.optimizer import make_adam
from deja_vu.training.processes import Processes
from deja_vu.training.trainer import StepResult, Task
from tests.pipelines.test_generalize import RECIPE

on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SIDE = 96


@pytest.fixture(params=["meta", pytest.param("cuda", marks=on_gpu)])
def device(request) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _random_perceptual(monkeypatch: pytest.MonkeyPatch) -> None:
    """The perceptual distance's weights are fetched from elsewhere; for its devices any will do."""
    generator = torch.Generator().manual_seed(0)
    weights = [0.05 * torch.randn(out, inputs, size, size, generator=generator) for out, inputs, size in KERNELS]
    zeros = [torch.zeros(out) for out, _, _ in KERNELS]
    made = PerceptualDistance(weights, zeros, [torch.ones(out) for out, _, _ in KERNELS])
    monkeypatch.setattr(PerceptualDistance, "load", staticmethod(lambda: made))


class RefuseWaiting(TorchDispatchMode):
    """Stops at a copy from the host to another device that the host would wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default and args[0].is_cpu and args[0].dim() and not out.is_cpu:
            assert kwargs.get("non_blocking"), f"{tuple(args[0].shape)} goes to {out.device} and the host waits"
        return out


def step(task: Task, phase, number: int, device: torch.device) -> StepResult:
    """One whole step: batch, terms, gradients, Adam, and what follows; every term and gradient lies on the device."""
    task.model.train()
    batch = next(iter(task.batches(phase, 0, 0)))
    with RefuseWaiting():
        result = task.compute(batch, number, torch.Generator().manual_seed(number))
    assert {value.device.type for value in (*result.terms.values(), result.psnr)} == {device.type}
    result.total().backward()
    moved = [parameter for group in task.param_groups().values() for parameter in group if parameter.grad is not None]
    assert moved
    assert {parameter.grad.device.type for parameter in moved} == {device.type}
    make_adam(task.param_groups(), task.rates, replace(task.config.adam, fused=False)).step()
    task.follow()
    return result


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> TrackedSequence:
    """Four frames of noise in both windows, of the default head."""
    folder, head, frames = tmp_path_factory.mktemp("person"), load_head("anny"), 4
    random = np.random.default_rng(0)
    for window in ("head", "person"):
        for name in ("frames", "masks") if window == "head" else ("person", "person_masks"):
            (folder / name).mkdir()
        for index in range(frames):
            write_frame(folder, index, random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), window)
            write_masks(folder, index, random.integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8), window)
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])).repeat(frames, 1, 1)
    pose[:, 2, 3] = 0.6
    still = head.neutral((frames,))
    params = replace(still, world_from_head=pose, expression=torch.rand(still.expression.shape))
    info = TrackInfo("x", "anny", 25.0, "x.mp4", "0" * 64, frames, (20, 20, 116, 116), SIDE, "tail", person_crop=(0, 0, 192, 192))
    index = torch.arange(frames)
    camera = Camera.from_focal(200.0, SIDE, SIDE)
    return TrackedSequence(folder, info, params, camera, index, index / 25, torch.zeros(frames, dtype=torch.bool), torch.zeros(12))


def test_a_gaussian_person_trains_on_meta(person: TrackedSequence, device: torch.device, tmp_path: Path) -> None:
    """Both stages, with the perceptual term, novel views and views of the person all due in one step."""
    sizes = GaussianConfig(uv_size=64, blend_size=64, bust_size=64, blendmaps=3)
    early = GaussianPhase(steps=2, resolution=64, learning_rate=0.01, batch=2, perceptual_every=1)
    late = replace(early, blendmaps=True)
    config = GaussianTrainConfig(
        avatar=sizes,
        phases=(early, late),
        perceptual_window=32,
        novel_views=NovelViewConfig(every=1, resolution=48),
        person_views=PersonViewConfig(every=1),
    )
    avatar = GaussianAvatar(load_head("anny"), person.params.shape[0], sizes, person.torso_shape)
    avatar.code.fit(person.params)
    task = GaussianTask(avatar, person, config, tmp_path, device)
    for phase in (early, late):
        result = step(task, phase, 4, device)
        assert {"huber", "dssim", "alpha", "perceptual", "novel_views", "person", "unseen", "correction"} <= set(result.terms)


@pytest.fixture(scope="module")
def tiny() -> Recipe:
    return shipped_recipe("tiny")


@pytest.mark.parametrize("window", [0, 48])
@pytest.mark.parametrize("radius", [0.0, 0.05])
def test_a_radiance_field_trains_on_meta(tracked, tiny: Recipe, device: torch.device, window: int, radius: float) -> None:
    phase = NerfPhase(steps=2, resolution=64, learning_rate=0.01, batch=2, perceptual_every=1, window=window)
    config = replace(tiny.nerf, phases=(phase,), perceptual_window=32, avatar=replace(tiny.nerf.avatar, radius=radius))
    task = NerfTask(init_nerf(tracked, config).to(device), tracked, config)
    assert {"fine", "coarse", "perceptual", "planes"} <= set(step(task, phase, 4, device).terms)


def test_the_published_radiance_field_trains_on_meta(tracked, device: torch.device) -> None:
    """Encoder, source pictures read in every step, the face's boxes, style super-resolution."""
    published = shipped_recipe("gpavatar").nerf
    sizes = {"plane_size": 16, "plane_channels": 4, "encoder_size": 32, "encoder_width": 0.05, "point_features": 4, "width": 16}
    sizes |= {"features": 6, "coarse": 4, "fine": 4, "rays": 24, "style_size": 64, "nearest": 3}
    phase = NerfPhase(steps=2, resolution=64, learning_rate=0.01, batch=2, perceptual_every=1)
    config = replace(published, avatar=replace(published.avatar, **sizes), phases=(phase,), perceptual_window=64)
    task = NerfTask(init_nerf(tracked, config).to(device), tracked, config)
    assert {"fine", "low_perceptual", "face", "face_perceptual", "opacity", "perceptual"} <= set(step(task, phase, 4, device).terms)


@pytest.mark.parametrize("kind", ["gaussian", "nerf"])
@pytest.mark.parametrize("change", [{}, {"coverage": False}, {"warp": "latent"}], ids=["default", "without coverage", "latent"])
def test_a_light_field_and_its_teacher_train_on_meta(tracked, painted, tiny: Recipe, device: torch.device, kind: str, change) -> None:
    teacher = painted if kind == "gaussian" else init_nerf(tracked, tiny.nerf)
    teacher = type(painted)(load_head("toy"), painted.shape, painted.config).eval() if kind == "gaussian" else teacher.eval()
    phase = NelfPhase(steps=2, resolution=64, learning_rate=0.01, batch=2, perceptual_every=1, window=48)
    regularizers = replace(tiny.nelf.regularizers, temporal=0.1)
    for share in (0.0, 1.0):
        config = replace(
            tiny.nelf,
            phases=(phase,),
            pseudo_share=share,
            warp_share=1.0,
            perceptual_window=32,
            regularizers=regularizers,
            avatar=replace(tiny.nelf.avatar, **change),
        )
        task = NelfTask(init_nelf(tracked, config).to(device), tracked, config, teacher)
        assert {"huber", "perceptual", "temporal", "latents"} <= set(step(task, phase, 4, device).terms)


def test_the_prior_trains_on_meta(film, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lifted on the host by a thread, posed, drawn and compared on the device; its average follows."""
    sequence = film(tmp_path / "film", 4)
    begin_shards(tmp_path / "shards", ShardInfo("toy", SIDE, tuple("abcd"), 4))
    frames = [(sequence.frame(place), sequence.params[place : place + 1]) for place in range(4)]
    portraits = [Portrait(f"k{place}", f"p{place // 2}", *frames[place], sequence.camera) for place in range(4)]
    write_shard(tmp_path / "shards", 0, [Sample(portrait, "film", "train") for portrait in portraits], {})
    phase = replace(RECIPE.phases[0], perceptual_every=1)
    config = replace(
        RECIPE, loss=replace(RECIPE.loss, perceptual=0.1), phases=(phase,), perceptual_window=32, photo_counts=(0.0, 1.0), apart=1.0
    )
    processes = Processes("float32", "cpu")
    processes.device = device
    monkeypatch.setattr(processes, "wrap", lambda model: model)
    task = GeneralizeTask(config, processes, ShardSet([tmp_path / "shards"]))
    assert {"huber", "perceptual", "position", "consistency"} <= set(step(task, phase, 4, device).terms)


def test_frames_are_scored_on_meta(tracked, painted, device: torch.device) -> None:
    """Targets, masks and features lie where the picture does."""
    avatar = GaussianAvatar(load_head("toy"), painted.shape, painted.config).to(device).eval()
    metrics = FrameMetrics(PerceptualDistance.load().to(device))
    batch = FrameSource(tracked, SIDE, device=device).batch(torch.tensor([1])).to(device)
    white = torch.ones(3, device=device)
    reference = metrics.reference(over(batch.image, batch.head, white)[0], batch.loss_mask[0], perceptual=True)
    picture = avatar.render(batch.params, batch.camera, white).rgb[0]
    assert {value.device.type for value in metrics.compare(picture, reference).values()} == {device.type}


def test_a_copy_that_the_host_waits_for_is_found_out_on_meta() -> None:
    with RefuseWaiting():
        move(torch.ones(3), "meta")
        with pytest.raises(AssertionError, match="the host waits"):
            torch.ones(3).to("meta")
