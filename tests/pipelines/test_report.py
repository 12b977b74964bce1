from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deja_vu.avatars import save_avatar
from deja_vu.core.config import config_text
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.regions import followed_parts, points_box
from deja_vu.io.assets import find
from deja_vu.io.files import write_atomic
from deja_vu.io.images import write_png
from deja_vu.io.tracked_folder import write_frame, write_sequence
from deja_vu.motion.actor import PRESETS
from deja_vu.motion.appearance import pose_subject
from deja_vu.pipelines.cli import main
from deja_vu.report.filming import find_filming_faults, touches_border
from deja_vu.report.run_report import VIEWS
from deja_vu.report.sheets import comparison_sheet, render_poses
from deja_vu.report.worst import find_worst
from tests.pipelines.test_cli import refused

__all__ = ["refused"]
METRICS = {
    "seconds": {"track": 75.2, "total": 180.0, "personalize": 104.8},
    "peak_mb": 2400,
    "gaussians": 51716,
    "commit": "abc<def>",
    "config": {"seed": 7},
    "test": {"psnr": 31.5, "ssim": 0.94, "st_lpips": 0.017, "l1": 0.01},
    "baselines": {"nearest_frame": {"psnr": 27.6, "ssim": 0.86, "st_lpips": 0.015, "l1": 0.02}},
}


@pytest.fixture
def run(film, painted, tmp_path) -> Path:
    """A finished run of the toy head."""
    folder = tmp_path / "run"
    sequence = film(folder / "track")
    save_avatar(painted, folder / "avatar.safetensors", {})
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    lines = [{"step": step, "seconds": step / 10, "loss/huber": 1 / step, "metric/psnr": 20 + step} for step in range(1, 9)]
    lines[3]["loss/huber"] = None
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_png(folder / "compare.png", comparison_sheet(sequence, painted))
    return folder


def test_one_page_holds_everything(run, capfd) -> None:
    main(["report", str(run)])
    assert "report.html" in capfd.readouterr().out
    text = (run / "report.html").read_text()
    for expected in (
        "31.50",
        "0.940",
        "51,716",
        "most similar training frame",
        "27.6",
        "the avatar reaches 31.5 dB",
        "better ST-LPIPS (0.0150 against 0.0170)",
        "6 dB more is half the error",
        "abc&lt;def&gt;",
        "loss/huber",
        "metric/psnr",
        "&quot;seed&quot;: 7",
    ):
        assert expected in text
    # Of the toy's video: it turns to both sides, and is short.
    assert "The video is short: 12 training frames" in text
    assert "Film for 15 to 60 seconds" in text
    assert text.count("data:image/jpeg") == 1 + 4 + len(PRESETS) + 10  # comparison, worst windows, expressions, views
    for label in (*PRESETS, "below, 45° left", "above, front"):
        assert f"<figcaption>{label}</figcaption>" in text  # one by one
    assert text.count("<svg") == 3 + 2  # turns; mouth; smile and brows; two curves
    assert text.index("In short") < text.index("Held-out frames") < text.index("What the video did not show") < text.index("Training")
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)


def test_the_worst_windows_are_those_that_were_spoilt(film, painted, tmp_path) -> None:
    """A held-out frame whose eyes were painted over has both worst windows of the eyes, and no other region's first."""
    sequence = film(tmp_path / "track")
    spoilt = int(sequence.index[13])
    image = sequence.frame(13).image.numpy().copy()
    left, right = followed_parts(painted.head.topology)["eyes"]
    vertices = painted.head(sequence.params[13:14])[0]
    for part in (left, right):
        rows, columns = points_box(vertices[part], sequence.camera, 0.0)
        image[rows, columns] = (255, 0, 255)
    write_frame(sequence.folder, spoilt, image)
    worst = find_worst(painted, sequence)
    assert [one.region for one in worst] == ["lips"] * 2 + ["eyes"] * 2
    eyes = [one for one in worst if one.region == "eyes"]
    assert [one.frame for one in eyes] == [spoilt] * 2
    assert eyes[0].psnr <= eyes[1].psnr < 15
    assert all(one.psnr > 25 for one in worst if one.region == "lips")
    filmed, shown = np.split(eyes[0].picture.astype(int), 2, axis=1)
    pink = [int(((half[..., 0] > 200) & (half[..., 1] < 60) & (half[..., 2] > 200)).sum()) for half in (filmed, shown)]
    assert pink[0] > 50
    assert pink[1] == 0


def test_a_page_can_go_elsewhere(run, tmp_path) -> None:
    main(["report", str(run), "--out", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").is_file()
    assert not (run / "report.html").exists()


def test_what_is_not_finished_or_damaged_is_refused(refused, run) -> None:
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "lo\n')
    assert "metrics.jsonl, line 2" in refused("report", run)
    (run / "metrics.json").write_text("[1, 2]")
    assert "expected a JSON object" in refused("report", run)
    (run / "metrics.json").write_text("{")
    assert "is damaged" in refused("report", run)
    (run / "metrics.json").unlink()
    assert "has no metrics.json" in refused("report", run)
    (run / "avatar.safetensors").unlink()
    assert "holds no avatar.safetensors" in refused("report", run)
    assert not (run / "report.html").exists()


def test_a_score_below_copying_is_said(run) -> None:
    worse = METRICS | {"test": METRICS["test"] | {"psnr": 25.0}}
    (run / "metrics.json").write_text(json.dumps(worse))
    main(["report", str(run)])
    assert "scores higher than the avatar (27.6 dB against 25.0)" in (run / "report.html").read_text()


def test_a_photos_run_has_a_page_that_says_what_it_has(run) -> None:
    """One frame, no split, other figures, no log."""
    one = TrackedSequence.load(run / "track").select(torch.tensor([0]))
    write_sequence(replace(one, test=torch.zeros(1, dtype=torch.bool)))
    view = {"psnr": 26.4, "ssim": 0.9, "st_lpips": 0.03, "l1": 0.01}
    facts = {"photo": "me.jpg", "gaussians": 51716, "input_view": view, "landmark_error_px": 1.9, "seconds": {"avatar": 5.1, "total": 9.3}}
    (run / "metrics.json").write_text(json.dumps(facts))
    (run / "metrics.jsonl").unlink()
    main(["report", str(run)])
    text = (run / "report.html").read_text()
    assert "made from one photo" in text
    assert "It matches its own photo with 26.4 dB" in text
    assert text.count("data:image/jpeg") == 1 + len(PRESETS) + 10
    for absent in ("Held-out frames", "What the video did not show", "What the person does", "Training", "held-out"):
        assert f"<h2>{absent}</h2>" not in text
    assert "frames at" not in text


def test_the_page_fits_a_phone_and_a_desktop(run, browser, screenshots) -> None:
    """Nothing is wider than the screen, in either theme."""
    main(["report", str(run)])
    for width in (390, 1280):
        for theme in ("light", "dark"):
            page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=theme)
            page.goto((run / "report.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.screenshot(path=screenshots / f"report_{width}_{theme}.png", full_page=True)
            page.close()


def test_light_and_framing_are_looked_at(film, tmp_path) -> None:
    sequence = film(tmp_path / "track")
    said = " ".join(one.lack for one in find_filming_faults(sequence))
    assert said == "The head fills only 96 pixels of the video."
    for place in range(len(sequence)):
        path = sequence.folder / "frames" / f"{int(sequence.index[place]):06d}.jpg"
        image = cv2.imread(str(path)).astype(float)
        cv2.imwrite(str(path), np.clip(image * (0.5 + place / 7), 0, 255).astype(np.uint8))
    said = " ".join(one.lack for one in find_filming_faults(TrackedSequence.load(sequence.folder)))
    assert "light on the face changes" in said
    assert "overexposed" in said


def test_a_head_at_the_border_is_cut() -> None:
    valid = torch.ones(64, 64, dtype=torch.bool)
    head = torch.zeros(64, 64, dtype=torch.bool)
    head[20:, 20:40] = True
    assert not touches_border(head, valid)  # below, the neck always leaves the picture
    head[:20, 20:40] = True
    assert touches_border(head, valid)
    head[:20] = False
    assert touches_border(head, valid & (torch.arange(64)[:, None] >= 20))  # a bar above


def test_views_show_the_avatar_from_both_sides(painted, film, tmp_path) -> None:
    sequence = film(tmp_path / "track", 3)
    pictures = render_poses(painted, sequence, pose_subject(painted.head, sequence.params, VIEWS), side=64)
    assert pictures.shape == (len(VIEWS), 64, 64, 3)
    assert all((a - b).abs().mean() > 0.004 for a, b in itertools.pairwise(pictures))


@pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")
def test_personalize_writes_it(film, small_recipe, tmp_path) -> None:
    film(tmp_path / "tracked")
    write_atomic(tmp_path / "recipe.yaml", config_text(small_recipe))
    main(["personalize", str(tmp_path / "tracked"), "--out", str(tmp_path / "run"), "--config", str(tmp_path / "recipe.yaml")])
    text = (tmp_path / "run" / "report.html").read_text()
    assert "data:video/mp4" in text
    assert "loss/total" in text
