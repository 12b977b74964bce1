"""LightAvatar's recipe beside its equations, written out in numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.avatars.nelf import PUBLISHED
from deja_vu.avatars.nelf.avatar import TURNS
from deja_vu.core.ranges import check_config
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.io.frames import FrameSource
from deja_vu.losses.photometric import s3im_loss
from deja_vu.pipelines.personalize import teacher_recipe
from deja_vu.pipelines.recipes import shipped_recipe
from deja_vu.training.distill import render_teacher
from deja_vu.training.gaussian_init import choose_sizes
from deja_vu.training.nelf import NelfTask, init_nelf
from deja_vu.training.nelf_config import NelfTrainConfig


@pytest.fixture
def small() -> NelfTrainConfig:
    """The recipe with a small network, without a teacher and a perceptual term."""
    config = shipped_recipe("lightavatar").nelf
    sizes = replace(config.avatar, width=16, depth=2, bank=4, upscale_width=8, upscale_depth=1, warp_width=8)
    phase = replace(config.phases[0], steps=3, resolution=64, batch=2)
    return replace(config, avatar=sizes, phases=(phase,), pseudo_share=0.0, teacher="none", loss=replace(config.loss, perceptual=0.0))


def test_the_recipe_is_the_deployed_network() -> None:
    recipe = shipped_recipe("lightavatar")
    check_config(recipe)
    assert recipe.path == "nelf"
    assert recipe.nelf.avatar == PUBLISHED


def test_s3im_is_one_minus_the_similarity_of_patches() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 9, 12, 3)), rng.random((2, 9, 12, 3))
    values = []
    for image in range(2):
        for top in (0, 4):
            for left in (0, 4, 8):
                for channel in range(3):
                    x, y = (picture[image, top : top + 4, left : left + 4, channel] for picture in (a, b))
                    means = (2 * x.mean() * y.mean() + 1e-4) / (x.mean() ** 2 + y.mean() ** 2 + 1e-4)
                    covariance = ((x - x.mean()) * (y - y.mean())).mean()
                    values.append(means * (2 * covariance + 9e-4) / (x.var() + y.var() + 9e-4))
    found = s3im_loss(torch.from_numpy(a), torch.from_numpy(b))
    assert float(found) == pytest.approx(1 - np.mean(values), abs=1e-12)
    assert float(s3im_loss(torch.from_numpy(a), torch.from_numpy(a))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("part", ["whole", "neck"])
def test_a_person_teaches_the_head_alone(part: str, made_up: TrackedSequence) -> None:
    """Real frames say that nothing is to be drawn below the head; a teacher with a torso said the contrary in every second step."""
    sizes = GaussianConfig(uv_size=64, blend_size=64, blendmaps=0)
    head, shape = load_head("anny"), made_up.params.shape[0]
    person = GaussianAvatar(head, shape, replace(sizes, bust_size=64, bust_part=part)).eval()
    batch = FrameSource(made_up, 64).batch(torch.tensor([0, 2]))
    lesson = render_teacher(person, batch.params, batch)
    with torch.no_grad():
        alone = GaussianAvatar(head, shape, sizes).eval().render(batch.params, batch.camera, torch.zeros(3))
        whole = person.render(batch.params, batch.camera, torch.zeros(3))
    torch.testing.assert_close(lesson.head, alone.alpha, rtol=0, atol=1e-6)
    assert (whole.alpha - alone.alpha).max() > 0.5


def test_a_light_fields_own_teacher_is_trained_on_the_head(made_up: TrackedSequence) -> None:
    recipe = replace(shipped_recipe("tiny"), path="nelf")
    assert choose_sizes(made_up, recipe.gaussian).bust_part == "whole"
    assert choose_sizes(made_up, teacher_recipe(recipe, "gaussian").gaussian).bust_part == "neck"


def test_a_step_sums_the_published_terms(made_up: TrackedSequence, small: NelfTrainConfig) -> None:
    avatar = init_nelf(made_up, small)
    task = NelfTask(avatar, made_up, replace(small, warp_share=0.0), None)
    task.phase = small.phases[0]
    batch = FrameSource(made_up, 64).batch(torch.tensor([0, 2]))
    result = task.compute(batch, 0, torch.manual_seed(0))
    assert set(result.terms) == {"l2", "neighbors", "s3im", "latents"}
    with torch.no_grad():
        drawn = avatar.render(batch.params, batch.camera, torch.ones(3)).rgb.double().numpy()
        target = (batch.image * batch.head + 1 - batch.head).double().numpy()
        counted = (batch.loss_mask.clamp_min(small.loss.neck) * batch.valid).double().numpy()
        pairs = [made_up.params[torch.tensor(at)] for at in ([0, 2], [1, 3])]
        pictures = [avatar.render(one, batch.camera, torch.ones(3)).rgb.double().numpy() for one in pairs]
        inputs = [np.concatenate([avatar.code(one).numpy(), one.world_from_head[:, :3].flatten(1).numpy()], 1) for one in pairs]
    squares = ((drawn - target) ** 2 * counted).sum() / (3 * counted.sum())
    assert result.terms["l2"].item() == pytest.approx(squares, rel=1e-4)
    change = np.abs(pictures[1] - pictures[0]).mean() / max(np.abs(inputs[1] - inputs[0]).mean(), 1e-3)
    assert result.terms["neighbors"].item() == pytest.approx(change, rel=1e-3)
    weights = {"l2": 1.0, "neighbors": 1e-4, "s3im": 0.1, "latents": 1e-3}
    total = sum(weights[name] * value.item() for name, value in result.terms.items())
    assert result.total().item() == pytest.approx(total, rel=1e-5)


def test_turns_of_jaw_and_eyes_are_held_by_a_tanh(made_up: TrackedSequence, small: NelfTrainConfig) -> None:
    avatar = init_nelf(made_up, small)
    names = avatar.head.spec.joint_names
    joints = 3 * torch.randn(5, len(names), 3, generator=torch.Generator().manual_seed(1))
    params = replace(avatar.head.neutral((5,)), joints=joints)
    held = avatar.limit_turns(params).joints
    for joint, name in enumerate(names):
        kind = name.split("_")[0]
        if kind not in TURNS:
            assert torch.equal(held[:, joint], joints[:, joint])
            continue
        low, high = np.radians(TURNS[kind]).T
        middle, half = (low + high) / 2, (high - low) / 2
        expected = middle + half * np.tanh((joints[:, joint].numpy() - middle) / half)
        np.testing.assert_allclose(held[:, joint].numpy(), expected, rtol=1e-4, atol=1e-6)
