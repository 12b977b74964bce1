"""The generalize stage on a toy: it learns, resumes exactly, and two processes do what one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.avatars import GaussianAvatar
from deja_vu.avatars.prior.config import PriorConfig
from deja_vu.avatars.prior.network import load_prior
from deja_vu.core.config import config_text
from deja_vu.core.errors import ConfigError, InputError, OutputError
from deja_vu.core.portrait import Portrait
from deja_vu.datasets.shards import Sample, ShardInfo, ShardSet, begin_shards, write_shard
from deja_vu.heads import load_head
from deja_vu.io.files import write_atomic
from deja_vu.nets.config import UVNetConfig
from deja_vu.pipelines.configs import GeneralizeConfig, PrepareConfig, SetRule
from deja_vu.pipelines.evaluate_prior import evaluate_prior
from deja_vu.pipelines.generalize import generalize
from deja_vu.pipelines.prepare import find_sources, identify, prepare
from deja_vu.pipelines.run_folder import open_run
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.training.config import ImageLossWeights
from deja_vu.training.ema import AveragedModel
from deja_vu.training.prior_config import PriorPhase
from tests.pipelines.conftest import unlisted

TINY = PriorConfig(head="toy", uv_size=64, network=UVNetConfig(widths=(8, 16), code=8, code_widths=(8, 8)), picture=32)
RECIPE = GeneralizeConfig(
    prior=TINY,
    prepare=PrepareConfig(head="toy"),
    loss=ImageLossWeights(perceptual=0.0),
    phases=(
        PriorPhase(steps=4, resolution=48, learning_rate=2e-3, perceptual_every=0),
        PriorPhase(steps=6, resolution=96, learning_rate=2e-3),
    ),
    batch=2,
    photo_counts=(0.5, 0.5),
    log_every=1,
    picture_every=5,
    grid_people=1,
)


@pytest.fixture(scope="module")
def shards(film, painted: GaussianAvatar, tmp_path_factory) -> Path:
    """Portraits from a film of the painted head: three people to train on and one held out, by name only."""
    film_folder, folder = tmp_path_factory.mktemp("film"), tmp_path_factory.mktemp("shards")
    sequence = film(film_folder, 8)
    begin_shards(folder, ShardInfo("toy", 96, tuple("abcdefgh"), 8))
    samples = []
    for place in range(8):
        name = "held" if place >= 6 else f"p{place // 2}"
        portrait = Portrait(f"k{place}", name, sequence.frame(place), sequence.params[place : place + 1], sequence.camera)
        samples.append(Sample(portrait, "film", "test" if name == "held" else "train"))
    write_shard(folder, 0, samples, {})
    return folder


def losses(run: Path) -> list[dict[str, float]]:
    """What was logged of the steps, not of held-out people."""
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [entry for entry in entries if "loss/total" in entry]


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    generalize([shards], run, RECIPE, resume=False, overwrite=False)
    return run


def test_a_run_leaves_weights_curves_and_a_table(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert unlisted(trained) == set()
    prior = load_prior(trained / "prior.safetensors")
    assert prior.config == TINY
    metrics = json.loads((trained / "metrics.json").read_text())
    rows = {(row["set"], row["task"], row["method"]): row for row in metrics["test"]}
    assert rows["film", "input", "network"]["frames"] == 2
    assert ("all", "other", "lifted") in rows
    curves = losses(trained)
    assert [entry["step"] for entry in curves] == list(range(1, 11))
    assert {"loss/huber", "loss/position", "lr/network", "time/it_per_s", "time/images_per_s"} <= curves[0].keys()
    watched = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in watched if "validation/psnr" in entry] == [4, 5, 10], (
        "every fifth step, and after the first phase's four"
    )
    board = EventAccumulator(str(trained))
    board.Reload()
    assert {"validation/target_render_error", "validation/photo_lifted_prior_looks"} <= set(board.Tags()["images"])
    assert {"config/text_summary", "commit/text_summary"} <= set(board.Tags()["tensors"])


def test_an_interrupted_run_goes_on_exactly(shards, trained, tmp_path, monkeypatch):
    run = tmp_path / "cut"
    whole = AveragedModel.follow

    def press(self: AveragedModel, model: torch.nn.Module) -> None:
        whole(self, model)
        if self.steps == 5:
            monkeypatch.setattr(AveragedModel, "follow", whole)
            os.kill(os.getpid(), 2)

    monkeypatch.setattr(AveragedModel, "follow", press)
    with pytest.raises(KeyboardInterrupt):
        generalize([shards], run, RECIPE, resume=False, overwrite=False)
    generalize([shards], run, RECIPE, resume=True, overwrite=False)
    expected, found = (load_prior(folder / "prior.safetensors").state_dict() for folder in (trained, run))
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    curves = [[(entry["step"], entry["loss/total"]) for entry in losses(folder)] for folder in (trained, run)]
    assert curves[0] == curves[1]


def test_two_processes_do_what_one_does_with_twice_the_batch(shards, trained, tmp_path):
    config = tmp_path / "recipe.yaml"
    write_atomic(config, config_text(RECIPE))
    call = [*("--nproc_per_node=2", "--standalone", "-m", "deja_vu.pipelines.entry", "generalize")]
    call += ["--data", str(shards), "--out", str(tmp_path / "two"), "--config", str(config)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *call], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone, together = losses(trained), losses(tmp_path / "two")
    for name in ("loss/huber", "loss/alpha", "loss/position", "metric/psnr"):
        # Means of two halves in float32, and what ten steps of Adam make of their rounding.
        np.testing.assert_allclose([e[name] for e in together], [e[name] for e in alone], rtol=2e-3, atol=1e-6, err_msg=name)


def test_networks_are_compared_on_photos_and_clips(shards, trained, film, tmp_path):
    film(tmp_path / "clip", 6)
    text = evaluate_prior([shards], [tmp_path / "clip"], tmp_path / "scores.json", [trained / "prior.safetensors"], frames=3)
    rows = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert {(row["set"], row["task"]) for row in rows} == {
        *(("all", "input"), ("all", "other"), ("film", "input"), ("film", "other")),
        *(("all clips", "rest"), ("clip", "rest")),
    }
    assert {row["method"] for row in rows if row["task"] != "rest"} == {"lifted", "whole"}
    assert len(text.splitlines()) == 2 + len(rows)
    film(tmp_path / "b" / "clip", 6)
    shutil.copytree(trained, tmp_path / "other" / "whole")
    networks = [trained / "prior.safetensors", tmp_path / "other" / "whole" / "prior.safetensors"]
    evaluate_prior([], [tmp_path / "clip", tmp_path / "b" / "clip"], tmp_path / "alike.json", networks, frames=2)
    figures = json.loads((tmp_path / "alike.json").read_text())
    assert len(figures["parameters"]) == 2
    assert len({row["set"] for row in figures["scores"]} - {"all clips"}) == 2
    assert len({row["method"] for row in figures["scores"]}) == 4, "two networks, lifting and the mean image"
    with pytest.raises(InputError, match="Nothing to measure on"):
        evaluate_prior([], [], tmp_path / "none.json", [trained / "prior.safetensors"])


def test_refusals(shards, tmp_path):
    started, empty = tmp_path / "started", tmp_path / "empty"
    empty.mkdir()
    with open_run(started, "generalize") as run:
        run.note()
        write_atomic(started / "config.yaml", config_text(RECIPE))
    with pytest.raises(ConfigError, match="another recipe"):
        generalize([shards], started, replace(RECIPE, batch=4), resume=True, overwrite=False)
    with pytest.raises(OutputError, match="holds a run of `prepare`"):
        generalize([shards], shards, RECIPE, resume=False, overwrite=False)
    with pytest.raises(InputError, match="no photo was found"):
        generalize([empty], tmp_path / "run", RECIPE, resume=False, overwrite=False)
    with pytest.raises(InputError, match="of head 'toy'"):
        generalize([shards], tmp_path / "other", replace(RECIPE, prior=replace(TINY, head="anny")), resume=False, overwrite=False)


class TestPrepare:
    def test_people_stay_on_one_side(self):
        config = PrepareConfig(sets=(SetRule(r"(neutral|smiling)/(\d+)_.*", r"set/\2", r"set/9\d*"),))
        assert identify("neutral/012_03.jpg", config) == identify("smiling/012_08.jpg", config) == ("set/012", "train")
        assert identify("neutral/912_03.jpg", config)[1] == "test"
        share = sum(identify(f"any/{k}.jpg", config)[1] == "test" for k in range(500)) / 500
        assert 0.06 < share < 0.14
        with pytest.raises(ConfigError, match="not a regular expression"):
            identify("x", PrepareConfig(sets=(SetRule("("),)))

    def test_no_photo_and_no_clip_is_lost_where_names_are_alike(self, film, tmp_path):
        """Two folders of photos with one file name, and two tracked folders that are both called track."""
        for folder in ("a", "b"):
            (tmp_path / "photos" / folder).mkdir(parents=True)
            (tmp_path / "photos" / folder / "1_me.jpg").touch()
            film(tmp_path / folder / "track", 6)
        data = [tmp_path / "photos" / "a", tmp_path / "photos" / "b", tmp_path / "a" / "track", tmp_path / "b" / "track"]
        photos, clips = find_sources(data)
        assert [photo.path for photo in photos.values()] == [data[0] / "1_me.jpg", data[1] / "1_me.jpg"]
        assert {photo.below for photo in photos.values()} == {"1_me.jpg"}
        assert clips == {"clip:a-track": data[2], "clip:b-track": data[3]}
        config = PrepareConfig(head="toy", clip_frames=3, photo=replace(PrepareConfig().photo, resolution=96))
        shards = prepare(data[2:], tmp_path / "out", config)
        assert len(shards.entries) == 6
        assert {entry.identity for entry in shards.entries} == {"clip/a-track", "clip/b-track"}

    def test_rules_see_the_path_below_the_data_folder(self):
        config = PrepareConfig(sets=(SetRule(r"(\d+)_.*", r"person \1"),))
        assert identify("a/1_me.jpg", config, "1_me.jpg")[0] == identify("b/1_me.jpg", config, "1_me.jpg")[0] == "person 1"
        assert identify("a/me.jpg", config, "me.jpg")[0] == "a/me.jpg"

    def test_clips_and_made_up_people(self, film, tmp_path):
        film(tmp_path / "clip", 6)
        config = PrepareConfig(head="toy", clip_frames=3, photo=replace(PrepareConfig().photo, resolution=96))
        shards = prepare([tmp_path / "clip"], tmp_path / "out", config)
        assert [entry.key for entry in shards.entries] == ["clip-clip-000000", "clip-clip-000002", "clip-clip-000005"]
        assert len({entry.identity for entry in shards.entries}) == 1
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
        with pytest.raises(OutputError, match=r"holds a run of `prepare` already. Add --resume to continue it, --overwrite"):
            prepare([tmp_path / "clip"], tmp_path / "out", config)
        prepare([tmp_path / "clip"], tmp_path / "out", config, resume=True)
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")} == before, "what is done is kept"
        shards = prepare([tmp_path / "clip"], tmp_path / "out", replace(config, clip_frames=2), overwrite=True)
        assert len(shards.entries) == 2, "another recipe replaces it, as the user says so"
        assert shards.read(1).identity == shards.entries[1].identity
        assert {entry.key for entry in ShardSet([tmp_path / "out"]).entries} == {"clip-clip-000000", "clip-clip-000005"}

    def test_names_longer_than_an_archive_takes_are_cut_and_stay_apart(self, film, tmp_path):
        """A tar file takes a hundred letters, a file system 255."""
        data = [tmp_path / ("n" * 200 + end) for end in ("", "\n", "\n\u9854")]
        for folder in data:
            film(folder, 6)
        config = PrepareConfig(head="toy", clip_frames=1, photo=replace(PrepareConfig().photo, resolution=96))
        keys = {entry.key for entry in prepare(data, tmp_path / "out", config).entries}
        assert len(keys) == 3
        assert all(len(key) < 100 and key.isascii() for key in keys)

    def test_where_nothing_can_be_used_the_reason_is_told_and_nothing_left(self, film, tmp_path):
        film(tmp_path / "clip", 6)
        config = PrepareConfig(head="toy", clip_frames=1, photo=replace(PrepareConfig().photo, resolution=128))
        with pytest.raises(InputError, match=r"None of 1 could be prepared. The first: .* at 96 pixels; expected 'toy' at 128"):
            prepare([tmp_path / "clip"], tmp_path / "out", config)
        assert not (tmp_path / "out").exists()

    def test_made_up_people_are_cropped_as_photos_are_and_fitted_exactly(self, tmp_path):
        config = PrepareConfig(made_up=1, made_up_frames=2, photo=replace(PrepareConfig().photo, resolution=192))
        shards = prepare([], tmp_path / "out", config)
        assert [entry.key for entry in shards.entries] == ["synthetic-0001-000", "synthetic-0001-149"]
        assert len(shards.people) == 1
        for number in range(2):
            portrait = shards.read(number)
            face = rasterize_mesh(load_head("anny")(portrait.params), load_head("anny").topology.faces, portrait.camera).face_id[0] >= 0
            face = face.numpy() & (portrait.frame.head.numpy() > 128)
            rows, columns = np.nonzero(portrait.frame.head.numpy() > 128)
            assert 0.5 < np.ptp(rows) / 192 < 0.95
            assert np.ptp(columns) < 192
            assert portrait.frame.foreground.numpy()[face].mean() > 250, "the true fit lies on the person"

    def test_photos_and_what_is_refused(self, tmp_path):
        pytest.importorskip("ai_edge_litert")
        faces = Path(__file__).parents[1] / "data" / "faces"
        folder = tmp_path / "photos" / "some"
        folder.mkdir(parents=True)
        (folder / "woman.jpg").write_bytes((faces / "female_00.jpg").read_bytes())
        (folder / "broken.jpg").write_bytes(b"no picture")
        (folder / os.fsdecode(b"w\xf6man.jpg")).write_bytes((faces / "female_00.jpg").read_bytes())  # as disks of other systems name it
        for name in ("film.mov", "list.txt", "._woman.jpg"):  # the last is what a Mac leaves beside a photo
            (folder / name).write_bytes(b"something else")
        shards = prepare([tmp_path / "photos"], tmp_path / "out", PrepareConfig(photo=replace(PrepareConfig().photo, resolution=128)))
        assert len(shards) == 2
        assert {entry.set_name for entry in shards.entries} == {"some"}
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert list(report["refused"]) == ["some/broken.jpg"]
        assert report["passed_over"] == {".mov": 1, ".txt": 1}
        assert isinstance(ShardSet([tmp_path / "out"]).read(0).params.shape, torch.Tensor)
