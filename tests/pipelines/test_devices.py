"""One training step of every path on another device than the host: torch's `meta`, which refuses, as CUDA does, to mix its tensors with
those of the CPU, and has no values that a host could wait for; and CUDA where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deja_vu.avatars import Avatar, GaussianAvatar, GaussianConfig
from deja_vu.bench.metrics import FrameMetrics
from deja_vu.bench.predictors import avatar_predictor, still_torso_predictor
from deja_vu.bench.prior_scores import PriorScores, gaussian_head
from deja_vu.core.camera import Camera
from deja_vu.core.image import over
from deja_vu.core.orbit import orbit
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.core.transfer import move
from deja_vu.datasets.shards import Sample, ShardInfo, ShardSet, begin_shards, write_shard
from deja_vu.heads import load_head
from deja_vu.io.frames import FrameSource
from deja_vu.io.tracked_folder import write_frame, write_masks
from deja_vu.losses.perceptual import KERNELS, PerceptualDistance
from deja_vu.motion.tracked import TrackedMotion
from deja_vu.pipelines.drive import turntable_of
from deja_vu.pipelines.generalize import GeneralizeTask
from deja_vu.pipelines.generalize_field import GeneralizeFieldTask
from deja_vu.pipelines.painter import Painter
from deja_vu.pipelines.person import Person, subject_of
from deja_vu.pipelines.recipes import Recipe, shipped_recipe
from deja_vu.report.sheets import comparison_sheet, render_poses
from deja_vu.training.gaussian import GaussianTask
from deja_vu.training.gaussian_config import GaussianPhase, GaussianTrainConfig, NovelViewConfig, PersonViewConfig
from deja_vu.training.nelf import NelfTask, init_nelf
from deja_vu.training.nelf_config import NelfPhase
from deja_vu.training.nerf import NerfTask, init_nerf
from deja_vu.training.nerf_config import NerfPhase
from deja_vu.training.optimizer import make_adam
from deja_vu.training.processes import Processes
from deja_vu.training.trainer import StepResult, Task
from deja_vu.viewer.stage import Clip, Performer, Stage, Wish
from tests.pipelines.test_generalize import RECIPE
from tests.pipelines.test_generalize_field import RECIPE as FIELD_RECIPE

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
    task.after_step()
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
    early = GaussianPhase(steps=2, resolution=32, learning_rate=0.01, batch=2, perceptual_every=1)
    late = replace(early, blendmaps=True)
    config = GaussianTrainConfig(
        avatar=sizes,
        phases=(early, late),
        perceptual_window=32,
        novel_views=NovelViewConfig(every=1, resolution=32),
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


@pytest.mark.parametrize("window", [0, 32])
@pytest.mark.parametrize("radius", [0.0, 0.05])
def test_a_radiance_field_trains_on_meta(tracked, tiny: Recipe, device: torch.device, window: int, radius: float) -> None:
    phase = NerfPhase(steps=2, resolution=48, learning_rate=0.01, batch=2, perceptual_every=1, window=window)
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


@pytest.mark.parametrize(
    ("kind", "change"),
    [("gaussian", {}), ("nerf", {}), ("gaussian", {"coverage": False, "warp": "latent"})],
    ids=["default", "by a field", "other sizes"],
)
def test_a_light_field_and_its_teacher_train_on_meta(tracked, painted, tiny: Recipe, device: torch.device, kind: str, change) -> None:
    teacher = painted if kind == "gaussian" else init_nerf(tracked, tiny.nerf)
    teacher = type(painted)(load_head("toy"), painted.shape, painted.config).eval() if kind == "gaussian" else teacher.eval()
    phase = NelfPhase(steps=2, resolution=48, learning_rate=0.01, batch=2, perceptual_every=1, window=32)
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


def test_a_field_for_many_people_trains_on_meta(film, device: torch.device, tmp_path: Path) -> None:
    """Sources are read on the host by a thread; encoder, attention, field and super-resolution run on the device."""
    sequence = film(tmp_path / "film", 6)
    begin_shards(tmp_path / "shards", ShardInfo("toy", SIDE, tuple("abcdef"), 6))
    frames = [(sequence.frame(place), sequence.params[place : place + 1]) for place in range(6)]
    portraits = [Portrait(f"k{place}", f"p{place // 3}", *frames[place], sequence.camera) for place in range(6)]
    write_shard(tmp_path / "shards", 0, [Sample(portrait, "film", "train") for portrait in portraits], {})
    phase = replace(FIELD_RECIPE.nerf.phases[1], perceptual_every=1)
    loss = replace(FIELD_RECIPE.nerf.loss, perceptual=0.1)
    nerf = replace(FIELD_RECIPE.nerf, phases=(phase,), loss=loss, perceptual_window=32)
    config = replace(FIELD_RECIPE, nerf=nerf, photo_counts=(0.0, 1.0))
    task = GeneralizeFieldTask(config, ShardSet([tmp_path / "shards"]), device)
    assert {"fine", "coarse", "huber", "perceptual", "planes"} <= set(step(task, phase, 4, device).terms)


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


def arrives(show: Callable[[], object], device: torch.device) -> None:
    """Whether a picture gets as far as its way back to the host, which of all that happens to it the meta device alone cannot do."""
    if device.type == "meta":
        with pytest.raises(NotImplementedError, match="meta tensor"):
            show()
    else:
        show()


@pytest.fixture(params=["gaussian", "nerf", "nelf"])
def away(request, tracked: TrackedSequence, painted: GaussianAvatar, tiny: Recipe, device: torch.device) -> Avatar:
    """An avatar of each kind on the device."""
    if request.param == "gaussian":
        return GaussianAvatar(load_head("toy"), painted.shape, painted.config).to(device).eval()
    made = init_nerf(tracked, tiny.nerf) if request.param == "nerf" else init_nelf(tracked, tiny.nelf)
    return made.to(device).eval()


def test_frames_that_are_driven_scored_and_reported_are_drawn_on_meta(away: Avatar, tracked: TrackedSequence, device: torch.device) -> None:
    """Motion, cameras and poses come from the host."""
    subject = subject_of(tracked, away)
    turn = turntable_of(away, subject, 4)
    for background in (torch.ones(3), np.zeros((30, 20, 3), np.uint8)):
        camera = subject.camera.resize(32, 32)
        paint = Painter(away, camera, background)
        arrives(partial(paint, turn.params[1:2], orbit(camera, torch.zeros(3), 0.5)), device)
        assert paint.together == (16 if "gaussians" in away.capabilities else 1)
        poses = [turn.params[place : place + 1] for place in range(3)]
        arrives(lambda paint=paint, poses=poses: list(paint.stream(poses, together=2)), device)
    batch = FrameSource(tracked, SIDE).batch(torch.tensor([2]))
    arrives(partial(avatar_predictor("test", away).predict, batch), device)
    arrives(partial(still_torso_predictor("still", away, tracked).predict, batch), device)
    arrives(partial(render_poses, away, tracked, tracked.params[:2], 32), device)
    arrives(partial(comparison_sheet, tracked, away, 1), device)


def test_avatars_in_the_viewer_are_drawn_on_meta(away: Avatar, tracked: TrackedSequence, device: torch.device) -> None:
    """Sliders, a motion, the comparison with a frame, and Gaussians for the browser."""
    performer = Performer("toy", away, subject_of(tracked, away), tracked)
    stage = Stage([performer], {"as filmed": Clip.of(TrackedMotion(tracked))})
    camera = Camera.from_focal(60.0, 32, 24)
    wishes = (Wish(weights={"jawOpen": 1.0}, head=(10.0, 0.0, 0.0)), Wish(motion="as filmed", frame=1), Wish(compared=1))
    for wish in wishes:
        arrives(partial(stage.picture, wish, camera), device)
    if stage.has_gaussians:
        arrives(partial(stage.gaussians, wishes[0]), device)


def test_a_persons_picture_is_drawn_on_meta(away: Avatar, tracked: TrackedSequence, device: torch.device) -> None:
    person = Person(away, subject_of(tracked, away), "someone", tracked)
    arrives(partial(person.render, {"jawOpen": 0.5}, yaw=10.0, size=48), device)


def test_heads_of_a_prior_are_scored_on_meta(tracked: TrackedSequence, painted: GaussianAvatar, device: torch.device) -> None:
    batch = FrameSource(tracked, SIDE).batch(torch.tensor([2]))
    scores = PriorScores({"painted": lambda photos: gaussian_head(painted.gaussians, device)}, device)
    arrives(partial(scores.add, batch, {"input": batch}, ("all",)), device)
