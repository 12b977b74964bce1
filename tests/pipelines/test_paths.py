"""The field paths from a tracked video to an avatar, through the same commands as Gaussians."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deja_vu.avatars import Avatar, NelfAvatar, NerfAvatar, load_avatar
from deja_vu.avatars.nerf import PUBLISHED
from deja_vu.core.errors import ConfigError, DivergedError
from deja_vu.core.image import over
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.assets import find
from deja_vu.io.frames import FrameSource
from deja_vu.pipelines.drive import drive_video
from deja_vu.pipelines.person import load
from deja_vu.pipelines.personalize import learn, personalize
from deja_vu.pipelines.recipes import Recipe, shipped_recipe
from deja_vu.training.distill import render_teacher, sample_params
from deja_vu.training.nelf import init_nelf, train_nelf
from deja_vu.training.nelf_config import NelfPhase, SamplingLaw
from deja_vu.training.nerf import init_nerf, train_nerf
from deja_vu.training.nerf_config import NerfPhase
from tests.pipelines.conftest import unlisted

WHITE = torch.ones(3)
CPU = torch.device("cpu")
needs_perceptual = pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")


@pytest.fixture(scope="session")
def tiny(small_recipe: Recipe) -> Recipe:
    """The shipped tiny sizes, with a teacher of seconds."""
    recipe = replace(shipped_recipe("tiny"), gaussian=small_recipe.gaussian)
    nelf = replace(recipe.nelf, loss=replace(recipe.nelf.loss, perceptual=0.0))
    nerf = replace(recipe.nerf, loss=replace(recipe.nerf.loss, perceptual=0.0))
    return replace(recipe, nelf=nelf, nerf=nerf)


def psnr(image_of, sequence: TrackedSequence) -> float:
    """Mean over test frames, over white, of the pixels that count."""
    test = sequence.test_part()
    batch = FrameSource(test, sequence.info.resolution).batch(torch.arange(len(test)))
    error = ((image_of(batch) - over(batch.image, batch.head, WHITE)).square() * batch.loss_mask).sum((1, 2, 3))
    return float((-10 * (error / (3 * batch.loss_mask.sum((1, 2, 3)))).log10()).mean())


def avatar_psnr(avatar: Avatar, sequence: TrackedSequence) -> float:
    with torch.no_grad():
        return psnr(lambda batch: avatar.render(batch.params, batch.camera, WHITE).rgb, sequence)


def mean_psnr(sequence: TrackedSequence) -> float:
    train = sequence.train_part()
    batch = FrameSource(train, sequence.info.resolution).batch(torch.arange(len(train)))
    mean = over(batch.image, batch.head, WHITE).mean(0)
    return psnr(lambda batch: mean, sequence)


def equal(a: Avatar, b: Avatar) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_the_radiance_field_beats_the_mean_image(tracked, tiny, tmp_path) -> None:
    learned = learn(tracked.train_part(), replace(tiny, path="nerf"), tmp_path, resume=False)
    assert isinstance(learned.avatar, NerfAvatar)
    assert avatar_psnr(learned.avatar, tracked) > mean_psnr(tracked) + 2


def test_the_light_field_beats_the_mean_image(tracked, tiny, painted, tmp_path) -> None:
    learned = learn(tracked.train_part(), replace(tiny, path="nelf"), tmp_path, resume=False, teacher=painted)
    assert isinstance(learned.avatar, NelfAvatar)
    assert learned.auxiliary > 0
    assert avatar_psnr(learned.avatar, tracked) > mean_psnr(tracked) + 2.5


def test_real_frames_alone_teach_the_frames_themselves(tracked, tiny, tmp_path) -> None:
    """Twelve frames do not teach a light field poses it never saw; what it saw it must show."""
    recipe = replace(tiny, path="nelf", nelf=replace(tiny.nelf, pseudo_share=0.0, teacher="none"))
    learned = learn(tracked.train_part(), recipe, tmp_path, resume=False)
    seen = replace(tracked, test=~tracked.test)
    train = tracked.train_part()
    batch = FrameSource(train, 96).batch(torch.arange(len(train)))
    mean = over(batch.image, batch.head, WHITE).mean(0)
    assert avatar_psnr(learned.avatar, seen) > psnr(lambda batch: mean, seen) + 1


def test_taught_frames_alone_teach_what_the_teacher_knows(tracked, tiny, painted, tmp_path) -> None:
    recipe = replace(tiny, path="nelf", nelf=replace(tiny.nelf, pseudo_share=1.0))
    learned = learn(tracked.train_part(), recipe, tmp_path, resume=False, teacher=painted)
    assert avatar_psnr(learned.avatar, tracked) > mean_psnr(tracked) + 2


def test_the_light_field_does_not_collapse_to_black(tracked, tiny, painted, tmp_path) -> None:
    """A sigmoid at the end and a rate of 0.004 did, by step 100, and never came back; a linear end holds."""
    nelf = replace(tiny.nelf, phases=(NelfPhase(steps=100, resolution=96, learning_rate=0.004, final_rate=1.0, perceptual_every=0),))
    learned = learn(tracked.train_part(), replace(tiny, path="nelf", nelf=nelf), tmp_path, resume=False, teacher=painted)
    batch = FrameSource(tracked.test_part(), 96).batch(torch.tensor([0]))
    with torch.no_grad():
        out = learned.avatar.render(batch.params, batch.camera, WHITE)
    assert out.rgb[0][batch.head[0, ..., 0] > 0.9].mean() > 0.2
    assert avatar_psnr(learned.avatar, tracked) > 11.4 + 3


@pytest.mark.parametrize("path", ["nerf", "nelf"])
def test_an_interrupted_run_continues_exactly(tracked, tiny, painted, tmp_path, path) -> None:
    sizes = {"steps": 4, "resolution": 48, "learning_rate": 0.003, "batch": 2, "window": 32, "perceptual_every": 0}
    nerf = replace(tiny.nerf, phases=(NerfPhase(**sizes, enlarge=False), NerfPhase(**sizes)), picture_every=3)
    recipe = replace(tiny, path=path, nerf=nerf, nelf=replace(tiny.nelf, phases=(NelfPhase(**sizes),) * 2, picture_every=3))
    train = tracked.train_part()
    whole = learn(train, recipe, tmp_path / "whole", resume=False, teacher=painted).avatar

    def press(_: Avatar, step: int) -> None:
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        learn(train, recipe, tmp_path / "cut", resume=False, teacher=painted, on_step=press)
    torch.manual_seed(99)
    resumed = learn(train, recipe, tmp_path / "cut", resume=True, teacher=painted).avatar
    assert equal(whole, resumed)
    steps = [[json.loads(line)["step"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()] for run in ("whole", "cut")]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("path", ["nerf", "nelf"])
def test_a_diverging_run_stops_and_names_the_term(tracked, tiny, painted, tmp_path, path) -> None:
    wild = {"steps": 30, "resolution": 48, "learning_rate": 1e30, "perceptual_every": 0}
    nerf, nelf = replace(tiny.nerf, phases=(NerfPhase(**wild),)), replace(tiny.nelf, phases=(NelfPhase(**wild),))
    recipe = replace(tiny, path=path, nerf=nerf, nelf=nelf)
    with pytest.raises(DivergedError, match=r"The term '\w+' became (nan|inf) at step \d+ on frames \[\d+\]"):
        learn(tracked.train_part(), recipe, tmp_path, resume=False, teacher=painted)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_broken_frame_stops_the_run_and_is_named(tracked, tiny, painted, tmp_path) -> None:
    values = tracked.params.world_from_head.clone()
    values[4] = torch.nan
    broken = replace(tracked, params=replace(tracked.params, world_from_head=values)).train_part()
    nerf, nelf = init_nerf(tracked.train_part(), tiny.nerf), init_nelf(tracked.train_part(), tiny.nelf)
    for name, train in (
        ("nerf", lambda run: train_nerf(nerf, broken, tiny.nerf, run, device=CPU, resume=False)),
        ("nelf", lambda run: train_nelf(nelf, broken, tiny.nelf, painted, run, device=CPU, resume=False)),
    ):
        with pytest.raises(DivergedError, match=r"frames' world_from_head .* not finite at step \d+ on frames \[4\]"):
            train(tmp_path / name)


def test_recipes_that_cannot_work_are_refused(tracked, tiny, tmp_path) -> None:
    train = tracked.train_part()
    alone = replace(tiny.nelf, teacher="none")
    with pytest.raises(ConfigError, match=r"there is none. Set pseudo_share: 0"):
        learn(train, replace(tiny, path="nelf", nelf=alone), tmp_path, resume=False)
    odd, odd_nerf = (NelfPhase(steps=1, resolution=50, learning_rate=0.1),), (NerfPhase(steps=1, resolution=50, learning_rate=0.1),)
    with pytest.raises(ConfigError, match="multiples of 4"):
        learn(train, replace(tiny, path="nelf", nelf=replace(alone, pseudo_share=0.0, phases=odd)), tmp_path, resume=False)
    with pytest.raises(ConfigError, match="multiples of 4"):
        learn(train, replace(tiny, path="nerf", nerf=replace(tiny.nerf, phases=odd_nerf)), tmp_path, resume=False)


def test_the_published_recipe_is_the_published_configuration() -> None:
    assert shipped_recipe("gpavatar").nerf.avatar == PUBLISHED


def test_the_published_form_trains_at_a_small_size(tracked, tiny, tmp_path) -> None:
    """Encoder, attention, face crops and all: every part of the published recipe runs and improves."""
    published = shipped_recipe("gpavatar").nerf
    sizes = {"plane_size": 16, "plane_channels": 4, "encoder_size": 32, "encoder_width": 0.05, "point_features": 4, "width": 16}
    sizes |= {"features": 6, "coarse": 8, "fine": 8, "rays": 24, "style_size": 64, "nearest": 3}
    loss, regularizers = replace(published.loss, perceptual=0.0), replace(published.regularizers, face_perceptual=0.0, low_perceptual=0.0)
    phases = (NerfPhase(steps=40, resolution=48, learning_rate=0.0003, final_rate=1.0, perceptual_every=0),)
    recipe = replace(
        published, avatar=replace(published.avatar, **sizes), loss=loss, regularizers=regularizers, phases=phases, log_every=1, seed=5
    )
    learn(tracked.train_part(), replace(tiny, path="nerf", nerf=recipe), tmp_path, resume=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"loss/l1", "loss/fine", "loss/coarse", "loss/face", "loss/opacity"} <= set(lines[0])
    # Four of six seeds end below 0.4 of the beginning, this one among them; rounding differs between processors, hence the wide margin.
    assert sum(line["loss/total"] for line in lines[-3:]) < 0.7 * sum(line["loss/total"] for line in lines[:3])


def test_taught_frames_are_what_the_teacher_draws(tracked, painted) -> None:
    batch = FrameSource(tracked, 96).batch(torch.tensor([3, 5])).crop(slice(20, 84), slice(8, 72))
    lesson = render_teacher(painted, batch.params, batch)
    with torch.no_grad():
        out = painted.render(batch.params, batch.camera, torch.tensor([0.3, 0.6, 0.1]))
    assert torch.allclose(over(lesson.image, lesson.head, torch.tensor([0.3, 0.6, 0.1])), out.rgb, atol=0.02)  # coverage under OPAQUE
    assert lesson.loss_mask.min() == 1
    assert 0.02 < lesson.eyes_mouth.mean() < 0.5


def test_sampled_parameters_stay_around_the_video(tracked) -> None:
    law = SamplingLaw(mix=0.25, rotation=(0.1, 0.2, 0.05), translation=0.01)
    base = tracked.params[torch.zeros(400, dtype=torch.long)]
    drawn = sample_params(tracked.params, base, law, torch.Generator().manual_seed(0))
    spread = tracked.params.expression.amax(0) - tracked.params.expression.amin(0)
    assert (drawn.expression <= tracked.params.expression.amax(0) + 0.25 * spread + 1e-5).all()
    assert (drawn.expression >= tracked.params.expression.amin(0) - 0.25 * spread - 1e-5).all()
    rotation = base.world_from_head[:, :3, :3].transpose(1, 2) @ drawn.world_from_head[:, :3, :3]
    angles = torch.stack([rotation[:, 2, 1], rotation[:, 0, 2], rotation[:, 1, 0]], 1).std(0)
    assert torch.allclose(angles, torch.tensor([0.1, 0.2, 0.05]), rtol=0.15)  # of 400 draws, and sines of small angles
    move = (drawn.world_from_head - base.world_from_head)[:, :3, 3].std(0)
    assert torch.allclose(move, torch.full((3,), 0.01), rtol=0.15)


@needs_perceptual
@pytest.mark.parametrize("path", ["nerf", "nelf"])
def test_a_field_run_is_personalized_evaluated_and_driven(tracked, tiny, tmp_path, path) -> None:
    short = {"steps": 6, "resolution": 96, "learning_rate": 0.003, "perceptual_every": 2}
    nerf, nelf = replace(tiny.nerf, phases=(NerfPhase(**short),)), replace(tiny.nelf, phases=(NelfPhase(**short),))
    recipe = replace(tiny, path=path, nerf=nerf, nelf=nelf)
    out = tmp_path / "run"
    personalize(tracked.folder, out, recipe, resume=False, overwrite=False)
    assert unlisted(out) == set()
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["path"] == path
    assert metrics["parameters"] == sum(parameter.numel() for parameter in load_avatar(out / "avatar.safetensors").parameters())
    assert ("teacher" in metrics["baselines"]) == ("teacher" in metrics["seconds"]) == (path == "nelf")
    person = load(out)
    drive_video(person.avatar, person.subject, tracked.test_part(), Path(tmp_path / "driven.mp4"))
    assert (tmp_path / "driven.mp4").stat().st_size > 1000
    assert (out / "turntable.mp4").is_file()
