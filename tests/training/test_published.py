"""The recipes of Gaussian Deja-vu as published, beside the paper's equations written out in numpy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from deja_vu.avatars import GaussianAvatar
from deja_vu.avatars.gaussian.config import CodeNetworkConfig
from deja_vu.avatars.gaussian.published import fold_global_map, in_head_axes, mouth_texels
from deja_vu.avatars.gaussian.softmax_code import NetworkCode
from deja_vu.core.camera import Camera
from deja_vu.core.errors import ConfigError
from deja_vu.core.head import HeadSpec
from deja_vu.core.ranges import check_config
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.heads.toy import load as load_toy
from deja_vu.io.frames import FrameSource
from deja_vu.losses.perceptual import KERNELS, PerceptualDistance
from deja_vu.pipelines.recipes import shipped_recipe
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.training.features import feature_faces
from deja_vu.training.gaussian import GaussianTask
from deja_vu.training.gaussian_config import GaussianTrainConfig
from deja_vu.training.gaussian_init import begin_as_prior, init_avatar
from deja_vu.training.trainer import Trainer

RECIPES = ("paper", "paper-v1.1")
MAPS = 3
CPU = torch.device("cpu")


def small(name: str) -> GaussianTrainConfig:
    """A published recipe with few texels, few small pictures, no network to begin with, and no perceptual term."""
    config = shipped_recipe(name).gaussian
    network = replace(config.avatar.code_network, steps=200)
    avatar = replace(config.avatar, uv_size=64, blend_size=64, blendmaps=MAPS, code_network=network)
    phases = tuple(replace(phase, steps=3, resolution=64, batch=2) for phase in config.phases)
    return replace(config, avatar=avatar, phases=phases, init="gray", loss=replace(config.loss, perceptual=0.0))


def begin(made_up: TrackedSequence, config: GaussianTrainConfig, run: Path, stage: int) -> GaussianTask:
    """A task in the middle of a stage, with maps that are not zero."""
    avatar = init_avatar(made_up, config)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        avatar.rectification.copy_(0.3 * torch.randn(avatar.rectification.shape, generator=generator))
        if stage == 2:
            avatar.blendmaps.copy_(0.3 * torch.randn(avatar.blendmaps.shape, generator=generator))
            avatar.rectification.zero_()
    task = GaussianTask(avatar, made_up, config, run, CPU)
    task.phase, task.begin = config.phases[stage - 1], 0 if stage == 1 else 3
    return task


def huber(difference: np.ndarray, delta: float = 0.1) -> np.ndarray:
    size = np.abs(difference)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("name", RECIPES)
def test_a_step_minimizes_the_papers_sum(made_up: TrackedSequence, tmp_path: Path, name: str, stage: int) -> None:
    config = small(name)
    task = begin(made_up, config, tmp_path, stage)
    avatar, batch = task.avatar, FrameSource(made_up, 64).batch(torch.tensor([0, 2]))
    result = task.compute(batch, task.begin, torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = avatar.render(batch.params, batch.camera, torch.ones(3)).rgb.numpy().astype(np.float64)
        seen = rasterize_mesh(avatar.head(batch.params), avatar.head.topology.faces, batch.camera).face_id.numpy()
        weights = avatar.code(batch.params).numpy().astype(np.float64)
    cut = (batch.head.numpy() > 0.5).astype(np.float64)
    target = batch.image.numpy() * cut + (1 - cut)
    expected = huber(drawn - target).mean()
    maps, scalp = avatar.blendmaps.detach().numpy().astype(np.float64), avatar.scalp.numpy()
    offset = avatar.rectification.detach().numpy().astype(np.float64)[None] if stage == 1 else np.einsum("bk,kmc->bmc", weights, maps)
    importance = np.where(scalp, 0.1, 10.1)
    dense = len(offset) * 64 * 64  # the published mean goes over all texels of the square, of which those off the chart are zero
    expected += 0.5 * (np.linalg.norm(offset[..., 0:3], axis=-1) * importance).sum() / dense
    expected += 1e-5 * (np.linalg.norm(offset[..., 3:6], axis=-1) * importance).sum() / dense
    if stage == 2:
        features = ((seen >= 0) & feature_faces(avatar.head).numpy()[np.maximum(seen, 0)])[..., None]
        assert 0.01 < features.mean() < 0.3
        expected += 10 * huber(drawn * features - target * features).mean()
    # float32 sums of 24,000 values against float64: a relative rounding of 1e-5.
    assert result.total().item() == pytest.approx(expected, rel=2e-5)
    assert set(result.terms) == {"huber", "position_norm", "scale_norm"} | ({"features"} if stage == 2 else set())


def test_weights_are_a_softmax_of_the_clips_strongest_components(talker) -> None:
    params = talker(1)
    params = replace(params, joints=params.joints + 0.1 * torch.randn(params.joints.shape))
    code = make_avatar("paper").code
    code.fit(params)
    jaw = make_avatar("paper").head.spec.joint_names.index("jaw")
    features = np.concatenate([params.expression.numpy(), 2.0 * params.joints[:, jaw].numpy()], 1).astype(np.float64)
    centered = features - features.mean(0)
    values, axes = np.linalg.eigh(np.cov(centered.T))
    strongest = np.argsort(-values)[:MAPS]
    coordinates = centered @ axes[:, strongest] / np.sqrt(values[strongest])
    coordinates *= np.where((coordinates**3).sum(0) < 0, -1, 1)
    expected = softmax(coordinates)
    np.testing.assert_allclose(code(params).numpy(), expected, rtol=0, atol=2e-4)  # an SVD in float32
    assert np.abs(axes[-3:, strongest]).max() > 0.5, "a jaw that swings is among them"


def make_avatar(name: str) -> GaussianAvatar:
    head = load_head("anny")
    return GaussianAvatar(head, torch.zeros(head.spec.num_shape), small(name).avatar)


def test_the_later_releases_weights_are_the_codes_of_an_auto_encoder(talker) -> None:
    params = talker(1)
    code = make_avatar("paper-v1.1").code
    code.fit(params)
    again = make_avatar("paper-v1.1").code
    again.fit(params)
    values = code.features(params).numpy().astype(np.float64)
    for number, (weight, bias) in enumerate(code.layers()):
        values = np.maximum(values, 0) if number else values
        values = values @ weight.numpy().T.astype(np.float64) + bias.numpy()
    expected = softmax(values)
    np.testing.assert_allclose(code(params).numpy(), expected, rtol=0, atol=1e-5)
    assert torch.equal(code(params), again(params)), "the same clip has the same weights"
    # What the code tells of the face: regressing the features on the weights explains more of them than their mean does.
    features = code.features(params).numpy()
    design = np.concatenate([expected, np.ones((len(expected), 1))], 1)
    residual = features - design @ np.linalg.lstsq(design, features, rcond=None)[0]
    assert (residual**2).mean() < 0.5 * ((features - features.mean(0)) ** 2).mean()
    assert not list(code.parameters()), "it is frozen"


def test_the_later_releases_network_has_the_published_size() -> None:
    spec = HeadSpec("flame", 100, tuple(f"expr_{number:03d}" for number in range(50)), ("neck", "jaw", "eye_left", "eye_right"))
    assert sum(part.numel() for layer in NetworkCode(spec, 10, CodeNetworkConfig()).layers() for part in layer) == 5760


@pytest.mark.parametrize("name", RECIPES)
def test_steps_rates_and_pictures_are_the_papers(name: str) -> None:
    config = shipped_recipe(name).gaussian
    check_config(config)
    assert [(phase.steps, phase.batch, phase.resolution, phase.blendmaps) for phase in config.phases] == [
        (150, 16, 512, False),
        (500, 16, 512, True),
    ]
    assert sum(phase.steps * phase.batch for phase in config.phases) == 10_400
    for phase in config.phases:
        ours = [phase.rate(step) for step in range(phase.steps)]
        expected = [0.05 * 0.9 ** math.floor(20 * step / phase.steps) for step in range(phase.steps)]
        np.testing.assert_allclose(ours, expected, rtol=1e-9)
    assert (config.avatar.uv_size, config.avatar.blend_size, config.avatar.blendmaps) == (320, 320, 10)
    assert (config.adam.beta1, config.adam.beta2, config.adam.eps) == (0.9, 0.999, 1e-8)
    assert config.loss.perceptual == 0.05
    assert config.perceptual_window == 512


def test_a_step_moves_all_channels_alike_by_adams_rule(made_up: TrackedSequence, tmp_path: Path) -> None:
    config = replace(small("paper"), fixed_mouth=False)
    config = replace(config, phases=(replace(config.phases[0], steps=40),))
    avatar = init_avatar(made_up, config)
    assert avatar.gains.tolist() == pytest.approx([0.01] * 3 + [1.0] * 10)
    task, gradients, values = GaussianTask(avatar, made_up, config, tmp_path, CPU), [], []

    def watch(step: int) -> None:
        gradients.append(avatar.rectification.grad.numpy().astype(np.float64))
        values.append(avatar.rectification.detach().numpy().astype(np.float64))

    trainer = Trainer(task, replace(config, phases=(replace(config.phases[0], steps=4),)), tmp_path, resume=False)
    trainer.fit(watch)
    mean, square, value = (np.zeros_like(gradients[0]) for _ in range(3))
    for step, gradient in enumerate(gradients, 1):
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        rate = 0.05 * 0.9 ** math.floor(20 * (step - 1) / 4)
        value = value - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        clear = np.abs(gradient) > 1e-6  # below, the rounding of float32 decides
        np.testing.assert_allclose(values[step - 1][clear], value[clear], rtol=0, atol=2e-3)
        value = values[step - 1]


@pytest.mark.parametrize("name", [*RECIPES, "paper-cpu"])
def test_nothing_but_adam_moves_the_maps(made_up: TrackedSequence, tmp_path: Path, name: str) -> None:
    """No bound on hair, cloth or what no frame shows: the paper has none."""
    task = begin(made_up, small(name), tmp_path, stage=1)
    task.avatar.unseen.fill_(1.0)
    task.avatar.held.fill_(1.0)
    outside = ~mouth_texels(task.avatar)  # which are fixed, as published
    task.avatar.rectification.data.mul_(100)
    before = task.avatar.rectification.detach().clone()
    task.after_step()
    assert torch.equal(task.avatar.rectification[outside], before[outside])


def test_the_perceptual_term_waits_for_fifty_steps_of_stage_one_only(made_up: TrackedSequence, tmp_path: Path) -> None:
    config = small("paper")
    weights = replace(config.loss, perceptual=0.05)
    generator = torch.Generator().manual_seed(0)
    kernels = [torch.randn(o, i, k, k, generator=generator) * math.sqrt(2 / (i * k * k)) for o, i, k in KERNELS]
    distance = PerceptualDistance(kernels, [torch.zeros(o) for o, _, _ in KERNELS], [torch.ones(o) for o, _, _ in KERNELS])
    batch = FrameSource(made_up, 64).batch(torch.tensor([0]))
    for stage, step, there in ((1, 0, False), (1, 49, False), (1, 50, True), (1, 149, True), (2, 0, True), (2, 1, True)):
        task = begin(made_up, config, tmp_path, stage)
        task.phase, task.begin = shipped_recipe("paper").gaussian.phases[stage - 1], 7
        task.objective.weights, task.objective.perceptual = weights, distance
        terms = task.compute(batch, 7 + step, torch.Generator().manual_seed(0)).terms
        assert ("perceptual" in terms) == there, (stage, step)


@pytest.mark.parametrize("name", RECIPES)
def test_stage_two_begins_with_ten_copies_of_the_global_map_which_is_trained_no_more(
    made_up: TrackedSequence, tmp_path: Path, name: str
) -> None:
    config = small(name)
    task = begin(made_up, config, tmp_path, 1)
    avatar, params, camera = task.avatar, made_up.params[:2], made_up.camera.resize(64, 64)
    with torch.no_grad():
        before, learned = avatar.render(params, camera, torch.ones(3)).rgb, avatar.rectification.clone()
        next(iter(task.batches(config.phases[1], 3, 3)))
        after = avatar.render(params, camera, torch.ones(3)).rgb
    torch.testing.assert_close(after, before, rtol=0, atol=2e-4)  # weights sum to one but for rounding
    assert all(torch.equal(one, learned) for one in avatar.blendmaps)
    assert not avatar.rectification.any()
    assert (avatar.rectification.requires_grad, avatar.blendmaps.requires_grad) == (False, True)
    fold_global_map(avatar)  # a run that goes on from a checkpoint does so again
    assert all(torch.equal(one, learned) for one in avatar.blendmaps)


def test_an_interrupted_run_goes_on_exactly(made_up: TrackedSequence, tmp_path: Path) -> None:
    config = replace(small("paper"), picture_every=2)
    ends = []
    for name, stop in (("whole", None), ("cut", 4)):
        (tmp_path / name).mkdir()

        def halt(step: int, stop: int | None = stop) -> None:
            if step == stop:
                raise KeyboardInterrupt

        task = GaussianTask(init_avatar(made_up, config), made_up, config, tmp_path / name, CPU)
        if stop is None:
            Trainer(task, config, tmp_path / name, resume=False).fit()
        else:
            with pytest.raises(KeyboardInterrupt):
                Trainer(task, config, tmp_path / name, resume=False).fit(halt)
            task = GaussianTask(init_avatar(made_up, config), made_up, config, tmp_path / name, CPU)
            Trainer(task, config, tmp_path / name, resume=True).fit()
        ends.append(task.avatar.blendmaps.detach())
    assert torch.equal(*ends)


def test_what_lies_in_the_mouth_changes_its_look_and_not_its_place(made_up: TrackedSequence, tmp_path: Path) -> None:
    config = small("paper")
    avatar = init_avatar(made_up, config)
    Trainer(GaussianTask(avatar, made_up, config, tmp_path, CPU), config, tmp_path, resume=False).fit()
    mouth = mouth_texels(avatar)
    assert 10 < mouth.sum() < 0.3 * len(mouth)
    assert not avatar.blendmaps[:, mouth, :3].any()
    assert avatar.blendmaps[:, mouth, 10:].any()
    assert avatar.blendmaps[:, ~mouth, :3].any()


def test_features_are_brows_eyes_nose_and_mouth(anny: HeadModel) -> None:
    chosen, marks = feature_faces(anny), anny.topology.landmarks["mediapipe"]
    place = {int(number): int(face) for number, face in zip(marks.ids, marks.faces, strict=True)}
    inside = (1, 4, 197, 13, 14, 105, 334, 52, 282)  # nose, lips, brows
    outside = (10, 152, 234, 454, 50, 280, 9)  # forehead, chin, ears' side, cheeks, glabella
    assert all(chosen[place[number]] for number in inside if number in place)
    assert not any(chosen[place[number]] for number in outside if number in place)
    for name in ("eye_left", "eye_right", "lips", "teeth_upper"):
        assert chosen[anny.topology.regions[name]].all()


def test_the_same_gaussians_lie_in_head_axes(anny: HeadModel) -> None:
    config = replace(small("paper").avatar, blendmaps=0)
    ours, theirs = (GaussianAvatar(anny, torch.zeros(anny.spec.num_shape), replace(config, axes=axes)) for axes in ("head", "tangent"))
    generator = torch.Generator().manual_seed(1)
    base = 0.02 * torch.randn(theirs.base.shape, generator=generator)
    base[:, 3:6] = -7 + 0.5 * torch.randn(len(base), 3, generator=generator)
    base[:, 6:9] = 3 * torch.randn(len(base), 3, generator=generator)
    theirs.base.copy_(base)
    ours.base.copy_(in_head_axes(base, ours.rest_surface().frames[0]))
    assert ours.base[:, 6:9].norm(dim=1).max() <= math.sqrt(3) + 1e-4  # w is at least a half
    neutral = anny.neutral((1,))
    made = []
    for avatar in (ours, theirs):
        with torch.no_grad():
            gaussians = avatar.gaussians(neutral)[0]
        rotation = Rotation.from_quat(gaussians.quats[:, [1, 2, 3, 0]].double().numpy()).as_matrix()
        axes = torch.from_numpy(rotation) * gaussians.scales.double()[:, None]
        made.append((gaussians.means, axes @ axes.transpose(1, 2), gaussians.opacities, gaussians.sh))
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


def without_neck(avatar: GaussianAvatar) -> GaussianAvatar:
    """The same head without the neck that it has beside the published method's."""
    bare = GaussianAvatar(avatar.head, avatar.shape, replace(avatar.config, bust_size=0, bust_part="whole"))
    for name in ("base", "rectification"):
        getattr(bare, name).data.copy_(getattr(avatar, name)[: len(bare.charts)])
    return bare


def test_it_begins_as_the_networks_mean_prediction(made_up: TrackedSequence) -> None:
    """The picture of the published start is that of the network's own map, but for the resized chart."""
    config = shipped_recipe("paper").gaussian
    config = replace(config, avatar=replace(config.avatar, blendmaps=0), lift=replace(config.lift, prior_frames=2))
    begun = init_avatar(made_up, config)
    tangent = replace(config.avatar, axes="tangent", uv_size=256, blend_size=256)
    reference = without_neck(init_avatar(made_up, replace(config, avatar=tangent)))
    camera: Camera = made_up.camera.resize(128, 128)
    with torch.no_grad():
        ours, theirs = (avatar.render(made_up.params[:1], camera, torch.ones(3)).rgb for avatar in (begun, reference))
        plain = init_avatar(made_up, replace(config, init="gray")).render(made_up.params[:1], camera, torch.ones(3)).rgb
    error, gray = (float((picture - theirs).square().mean()) for picture in (ours, plain))
    assert error < 0.02 * gray
    assert not begun.rectification.any()


def test_a_network_for_another_head_is_refused(made_up: TrackedSequence) -> None:
    head = load_toy()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), replace(small("paper").avatar))
    with pytest.raises(ConfigError, match=r"head 'anny'.*'toy'.*lifted"):
        begin_as_prior(avatar, FrameSource(made_up, 64), small("paper"))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"code": "linear"}, "sum to one"), ({"blend_size": 128}, "blend_size 320")],
)
def test_maps_that_cannot_take_the_global_ones_place_are_refused(change: dict[str, object], message: str) -> None:
    config = shipped_recipe("paper").gaussian
    with pytest.raises(ConfigError, match=message):
        check_config(replace(config, avatar=replace(config.avatar, **change)))
