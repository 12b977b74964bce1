"""The generalize stage for radiance fields on a toy: it learns, resumes exactly, makes people of photos, and gives personalize a start."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deja_vu.avatars import NerfAvatar, NerfConfig, load_avatar
from deja_vu.avatars.nerf.prior import build_field_prior, load_field_prior, save_field_prior
from deja_vu.core.errors import ConfigError, FormatError, InputError
from deja_vu.core.portrait import Portrait
from deja_vu.datasets.config import PriorSamplerConfig
from deja_vu.datasets.shards import Sample, ShardInfo, begin_shards, write_shard
from deja_vu.heads import load_head
from deja_vu.pipelines.configs import GeneralizeConfig, PrepareConfig, ReconstructConfig
from deja_vu.pipelines.evaluate_prior import evaluate_prior
from deja_vu.pipelines.generalize import generalize
from deja_vu.pipelines.person import load, load_pair
from deja_vu.pipelines.personalize import personalize
from deja_vu.pipelines.recipes import named_stage, shipped_recipe
from deja_vu.pipelines.reconstruct import reconstruct
from deja_vu.tracking.config import PhotoConfig
from deja_vu.training import trainer
from deja_vu.training.config import ImageLossWeights
from deja_vu.training.nerf_config import NerfPhase, NerfTrainConfig
from tests.pipelines.conftest import unlisted

SMALL = NerfConfig(
    planes="encoded",
    plane_size=16,
    plane_channels=4,
    encoder_size=32,
    encoder_width=0.05,
    sources=1,
    point_features=4,
    nearest=3,
    code=0,
    width=16,
    view_octaves=1,
    features=6,
    coarse=4,
    fine=4,
    upscale_width=8,
    upscale_depth=1,
)
RECIPE = GeneralizeConfig(
    path="nerf",
    prepare=PrepareConfig(head="toy"),
    people=PriorSamplerConfig(synthetic_share=0.0),
    watched_share=0.0,
    grid_people=1,
    nerf=NerfTrainConfig(
        avatar=SMALL,
        loss=ImageLossWeights(perceptual=0.0),
        phases=(
            NerfPhase(steps=4, resolution=48, learning_rate=5e-3, batch=2, enlarge=False, perceptual_every=0),
            NerfPhase(steps=6, resolution=48, learning_rate=5e-3, batch=2, perceptual_every=0),
        ),
        log_every=1,
        picture_every=5,
    ),
)
FACES = Path(__file__).parents[1] / "data" / "faces"
QUICK = {"photo": PhotoConfig(resolution=256), "turntable_frames": 3, "turntable_side": 64}


@pytest.fixture(scope="module")
def shards(film, tmp_path_factory) -> Path:
    """Portraits from a film of the painted head: two people to train on and one held out, by name only."""
    folder, sequence = tmp_path_factory.mktemp("shards"), film(tmp_path_factory.mktemp("film"), 9)
    begin_shards(folder, ShardInfo("toy", 96, tuple("abcdefghi"), 9))
    samples = []
    for place in range(9):
        name = "held" if place >= 6 else f"p{place // 3}"
        portrait = Portrait(f"k{place}", name, sequence.frame(place), sequence.params[place : place + 1], sequence.camera)
        samples.append(Sample(portrait, "film", "test" if name == "held" else "train"))
    write_shard(folder, 0, samples, {})
    return folder


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    generalize([shards], run, RECIPE, resume=False, overwrite=False)
    return run


def curve(run: Path) -> list[tuple[int, float]]:
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(entry["step"], entry["loss/total"]) for entry in entries if "loss/total" in entry]


def test_a_run_leaves_weights_curves_and_scores_of_people_held_out(trained):
    assert unlisted(trained) == set()
    prior = load_field_prior(trained / "prior.safetensors")
    assert prior.config == SMALL
    rows = {(row["set"], row["task"], row["method"]) for row in json.loads((trained / "metrics.json").read_text())["test"]}
    assert {("film", "other", "network"), ("film", "input", "lifted")} <= rows
    losses = curve(trained)
    assert [step for step, _ in losses] == list(range(1, 11))
    entries = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "validation/psnr" in entry] == [4, 5, 10]
    assert {"loss/fine", "lr/planes", "lr/slow", "metric/psnr", "time/images_per_s"} <= entries[0].keys() | entries[1].keys()


def test_an_interrupted_run_goes_on_exactly(shards, trained, tmp_path, monkeypatch):
    run, whole = tmp_path / "cut", trainer.refuse_divergence

    def press(terms, positions, step: int) -> None:
        whole(terms, positions, step)
        if step == 6:
            monkeypatch.setattr(trainer, "refuse_divergence", whole)
            os.kill(os.getpid(), 2)

    monkeypatch.setattr(trainer, "refuse_divergence", press)
    with pytest.raises(KeyboardInterrupt):
        generalize([shards], run, RECIPE, resume=False, overwrite=False)
    generalize([shards], run, RECIPE, resume=True, overwrite=False)
    expected, found = (load_field_prior(folder / "prior.safetensors").state_dict() for folder in (trained, run))
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert curve(run) == curve(trained)


def test_tracked_folders_are_trained_on_directly(film, tmp_path):
    for name in "ab":
        film(tmp_path / name, 5)
    prepare = replace(RECIPE.prepare, clip_frames=4, photo=PhotoConfig(resolution=96), test_share=0.0)
    once = replace(RECIPE, prepare=prepare, nerf=replace(RECIPE.nerf, phases=(replace(RECIPE.nerf.phases[1], steps=1),)))
    generalize([tmp_path / "a", tmp_path / "b"], tmp_path / "run", once, resume=False, overwrite=False)
    assert load_field_prior(tmp_path / "run" / "prior.safetensors").head.spec.name == "toy"


def test_personalize_starts_from_what_the_field_makes_of_frames(trained, film, tmp_path):
    film(tmp_path / "clip", 10)
    recipe = shipped_recipe("tiny")
    phase = NerfPhase(steps=1, resolution=48, learning_rate=1e-9, perceptual_every=0)
    nerf = replace(recipe.nerf, prior=str(trained / "prior.safetensors"), phases=(phase,), avatar=replace(recipe.nerf.avatar, sources=3))
    personalize(tmp_path / "clip", tmp_path / "run", replace(recipe, path="nerf", nerf=nerf), resume=False, overwrite=False)
    avatar = load_avatar(tmp_path / "run" / "avatar.safetensors")
    prior = load_field_prior(trained / "prior.safetensors")
    assert isinstance(avatar, NerfAvatar)
    assert avatar.config == replace(SMALL, planes="free")
    torch.testing.assert_close(avatar.field.trunk[0].weight, prior.field.trunk[0].weight)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(record["prior_sha256"]) == 64
    wrong = replace(recipe, path="gaussian", gaussian=replace(recipe.gaussian, prior=nerf.prior))
    with pytest.raises(ConfigError, match="makes avatars of kind 'nerf', not 'gaussian'"):
        personalize(tmp_path / "clip", tmp_path / "other", wrong, resume=False, overwrite=False)


def test_photos_become_an_avatar_without_training(tmp_path, capsys):
    """A field with random weights makes an ugly person, but one that every command reads."""
    pytest.importorskip("ai_edge_litert")
    torch.manual_seed(0)
    save_field_prior(build_field_prior(load_head("anny"), SMALL), tmp_path / "prior.safetensors", {"commit": "of the test"})
    config = ReconstructConfig(path="nerf", prior=str(tmp_path / "prior.safetensors"), likeness=0.0, **QUICK)
    woman = FACES / "female_00.jpg"
    reconstruct([woman, FACES / "male_49.jpg"], tmp_path / "run", config, overwrite=False)
    assert unlisted(tmp_path / "run") == set()
    avatar, video = load_pair(tmp_path / "run")
    assert isinstance(avatar, NerfAvatar)
    assert (avatar.config.planes, len(video)) == ("free", 1)
    assert not any(name.startswith("planes.encoder") for name in avatar.state_dict()), "the encoder has done its work"
    assert load(tmp_path / "run").render({"jawOpen": 0.5}, yaw=10.0, size=32).size == (32, 32)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["prior_commit"] == "of the test"
    assert "the first of 2 photos" in capsys.readouterr().out


def test_refusals(shards, trained, tmp_path):
    with pytest.raises(ConfigError, match="--path nerf needs a network"):
        reconstruct([FACES / "female_00.jpg"], tmp_path / "out", ReconstructConfig(path="nerf"), overwrite=False)
    network = str(trained / "prior.safetensors")
    with pytest.raises(ConfigError, match="Add --path nerf"):
        reconstruct([FACES / "female_00.jpg"], tmp_path / "out", ReconstructConfig(prior=network), overwrite=False)
    with pytest.raises(InputError, match="There is no file"):
        reconstruct([FACES / "female_00.jpg"], tmp_path / "out", ReconstructConfig(path="nerf", prior="none.safetensors"), overwrite=False)
    free = replace(RECIPE, nerf=replace(RECIPE.nerf, avatar=NerfConfig()))
    with pytest.raises(ConfigError, match="needs an encoder"):
        generalize([shards], tmp_path / "out", free, resume=False, overwrite=False)
    assert not (tmp_path / "out").exists()
    content = bytearray(Path(network).read_bytes())
    content[-5] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match="its tensors are not those"):
        load_field_prior(tmp_path / "damaged.safetensors")


def test_fields_are_scored_beside_gaussians_on_clips(trained, film, tmp_path):
    film(tmp_path / "clip", 6)
    evaluate_prior([], [tmp_path / "clip"], tmp_path / "scores.json", [trained / "prior.safetensors"], frames=6, counts=(1, 3))
    rows = json.loads((tmp_path / "scores.json").read_text())["scores"]
    ways = {"lifted, 1 photo", "lifted, 3 photos", "whole, 1 photo", "whole, 3 photos", "mean image"}
    assert {row["method"] for row in rows} == ways
    assert {row["frames"] for row in rows} == {3}, "the same frames for all, none of those that a head was made from"


def test_the_published_field_is_a_recipe_of_the_stage():
    full, published = named_stage("full"), shipped_recipe("gpavatar")
    assert full.path == "nerf"
    assert full.nerf == published.nerf
    assert not full.people.synthetic_share
