from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from deja_vu.avatars import GaussianAvatar, save_avatar
from deja_vu.avatars.gaussian.config import ReaderConfig
from deja_vu.avatars.gaussian.face_reader import codes_reader
from deja_vu.avatars.io import load_avatar
from deja_vu.avatars.prior.config import PriorConfig
from deja_vu.avatars.prior.network import build_prior, save_prior
from deja_vu.core.errors import ConfigError, DivergedError, OutputError
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.image import over
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.io.assets import find
from deja_vu.io.frames import FrameSource
from deja_vu.nets.config import UVNetConfig
from deja_vu.nets.uv_unet import UVNet
from deja_vu.pipelines.personalize import personalize
from deja_vu.pipelines.recipes import Recipe
from deja_vu.training.config import ValidationConfig
from deja_vu.training.divergence import refuse_divergence
from deja_vu.training.gaussian import train_gaussian
from deja_vu.training.gaussian_config import GaussianPhase, GaussianTrainConfig
from deja_vu.training.gaussian_init import choose_init, init_avatar
from tests.pipelines.conftest import unlisted

needs_perceptual = pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")
WHITE = torch.ones(3)
CPU = torch.device("cpu")


def run_training(sequence: TrackedSequence, config: GaussianTrainConfig, run: Path) -> GaussianAvatar:
    torch.manual_seed(0)
    avatar = init_avatar(sequence.train_part(), config)
    train_gaussian(avatar, sequence.train_part(), config, run, device=CPU, resume=False)
    return avatar


def score(avatar: GaussianAvatar, sequence: TrackedSequence) -> float:
    """Mean over test frames, over white, of the pixels that count, with what the avatar reads of them."""
    source, scores = FrameSource(sequence.test_part(), sequence.info.resolution), []
    for position in range(len(sequence.test_part())):
        batch = source.batch(torch.tensor([position]))
        with torch.no_grad():
            image = avatar.render(codes_reader(avatar)(batch), batch.camera, WHITE).rgb
        error = ((image - over(batch.image, batch.head, WHITE)).square() * batch.loss_mask).sum() / (3 * batch.loss_mask.sum())
        scores.append(-10 * math.log10(float(error)))
    return sum(scores) / len(scores)


def mean_image_psnr(sequence: TrackedSequence) -> float:
    train_part = FrameSource(sequence.train_part(), sequence.info.resolution).batch(torch.arange(len(sequence.train_part())))
    test = FrameSource(sequence.test_part(), sequence.info.resolution).batch(torch.arange(len(sequence.test_part())))
    mean = over(train_part.image, train_part.head, WHITE).mean(0)
    error = ((mean - over(test.image, test.head, WHITE)).square() * test.loss_mask).sum((1, 2, 3)) / (3 * test.loss_mask.sum((1, 2, 3)))
    return float((-10 * error.log10()).mean())


def curve(run: Path, name: str) -> list[float]:
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [entry[name] for entry in entries if name in entry]


def interrupt_after(avatar: GaussianAvatar, renders: int) -> None:
    """Press Ctrl-C in the middle of the step that follows so many blended renders: its random numbers are drawn, nothing is updated."""
    loss_mask = iter(range(renders))

    def press(*_: object) -> None:
        if next(loss_mask, None) is None:
            signal.raise_signal(signal.SIGINT)

    avatar.code.register_forward_hook(press)


def equal(a: GaussianAvatar, b: GaussianAvatar) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_colors_are_lifted_onto_the_start(tracked, small_recipe) -> None:
    avatar = init_avatar(tracked.train_part(), small_recipe.gaussian)
    assert score(avatar, tracked) > mean_image_psnr(tracked) + 1
    assert torch.equal(avatar.shape, tracked.params.shape[0])


def test_a_start_without_the_video_is_gray(tracked, small_recipe) -> None:
    avatar = init_avatar(tracked.train_part(), replace(small_recipe.gaussian, init="gray"))
    assert not avatar.base[:, CHANNELS["color"]].any()
    assert torch.equal(avatar.shape, tracked.params.shape[0])


def test_a_start_from_a_network(tracked, small_recipe, tmp_path) -> None:
    network = UVNetConfig(widths=(8, 16), code=8, code_widths=(8, 8))
    path, sequence = tmp_path / "prior.safetensors", tracked.train_part()
    prior = build_prior(PriorConfig(head="toy", uv_size=64, network=network, picture=32))
    assert isinstance(prior.net, UVNet)
    torch.nn.init.constant_(prior.net.out.bias, 0.05)
    save_prior(prior, path, {})
    config = replace(small_recipe.gaussian, init="prior", prior=str(path), lift=replace(small_recipe.gaussian.lift, prior_frames=3))
    avatar = init_avatar(sequence, config)
    source = FrameSource(sequence, config.lift.resolution)
    pairs = [source.batch(torch.tensor(pair)) for pair in ([0, 6], [11])]
    starts = [prior.atlas.lift(photos) for photos in pairs]
    lifted = torch.stack([start.base for start in starts]).mean(0)
    # Every channel of the network's last layer says 0.05 in units of the gains, whatever the photos show; half
    # precision stores it as 0.04999, and gains reach 4.
    # Colors of the back are left as they are, and those of skin at the rim nearly so; unseen hair takes that of its surroundings.
    well = torch.stack([start.trust.sum(0) for start in starts]).amin(0) > prior.config.limit.skin_trust
    front = (prior.atlas.forward > 0.3) & well & ~prior.atlas.scalp
    assert front.sum() > 200
    made = avatar.base + avatar.gains * avatar.rectification
    torch.testing.assert_close(made[front], (lifted + 0.05 * avatar.gains)[front], rtol=0, atol=1e-4)
    # Training holds to the Gaussians that all frames lift, in the network's colors.
    kept, color = init_avatar(sequence, replace(config, init="lifted")).base, CHANNELS["color"].start
    assert torch.equal(avatar.base[:, :color], kept[:, :color])
    # Unseen hair is held to the color of its surroundings, and begins with the network's.
    assert avatar.rectification[~avatar.scalp, color:].abs().max() < 1e-6
    with pytest.raises(ConfigError, match="64 texels a side"):
        init_avatar(sequence, replace(config, avatar=replace(config.avatar, uv_size=96)))


@pytest.mark.parametrize(
    ("change", "expected"), [({}, "prior"), ({"uv_size": 128}, "lifted"), ({"axes": "head"}, "lifted")], ids=["default", "size", "axes"]
)
def test_the_network_starts_what_it_was_trained_for(change, expected) -> None:
    head, config = load_head("anny"), GaussianTrainConfig()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), replace(config.avatar, **change))
    assert choose_init(avatar, config) == expected
    assert choose_init(avatar, replace(config, init="gray")) == "gray"
    assert choose_init(avatar, replace(config, prior="mine.safetensors")) == "prior"


def test_training_lowers_the_loss_and_beats_the_mean_image(tracked, small_recipe, tmp_path) -> None:
    started = init_avatar(tracked.train_part(), small_recipe.gaussian)
    avatar = run_training(tracked, small_recipe.gaussian, tmp_path / "run")
    loss = curve(tmp_path / "run", "loss/total")
    assert len(loss) == 28
    assert sum(loss[12:16]) < 0.8 * sum(loss[:4])  # within the first phase
    assert sum(loss[-4:]) < 0.6 * sum(loss[:4])
    assert score(avatar, tracked) > max(mean_image_psnr(tracked) + 4, score(started, tracked) + 1)
    assert not avatar.training  # noise on the code is over
    snapshot = load_avatar(tmp_path / "run" / "global_only.safetensors")
    assert snapshot.blendmaps.abs().max() == 0
    assert not torch.equal(snapshot.rectification, avatar.rectification)


def test_the_same_recipe_gives_the_same_avatar(tracked, small_recipe, tmp_path) -> None:
    config = replace(small_recipe.gaussian, code_noise=0.2)
    first = run_training(tracked, config, tmp_path / "first")
    assert equal(first, run_training(tracked, config, tmp_path / "second"))
    assert not equal(first, run_training(tracked, replace(config, seed=1), tmp_path / "third"))


def test_watched_frames_are_scored_and_teach_nothing(tracked, small_recipe, tmp_path) -> None:
    """Whatever the watched frames' pose, the avatar gets the same bits; only their own score changes."""
    config = replace(small_recipe.gaussian, validation=ValidationConfig(share=0.2))
    part = tracked.train_part()
    first, count = (len(part) - round(0.2 * len(part))) // 2, round(0.2 * len(part))
    moved = part.params.world_from_head.clone()
    moved[first : first + count, 0, 3] += 0.02
    runs = {"true": part, "moved": replace(part, params=replace(part.params, world_from_head=moved))}
    avatars = {name: init_avatar(part, config) for name in runs}
    for name, sequence in runs.items():
        train_gaussian(avatars[name], sequence, config, tmp_path / name, device=CPU, resume=False)
    assert equal(avatars["true"], avatars["moved"])
    scores, wrong = (curve(tmp_path / name, "validation/psnr") for name in runs)
    assert len(scores) == 5  # every seventh of 28 steps, and after the first phase's 16
    assert scores[-1] > wrong[-1] + 2  # two centimeters aside


@pytest.mark.parametrize("renders", [0, 5, 14, 19, 27])
def test_an_interrupted_run_continues_exactly(tracked, small_recipe, tmp_path, renders) -> None:
    """Wherever Ctrl-C falls, in either phase and between checkpoints, the resumed run ends with the same bits."""
    config = replace(small_recipe.gaussian, code_noise=0.2)
    whole = run_training(tracked, config, tmp_path / "whole")
    avatar = init_avatar(tracked.train_part(), config)
    interrupt_after(avatar, renders)
    with pytest.raises(KeyboardInterrupt):
        train_gaussian(avatar, tracked.train_part(), config, tmp_path / "cut", device=CPU, resume=False)
    assert len(curve(tmp_path / "cut", "loss/total")) < 28
    torch.manual_seed(99)
    resumed = init_avatar(tracked.train_part(), config)
    train_gaussian(resumed, tracked.train_part(), config, tmp_path / "cut", device=CPU, resume=True)
    assert equal(resumed, whole)
    assert curve(tmp_path / "cut", "loss/total") == curve(tmp_path / "whole", "loss/total")
    ours, theirs = (load_avatar(tmp_path / run / "global_only.safetensors") for run in ("cut", "whole"))
    assert equal(ours, theirs)


def test_an_avatar_learns_to_read_at_the_end_and_keeps_it_in_its_file(tracked, small_recipe, tmp_path) -> None:
    """With none asked for, all else has the same bits, and files without a reader load as ever."""
    config = small_recipe.gaussian
    reads = run_training(tracked, config, tmp_path / "reads")
    plain = run_training(tracked, replace(config, reader=ReaderConfig(frames=0)), tmp_path / "plain")
    assert reads.reader.weight.abs().max() > 0
    assert plain.reader is None
    assert equal(plain, reads)
    for avatar in (reads, plain):
        save_avatar(avatar, tmp_path / "avatar.safetensors", {})
        loaded = load_avatar(tmp_path / "avatar.safetensors")
        assert loaded.state_dict().keys() == avatar.state_dict().keys()
        assert equal(loaded, avatar)


def test_ctrl_c_during_an_update_is_not_lost_and_not_counted_twice(tracked, small_recipe, tmp_path) -> None:
    config = small_recipe.gaussian
    whole = run_training(tracked, config, tmp_path / "whole")
    avatar, updates = init_avatar(tracked.train_part(), config), iter(range(20))

    def press(*_: object) -> None:
        if next(updates, None) is None:
            signal.raise_signal(signal.SIGINT)

    handle = register_optimizer_step_post_hook(press)
    try:
        with pytest.raises(KeyboardInterrupt):
            train_gaussian(avatar, tracked.train_part(), config, tmp_path / "cut", device=CPU, resume=False)
    finally:
        handle.remove()
    resumed = init_avatar(tracked.train_part(), config)
    train_gaussian(resumed, tracked.train_part(), config, tmp_path / "cut", device=CPU, resume=True)
    assert equal(resumed, whole)


def test_an_interrupt_at_the_end_of_a_phase_keeps_the_global_snapshot(tracked, small_recipe, tmp_path) -> None:
    config = small_recipe.gaussian
    last = config.phases[0].steps

    def press(step: int) -> None:
        if step == last:
            raise KeyboardInterrupt

    avatar = init_avatar(tracked.train_part(), config)
    with pytest.raises(KeyboardInterrupt):
        train_gaussian(avatar, tracked.train_part(), config, tmp_path / "run", device=CPU, resume=False, on_step=press)
    assert not (tmp_path / "run" / "global_only.safetensors").exists()
    resumed = init_avatar(tracked.train_part(), config)
    train_gaussian(resumed, tracked.train_part(), config, tmp_path / "run", device=CPU, resume=True)
    assert (tmp_path / "run" / "global_only.safetensors").exists()


def test_the_global_phase_leaves_blendmaps_alone(tracked, small_recipe, tmp_path) -> None:
    config = replace(small_recipe.gaussian, phases=small_recipe.gaussian.phases[:1])
    avatar = run_training(tracked, config, tmp_path)
    assert avatar.blendmaps.abs().max() == 0
    assert torch.equal(avatar.code.mix, torch.eye(4))
    assert avatar.rectification.abs().max() > 0


def test_without_blendmaps_the_global_map_is_trained_in_every_phase(tracked, small_recipe, tmp_path) -> None:
    config = small_recipe.gaussian
    config = replace(config, avatar=replace(config.avatar, blendmaps=0))
    avatar = run_training(tracked, config, tmp_path)
    assert avatar.blendmaps.numel() == 0
    assert score(avatar, tracked) > mean_image_psnr(tracked)


@pytest.mark.parametrize("name", ["expression", "world_from_head"])
def test_a_broken_frame_stops_the_run_and_is_named(tracked, small_recipe, tmp_path, name) -> None:
    avatar = init_avatar(tracked.train_part(), small_recipe.gaussian)
    values = getattr(tracked.params, name).clone()
    values[4] = torch.nan
    broken = replace(tracked, params=replace(tracked.params, **{name: values}))
    with pytest.raises(DivergedError, match=rf"frames' {name}.* not finite at step \d+ on frames \[.*\b4\b.*\]"):
        train_gaussian(avatar, broken.train_part(), small_recipe.gaussian, tmp_path, device=CPU, resume=False)


@pytest.mark.parametrize(
    ("rate", "message"),
    [(1e30, "Gaussians' scales .* not finite"), (math.inf, "avatar's rectification, .* not finite")],
)
def test_a_diverging_run_says_what_broke_and_keeps_no_broken_checkpoint(tracked, small_recipe, tmp_path, rate, message) -> None:
    phases = (GaussianPhase(steps=40, resolution=64, learning_rate=rate, perceptual_every=0),)
    wild = replace(small_recipe.gaussian, phases=phases, picture_every=1000)
    avatar = init_avatar(tracked.train_part(), wild)
    with pytest.raises(DivergedError, match=rf"{message}.* at step \d+ on frames \[\d+\]\. Lower the learning rate"):
        train_gaussian(avatar, tracked.train_part(), wild, tmp_path, device=CPU, resume=False)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_term_that_is_not_finite_is_named() -> None:
    terms = {"huber": 0.1, "dssim": math.nan, "alpha": 0.2}
    with pytest.raises(DivergedError, match=r"The term 'dssim' became nan at step 7 on frames \[3, 5\]"):
        refuse_divergence(terms, torch.tensor([3, 5]), 7)


@needs_perceptual
def test_personalize_fills_the_run_folder(tracked, small_recipe, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    personalize(tracked.folder, out, small_recipe, resume=False, overwrite=False)
    names = {path.name for path in out.iterdir() if not path.name.startswith("events")}
    assert names == {
        *("avatar.safetensors", "global_only.safetensors", "checkpoint.pt", "config.yaml", "run.json", "preview.png"),
        *("metrics.json", "metrics.jsonl", "compare.png", "report.html", "turntable.mp4"),
    }
    assert any(path.name.startswith("events") for path in out.iterdir())
    assert unlisted(out) == set()
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics) == set(
        "video frames resolution device path parameters gaussians seconds stages speed peak_mb config commit".split()
        + "test fitted baselines intervals frames_scored frames_held_out".split()
    )
    assert (metrics["video"], metrics["frames"], metrics["resolution"]) == ("toy.mp4", 15, 96)
    assert set(metrics["seconds"]) == {"track", "personalize", "avatar", "total"}
    assert sum(metrics["stages"].values()) == pytest.approx(metrics["seconds"]["total"], abs=0.11), "no moment is left out"
    assert list(metrics["stages"])[-3:] == ["measure machine", "evaluate", "show"]
    assert set(metrics["test"]) == set(metrics["fitted"]) == {"psnr", "ssim", "st_lpips", "l1", "regions"}
    assert set(metrics["baselines"]) == {"mean_image", "nearest_frame", "global_only"}
    assert all(set(row) == set(metrics["test"]) for row in metrics["baselines"].values())
    avatar = load_avatar(out / "avatar.safetensors")
    assert metrics["gaussians"] == avatar.num_gaussians
    assert metrics["test"]["psnr"] == pytest.approx(score(avatar, tracked), abs=0.01)
    assert metrics["baselines"]["mean_image"]["psnr"] == pytest.approx(mean_image_psnr(tracked), abs=0.01)
    assert metrics["test"]["psnr"] > metrics["baselines"]["mean_image"]["psnr"] + 4
    assert "compare.png" in capsys.readouterr().out

    # The folder is taken: nothing is touched unless the user says what is meant.
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(OutputError, match=r"holds a run of `[a-z]+` already.*--resume .* --overwrite"):
        personalize(tracked.folder, out, small_recipe, resume=False, overwrite=False)
    with pytest.raises(OutputError, match="exclude each other"):
        personalize(tracked.folder, out, small_recipe, resume=True, overwrite=True)
    other = replace(small_recipe, gaussian=replace(small_recipe.gaussian, seed=5))
    with pytest.raises(ConfigError, match=r"another recipe. Add --config .*config.yaml"):
        personalize(tracked.folder, out, other, resume=True, overwrite=False)
    assert {path: path.read_bytes() for path in out.iterdir()} == before

    # A finished run may be resumed: nothing is left to train, its scores are measured again, and what it took is not forgotten.
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(record | {"track_seconds": "100.0"}))
    personalize(tracked.folder, out, small_recipe, resume=True, overwrite=False)
    again = json.loads((out / "metrics.json").read_text())
    assert again["test"] == metrics["test"]
    assert again["seconds"]["track"] >= 100
    assert again["seconds"]["personalize"] >= metrics["seconds"]["personalize"] > 0.5
    spent = again["seconds"]["track"] + again["seconds"]["personalize"]
    assert spent - 0.02 < again["seconds"]["avatar"] < again["seconds"]["total"]  # each is rounded to a hundredth
    assert again["seconds"]["total"] > 100 + metrics["seconds"]["personalize"], "all attempts count"
    assert equal(load_avatar(out / "avatar.safetensors"), avatar)

    personalize(tracked.folder, out, other, resume=False, overwrite=True)
    assert not equal(load_avatar(out / "avatar.safetensors"), avatar)
    TrackedSequence.load(tracked.folder).frame(0)  # --overwrite is for the run, not for what it learned from


def test_overwriting_the_tracked_folder_itself_is_refused(tracked, small_recipe: Recipe) -> None:
    with pytest.raises(OutputError, match="holds a run of `track`, which `personalize` does not replace"):
        personalize(tracked.folder, tracked.folder, small_recipe, resume=False, overwrite=True)
    TrackedSequence.load(tracked.folder).frame(0)
