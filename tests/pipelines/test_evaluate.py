from __future__ import annotations

import inspect
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deja_vu.avatars import save_avatar
from deja_vu.bench import evaluate as evaluate_module
from deja_vu.bench.evaluate import FULL, SAMPLE, Evaluator, count_pixels, evaluate, means, region_means
from deja_vu.bench.predictors import Predictor, avatar_predictor, baseline_predictors
from deja_vu.core.errors import InputError
from deja_vu.core.image import over
from deja_vu.heads.regions import region_box
from deja_vu.io.assets import find
from deja_vu.io.frames import FrameSource
from deja_vu.io.tracked_folder import write_sequence
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.commands.evaluate import evaluate_command
from deja_vu.pipelines.evaluate import evaluate_run, frame_writer, summary
from deja_vu.report.sheets import comparison_sheet, draw_label, label_height
from tests.pipelines.conftest import unlisted
from tests.pipelines.test_cli import refused

__all__ = ["refused"]
needs_perceptual = pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")
WHITE = torch.ones(3)


def mean_scores(sequence, predictors, keep=None):
    """Means over all held-out frames, by predictor."""
    return {name: means(scores) for name, scores in evaluate(sequence, predictors, frames=None, keep=keep).items()}


@needs_perceptual
def test_the_person_in_the_video_scores_best_and_guesses_score_as_they_should(tracked, painted) -> None:
    """The true avatar reaches what JPEG and 8-bit masks leave; the mean image is far below; a copy of the target is perfect."""
    copy = Predictor("copy", lambda batch: over(batch.image, batch.head, WHITE)[0])
    gray = Predictor("gray", lambda batch: torch.full((96, 96, 3), 0.5))
    scores = mean_scores(tracked, [avatar_predictor("truth", painted), copy, gray, *baseline_predictors(tracked.train_part())])
    assert set(scores) == {"truth", "copy", "gray", "mean_image", "nearest_frame"}
    assert scores["truth"]["psnr"] > 33
    assert scores["truth"]["ssim"] > 0.97
    assert scores["copy"]["psnr"] > 90
    assert scores["copy"]["l1"] == scores["copy"]["st_lpips"] == 0
    assert scores["copy"]["ssim"] == pytest.approx(1, abs=1e-5)
    assert scores["gray"]["psnr"] < scores["mean_image"]["psnr"] < scores["nearest_frame"]["psnr"] < scores["truth"]["psnr"]


@needs_perceptual
def test_neck_and_torso_count_for_nobody(tracked) -> None:
    """A method that paints the torso black scores as one that does not."""

    def clean(batch):
        return over(batch.image, batch.head, WHITE)[0] * 0.9

    def spoiled(batch):
        return torch.where(batch.loss_mask[0] == 0, torch.zeros(3), clean(batch))

    scores = mean_scores(tracked, [Predictor("clean", clean), Predictor("spoiled", spoiled)])
    assert scores["clean"] == scores["spoiled"]


@needs_perceptual
def test_methods_see_test_frames_only_and_once(tracked) -> None:
    seen = []

    def note(batch):
        seen.append(batch.positions.tolist())
        return batch.image[0]

    evaluate(tracked, [Predictor("note", note)])
    assert seen == [[0], [1], [2]]


@needs_perceptual
def test_frames_that_are_scored_at_once_score_as_one_by_one(tracked, painted, monkeypatch) -> None:
    found = []

    def score():
        predictors, order = [avatar_predictor("ours", painted), *baseline_predictors(tracked.train_part())], []
        scores = evaluate(tracked, predictors, head=painted.head, keep=lambda one, number, pair: order.append((one.name, number)))
        assert order == [(one.name, number) for number in range(3) for one in predictors]
        return scores

    for workers in (1, 3):
        monkeypatch.setattr(evaluate_module, "WORKERS", workers)
        found.append(score())
    assert found[0] == found[1]
    assert "temporal" in found[0]["ours"][FULL]


def test_baselines_know_training_frames_only(tracked) -> None:
    source = FrameSource(tracked.train_part(), 96)
    frames = torch.stack([over(batch.image, batch.head, WHITE)[0] for batch in (source.batch(torch.tensor([i])) for i in range(12))])
    mean, nearest = baseline_predictors(tracked.train_part())
    test = FrameSource(tracked.test_part(), 96)
    for position in range(3):
        batch = test.batch(torch.tensor([position]))
        torch.testing.assert_close(mean.predict(batch), frames.mean(0))
        found = nearest.predict(batch)
        errors = (frames - over(batch.image, batch.head, WHITE)).square().mean((1, 2, 3))
        chosen = int((frames - found).abs().sum((1, 2, 3)).argmin())
        assert torch.equal(found, frames[chosen])
        assert errors[chosen] < 1.1 * errors.min()  # chosen on small pictures, so not always the very best


@needs_perceptual
def test_saved_frames_show_what_was_scored(tracked, painted, tmp_path) -> None:
    folder = tmp_path / "saved"
    truth = avatar_predictor("truth", painted)
    evaluate(tracked, [truth], frames=None, keep=frame_writer(folder, tracked, truth))
    names = [f"{kind}_{index:06d}.png" for index in (24, 26, 28) for kind in ("render", "target", "head", "person", "valid")]
    assert {path.name for path in folder.iterdir()} == {*names, "frames.json"}
    facts = {"protocol": "head", "shows_person": False, "crop": [10, 20, 106, 116], "resolution": 96, "background": [255, 255, 255]}
    assert json.loads((folder / "frames.json").read_text()) == facts
    batch = FrameSource(tracked.test_part(), 96).batch(torch.tensor([1]))
    target = cv2.imread(str(folder / "target_000026.png"))[..., ::-1].astype(np.float32) / 255
    np.testing.assert_allclose(target, over(batch.image, batch.head, WHITE)[0].numpy(), atol=0.5 / 255 + 1e-6)
    render = cv2.imread(str(folder / "render_000026.png"))[..., ::-1].astype(np.float32) / 255
    with torch.no_grad():
        expected = painted.render(batch.params, batch.camera, WHITE).rgb[0].clamp(0, 1)
    np.testing.assert_allclose(render, expected.numpy(), atol=0.5 / 255 + 1e-6)
    frame = tracked.test_part().frame(1)
    np.testing.assert_array_equal(cv2.imread(str(folder / "head_000026.png"), cv2.IMREAD_UNCHANGED), frame.head.numpy())


@needs_perceptual
def test_whoever_has_the_saved_frames_can_measure_the_score(tracked, painted, tmp_path) -> None:
    """PSNR from the PNGs alone: pixels count by one minus person over head, so neck, torso and what was not filmed are left out."""
    truth = avatar_predictor("truth", painted)
    scores = mean_scores(tracked, [truth], keep=frame_writer(tmp_path / "saved", tracked, truth))["truth"]
    found = []
    for index in (24, 26, 28):
        pictures = {
            kind: cv2.imread(str(tmp_path / "saved" / f"{kind}_{index:06d}.png"), cv2.IMREAD_UNCHANGED).astype(float) / 255
            for kind in ("render", "target", "head", "person")
        }
        loss_mask = 1 - np.clip(pictures["person"] - pictures["head"], 0, 1)
        assert 0.8 < loss_mask.mean() < 0.95
        error = ((pictures["render"] - pictures["target"]) ** 2 * loss_mask[..., None]).sum() / (3 * loss_mask.sum())
        found.append(-10 * np.log10(error))
    assert np.mean(found) == pytest.approx(scores["psnr"], abs=0.15)  # eight bits: a fiftieth of the error at 35 dB


@needs_perceptual
def test_a_run_is_scored_beside_its_ablation_and_others(film, painted, tmp_path) -> None:
    run = tmp_path / "run"
    sequence = film(run / "track")
    save_avatar(painted, run / "avatar.safetensors", {})
    save_avatar(painted, run / "global_only.safetensors", {})
    (run / "metrics.json").write_text(json.dumps({"video": "toy.mp4", "test": {"psnr": 0.0}}))
    other = Predictor("other_system", lambda batch: batch.image[0])
    metrics = evaluate_run(run, others=[other])
    assert metrics["video"] == "toy.mp4"
    assert set(metrics["baselines"]) == {"mean_image", "nearest_frame", "global_only", "other_system"}
    expected = mean_scores(sequence, [avatar_predictor("truth", painted)])["truth"]
    expected.pop("temporal")
    regions = metrics["test"]["regions"]
    assert metrics["test"] == metrics["baselines"]["global_only"] == {**expected, "regions": regions}
    assert metrics["frames_scored"] == metrics["frames_held_out"] == 3
    for name, row in {"test": metrics["test"], **metrics["baselines"]}.items():
        assert set(row["regions"]) == {"lips", "eyes", "face"}  # the toy head has no brows
        for metric in expected:
            value = row[metric]
            low, high = metrics["intervals"][name][metric]
            assert low - 1e-5 <= value <= high + 1e-5  # rounded


def scored_side(sequence, avatar, part, predictor):
    """Mean PSNR in the box around one eye, a fifth of its size wider on every side and at least 24 pixels, by its definition."""
    found, head, source = [], avatar.head, FrameSource(sequence.test_part(), 96)
    for position in range(3):
        batch = source.batch(torch.tensor([position]))
        corners = head(batch.params)[0][head.topology.faces[head.topology.regions[part]].unique()]
        pixels, _ = batch.camera.project(corners)
        low, high = pixels.amin(0), pixels.amax(0)
        wide = torch.maximum(0.2 * (high - low), (24 - (high - low)) / 2)
        (left, top), (right, bottom) = (low - wide).floor().int().tolist(), (high + wide).ceil().int().tolist()
        target, mask = over(batch.image, batch.head, WHITE)[0], batch.loss_mask[0]
        squares = ((predictor.predict(batch) - target).square() * mask)[top:bottom, left:right].sum()
        found.append(float(-10 * torch.log10(squares / (3 * mask[top:bottom, left:right].sum()))))
    return float(np.mean(found))


@needs_perceptual
def test_a_region_is_scored_where_it_is_and_nowhere_else(tracked, painted) -> None:
    """What is wrong on the lips alone costs them and the face around them, and the eyes nothing; each eye counts for a half."""
    head = painted.head
    truth = avatar_predictor("truth", painted)

    def spoil(part):
        def predict(batch):
            image, vertices = truth.predict(batch), head(batch.params)[0]
            rows, columns = region_box(vertices, head.topology.faces, head.topology.regions[part], batch.camera)
            image[rows, columns] = 1 - image[rows, columns]
            return image

        return Predictor(part, predict)

    scored = evaluate(tracked, [truth, spoil("lips"), spoil("eye_left")], frames=None, head=head)
    rows = {name: region_means(scores) for name, scores in scored.items()}
    assert rows["lips"]["lips"]["psnr"] < rows["truth"]["lips"]["psnr"] - 10
    assert rows["lips"]["eyes"] == rows["truth"]["eyes"]
    assert rows["lips"]["face"]["psnr"] < rows["truth"]["face"]["psnr"]
    assert rows["eye_left"]["lips"] == rows["truth"]["lips"]
    left = scored_side(tracked, painted, "eye_left", spoil("eye_left"))
    right = scored_side(tracked, painted, "eye_right", truth)
    assert rows["eye_left"]["eyes"]["psnr"] == pytest.approx((left + right) / 2, abs=2e-3)


@needs_perceptual
def test_an_even_sample_is_scored_unless_all_are_asked_for(film, painted, tmp_path, monkeypatch) -> None:
    """The same frames for everybody, from the first held-out frame to the last."""
    sequence = film(tmp_path / "run" / "track", 100)
    save_avatar(painted, tmp_path / "run" / "avatar.safetensors", {})
    asked = []
    other = Predictor("other", lambda batch: asked.append(int(batch.positions[0])) or batch.image[0])
    metrics = evaluate_run(tmp_path / "run", others=[other])
    assert int(sequence.test.sum()) == metrics["frames_held_out"] == 20
    assert metrics["frames_scored"] == len(asked) == SAMPLE
    assert (asked[0], asked[-1]) == (0, 19)
    gaps = np.diff(asked)
    assert gaps.max() - gaps.min() <= 1
    assert set(metrics["test"]) == set(metrics["baselines"]["other"]) == {"psnr", "ssim", "st_lpips", "l1", "regions"}
    assert evaluate_run(tmp_path / "run", frames=None)["frames_scored"] == 20
    assert inspect.signature(evaluate_command).parameters["frames"].default == SAMPLE


@needs_perceptual
def test_a_photos_run_is_scored_on_its_photo(film, painted, tmp_path, capsys) -> None:
    """It has no held-out frame, so no baseline either; the command works and says so."""
    sequence = film(tmp_path / "run" / "track", 1)
    write_sequence(replace(sequence, test=torch.zeros(1, dtype=torch.bool)))
    save_avatar(painted, tmp_path / "run" / "avatar.safetensors", {})
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({"photo": "me.jpg", "seconds": {"avatar": 5.0, "total": 9.0}}))
    main(["evaluate", str(tmp_path / "run"), "--save-frames", str(tmp_path / "saved")])
    shown = capsys.readouterr()
    metrics = json.loads(shown.out)
    assert metrics["photo"] == "me.jpg"
    assert metrics["input_view"]["psnr"] > 33
    assert "test" not in metrics
    assert "no held-out frames" in shown.err
    assert unlisted(tmp_path / "saved") == set()
    assert {path.name for path in (tmp_path / "saved").glob("*_*.png")} == {
        f"{kind}_000000.png" for kind in ("render", "target", "head", "person", "valid")
    }


def test_the_last_lines_of_a_run_say_how_good_the_avatar_is_and_what_to_do_next() -> None:
    row = {"psnr": 30.0, "ssim": 0.9, "st_lpips": 0.03}
    counts = {"frames_scored": 12, "frames_held_out": 12, "peak_mb": 900, "seconds": {"track": 5.0, "personalize": 60.0}}
    metrics = counts | {"test": row, "baselines": {"mean_image": row}, "gaussians": 10}
    head = summary(metrics, Path("runs/me")).splitlines()
    assert [line[:14].strip() for line in head[:2]] == ["avatar", "mean image"]
    assert head[-1] == "move it: deja-vu view runs/me; as a page: deja-vu export runs/me --format web --out page"
    person = summary(metrics | {"person": row, "body": row, "gaussians": None}, Path("runs/me")).splitlines()
    assert [line[:14].strip() for line in person[:4]] == ["its head", "whole person", "body", "mean image"]
    assert person[-1] == "move it: deja-vu view runs/me"  # no page holds what has no Gaussians


def test_a_number_of_frames_that_cannot_be_is_refused(refused, tmp_path) -> None:
    assert "--frames 0: expected" in refused("evaluate", tmp_path, "--frames", 0)


def test_the_comparison_shows_target_render_and_error_under_headings(tracked, painted) -> None:
    sheet = comparison_sheet(tracked, painted)
    tall = label_height(96)
    assert sheet.shape == (tall + 3 * 96, 3 * 96, 3)
    np.testing.assert_array_equal(sheet[:tall, 96:192], draw_label("render", 96))
    target, render, error = (sheet[tall:, 96 * k : 96 * (k + 1)].astype(int) for k in range(3))
    assert np.abs(target - render).mean() < 4
    bound = np.minimum(4 * np.abs(target - render), 255)
    assert (error <= bound + 4).all()  # both pictures are rounded before they are compared here


def test_protocols_count_head_person_and_body(tracked) -> None:
    batch = FrameSource(tracked, tracked.info.resolution).batch(torch.tensor([0]))
    head, person, body = (count_pixels(batch, protocol) for protocol in ("head", "person", "body"))
    assert person.equal(batch.valid)
    torch.testing.assert_close(head, person - body)  # what is no head is body, and everything else counts in both
    assert batch.whole_person().head.equal(batch.foreground)
    neck = batch.with_neck()
    assert neck.head.equal(torch.where(batch.head > 0, batch.foreground, batch.head))
    assert (neck.loss_mask * neck.valid).le(batch.loss_mask).all()  # what counts a little for a head counts less for one on a neck
    with pytest.raises(InputError, match="head alone"):
        Evaluator(tracked, protocol="person")


@needs_perceptual
def test_of_a_head_on_a_neck_the_head_is_scored(tracked) -> None:
    """The film itself is right, whatever it shows below the jaw; a head that is too dark costs as much on a neck as without."""

    def film(batch, light: float):
        return over(light * batch.image, batch.foreground, WHITE)[0]

    def head(batch, light: float):
        return over(light * batch.image, batch.head, WHITE)[0]

    with_neck = [Predictor(str(light), partial(film, light=light), on_neck=True) for light in (1.0, 0.9)]
    scores = mean_scores(tracked, [*with_neck, Predictor("without", partial(head, light=0.9))])
    assert scores["1.0"]["l1"] < 1e-6
    assert scores["0.9"]["l1"] == pytest.approx(scores["without"]["l1"], rel=1e-4)
