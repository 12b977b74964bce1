from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from deja_vu.avatars import load_avatar
from deja_vu.bench import cost
from deja_vu.bench.predictors import Predictor
from deja_vu.core.errors import InputError
from deja_vu.io.assets import find
from deja_vu.io.frames import FrameSource
from deja_vu.io.video import write_video
from deja_vu.pipelines.benchmark import benchmark, compare_paths, find_clips, video_predictor, video_predictors
from deja_vu.pipelines.benchmark_paths import benchmark_paths, in_own_process, refuse_short, refuse_stale
from deja_vu.pipelines.recipes import Recipe, shipped_recipe, sizes_name
from deja_vu.report.bench_report import write_bench_report
from deja_vu.training.nelf_config import NelfPhase
from deja_vu.training.nerf_config import NerfPhase
from tests.pipelines.conftest import unlisted

needs_perceptual = pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")


def stripes(index: int) -> np.ndarray:
    """A frame whose gray tells its index, 200 x 150, with a bright square where the crop is."""
    image = np.full((150, 200, 3), 4 * index, np.uint8)
    image[20:116, 10:106] = 60 + 4 * index
    return image


def test_a_clip_is_a_file_or_a_folder_with_renders_beside_it(tmp_path) -> None:
    (tmp_path / "alone.mp4").touch()
    (alone,) = find_clips([tmp_path / "alone.mp4"])
    assert (alone.name, alone.others) == ("alone", ())
    with pytest.raises(InputError, match=r"holds no gt.mp4"):
        find_clips([tmp_path])
    (tmp_path / "person").mkdir()
    for name in ("gt.mp4", "B.mp4", "A.mp4", "notes.txt"):
        (tmp_path / "person" / name).touch()
    (clip,) = find_clips([tmp_path / "person"])
    assert (clip.name, clip.video.name, [path.stem for path in clip.others]) == ("person", "gt.mp4", ["A", "B"])


def test_other_systems_are_shown_on_our_crop_at_the_same_frames(tracked, tmp_path) -> None:
    write_video(tmp_path / "Other.mp4", (stripes(index) for index in range(30)), 50, crf=1)
    method = video_predictor("Other", tmp_path / "Other.mp4", tracked)
    assert method.name == "Other"
    source = FrameSource(tracked.test_part(), 96)
    for position, index in enumerate((24, 26, 28)):
        image = method.predict(source.batch(torch.tensor([position])))
        assert image.shape == (96, 96, 3)
        inner = image[2:-2, 2:-2]  # the video's compression rings at the square's border
        torch.testing.assert_close(inner, torch.full_like(inner, (60 + 4 * index) / 255), rtol=0, atol=3 / 255)


def test_a_render_that_is_too_short_is_refused(tracked, tmp_path) -> None:
    write_video(tmp_path / "Short.mp4", (stripes(index) for index in range(27)), 50)
    with pytest.raises(InputError, match=r"Short.mp4 .* 28"):
        video_predictor("Short", tmp_path / "Short.mp4", tracked)


@needs_perceptual
def test_a_clip_that_fails_does_not_stop_the_others(film, small_recipe, tmp_path, capsys) -> None:
    """A finished run is scored again beside its rival; a clip without a video is named and left out."""
    from deja_vu.pipelines.personalize import personalize

    out, clip = tmp_path / "out", tmp_path / "person"
    tracked = film(tmp_path / "tracked")
    quick = replace(small_recipe.gaussian, phases=tuple(replace(phase, steps=2) for phase in small_recipe.gaussian.phases))
    recipe = replace(small_recipe, gaussian=quick)
    personalize(tracked.folder, out / "person", recipe, resume=False, overwrite=False)
    clip.mkdir()
    write_video(clip / "gt.mp4", (stripes(index) for index in range(30)), 50)
    write_video(clip / "Rival.mp4", (stripes(index) for index in range(30)), 50)
    table = benchmark([tmp_path / "missing.mp4", clip], out, recipe, reuse=True)
    assert unlisted(out) == set()
    assert "missing: There is no file" in capsys.readouterr().out
    assert table == (out / "table.md").read_text()
    assert len(table.splitlines()) == 3
    assert "Rival" in table.splitlines()[2]
    kept = json.loads((out / "person" / "metrics.json").read_text())
    assert set(kept["baselines"]) == {"mean_image", "nearest_frame", "global_only", "Rival"}
    assert kept["baselines"]["Rival"]["psnr"] < kept["test"]["psnr"]


def test_a_benchmark_of_nothing_but_failures_still_ends(small_recipe, tmp_path, capsys) -> None:
    table = benchmark([tmp_path / "missing.mp4"], tmp_path / "out", small_recipe, reuse=False)
    assert "missing" in capsys.readouterr().out
    assert len(table.splitlines()) == 2


def tiny_recipe(small_recipe: Recipe) -> Recipe:
    """Seconds for every path, and no perceptual term."""
    tiny = shipped_recipe("tiny")
    sizes = {"steps": 6, "resolution": 96, "learning_rate": 0.003, "perceptual_every": 0}
    short, short_nelf = NerfPhase(**sizes), NelfPhase(**sizes)
    nerf, nelf = replace(tiny.nerf, phases=(short,)), replace(tiny.nelf, phases=(short_nelf,))
    return replace(tiny, gaussian=small_recipe.gaussian, nerf=nerf, nelf=nelf)


@needs_perceptual
def test_paths_are_compared_on_one_clip(tracked, film, small_recipe, tmp_path, monkeypatch) -> None:
    recipe, out = tiny_recipe(small_recipe), tmp_path / "bench"
    driver = film(tmp_path / "driver").folder
    other = Predictor("Other", lambda batch: torch.full((96, 96, 3), 0.5))
    monkeypatch.setattr(cost, "SWEEP", (32, 64))
    common = {"others": [other], "drivers": [driver], "reuse": True, "isolate": False, "seconds": 0.05}
    benchmark_paths("clip", tracked.folder, ["gaussian", "nerf", "nelf"], out / "clip", recipe, **common)
    text = write_bench_report(out)
    found = {path.parent.name: json.loads(path.read_text()) for path in out.glob("clip/*/result.json")}
    assert set(found) == {"gaussian", "nerf", "nelf", "mean_image", "nearest_frame", "Other"}
    assert len({result["bundle_sha256"] for result in found.values()}) == 1
    for name in ("gaussian", "nerf", "nelf"):
        result = found[name]
        assert set(result["delta_vs"]) == {"mean_image", "nearest_frame"}
        assert result["train"]["seconds"] > 0
        assert result["flops"]["macs"] > 0 or name == "gaussian"
        assert result["size"]["params_deploy"] == sum(
            p.numel() for p in load_avatar(out / "clip" / name / "avatar.safetensors").parameters()
        )
        assert result["render"]["repeats_exactly"]
        assert result["quality"]["full"]["psnr"]["frames"] == 3
        assert result["quality"]["full"]["temporal"]["frames"] == 2
        assert f"| {name} |" in text
    assert found["nelf"]["train"]["teacher_seconds"] == pytest.approx(found["gaussian"]["train"]["seconds"])  # taught by it
    assert found["nelf"]["size"]["params_train"] > found["nelf"]["size"]["params_deploy"]
    assert found["nelf"]["delta_vs_teacher"]["psnr"] == pytest.approx(
        found["nelf"]["quality"]["full"]["psnr"]["mean"] - found["gaussian"]["quality"]["full"]["psnr"]["mean"], abs=1e-4
    )
    assert found["nerf"]["flops"]["field_samples"] > 0
    assert found["gaussian"]["flops"]["alpha_evals"] > 0
    assert set(found["nerf"]["render"]["sweep"]) == {"32", "64", "96"}
    assert found["nerf"]["sizes"] == "own"
    assert found["nerf"]["driven"]["frames"] == 15
    assert found["nerf"]["train"]["curve"][-1]["step"] == 6  # the finished avatar
    assert (out / "clip-driven.png").is_file()
    assert (out / "clip-sweep.png").is_file()
    assert unlisted(out / "clip") == set()
    before = {path: path.read_bytes() for path in out.glob("clip/*/result.json")}
    benchmark_paths("clip", tracked.folder, ["gaussian", "nerf", "nelf"], out / "clip", recipe, **common)
    assert {path: path.read_bytes() for path in before} == before  # kept, not measured again
    retracked = film(tmp_path / "again", frames=17)
    with pytest.raises(InputError, match=r"results of another tracked video: Other, gaussian, mean_image, nearest_frame, nelf, nerf"):
        benchmark_paths("clip", retracked.folder, ["gaussian"], out / "clip", recipe, **common)
    with pytest.raises(InputError, match=r"another tracked video: nelf. Remove"):
        refuse_stale(retracked, out / "clip", ["gaussian", "nerf", "Other", "mean_image", "nearest_frame"])


@needs_perceptual
def test_a_light_field_is_told_from_a_teacher_of_its_own(tracked, small_recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cost, "SWEEP", ())
    plain = {"reuse": False, "isolate": False, "seconds": 0.02}
    benchmark_paths("clip", tracked.folder, ["nelf", "nelf-real"], tmp_path / "clip", tiny_recipe(small_recipe), **plain)
    assert unlisted(tmp_path / "clip") == set()
    taught, alone = (json.loads((tmp_path / "clip" / name / "result.json").read_text()) for name in ("nelf", "nelf-real"))
    assert taught["delta_vs_teacher"]["path"] == "gaussian"
    assert taught["train"]["teacher_seconds"] > 0
    assert "delta_vs_teacher" not in alone
    assert alone["train"]["teacher_seconds"] == 0
    assert "against its teacher (gaussian)" in write_bench_report(tmp_path)


def test_sizes_are_named() -> None:
    assert sizes_name(Recipe()) == "cpu"
    assert sizes_name(replace(shipped_recipe("full"), path="nelf")) == "full"
    assert sizes_name(replace(Recipe(), nelf=replace(Recipe().nelf, seed=5))) == "own"


def test_a_path_that_does_not_exist_and_a_clip_that_is_too_short_are_refused(tracked, small_recipe, tmp_path) -> None:
    with pytest.raises(InputError, match=r"no path 'gausian'. Known: gaussian,"):
        benchmark_paths("clip", tracked.folder, ["gausian"], tmp_path, small_recipe, reuse=False)
    with pytest.raises(InputError, match=r"12 training and 2 test frames"):
        refuse_short(tracked.select(torch.arange(14)))
    with pytest.raises(InputError, match=r"--frames belongs to one clip"):
        compare_paths([tmp_path, tmp_path], ["nerf"], [tmp_path / "a.mp4"], tmp_path, small_recipe, drive=False, reuse=False)


def raise_input_error(_: object) -> None:
    raise InputError("told by the child")


def test_a_mistake_in_a_run_of_its_own_process_is_passed_on() -> None:
    with pytest.raises(InputError, match="told by the child"):
        in_own_process(raise_input_error, None)


@needs_perceptual
def test_clips_of_one_name_have_runs_of_their_own(film, small_recipe, tmp_path) -> None:
    """Two tracked folders that are both called track."""
    quick = replace(small_recipe.gaussian, phases=tuple(replace(phase, steps=2) for phase in small_recipe.gaussian.phases))
    film(tmp_path / "a" / "track"), film(tmp_path / "b" / "track", 20)
    clips = [tmp_path / "a" / "track", tmp_path / "b" / "track"]
    table = benchmark(clips, tmp_path / "out", replace(small_recipe, gaussian=quick), reuse=False)
    assert [line.split(" | ")[:2] for line in table.splitlines()[2:]] == [["| a-track", "15"], ["| b-track", "20"]]
    frames = {name: json.loads((tmp_path / "out" / name / "metrics.json").read_text())["frames"] for name in ("a-track", "b-track")}
    assert frames == {"a-track": 15, "b-track": 20}


def test_other_systems_of_one_name_are_told_apart_and_none_takes_a_name_of_ours(tracked, tmp_path) -> None:
    videos = [tmp_path / "a" / "x.mp4", tmp_path / "b" / "x.mp4", tmp_path / "test.mp4", tmp_path / "gaussian.mp4"]
    for video in videos:
        video.parent.mkdir(exist_ok=True)
        write_video(video, (stripes(index) for index in range(30)), 50)
    names = [predictor.name for predictor in video_predictors(videos, tracked, taken=["gaussian"])]
    assert names == ["a-x.mp4", "b-x.mp4", "test.mp4", "gaussian.mp4"]


def test_tracked_folders_of_one_name_are_different_clips(film, tmp_path) -> None:
    film(tmp_path / "a" / "track"), film(tmp_path / "b" / "track")
    clips = find_clips([tmp_path / "a" / "track", tmp_path / "b" / "track"])
    assert [clip.name for clip in clips] == ["a-track", "b-track"]
    assert [clip.video.parent.name for clip in clips] == ["a", "b"]
    with pytest.raises(InputError, match="given twice"):
        find_clips([tmp_path / "a" / "track", tmp_path / "a" / "track"])
