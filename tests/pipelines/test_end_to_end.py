"""The whole road once: a made-up person's video to an avatar that beats its baselines, drives and is scored again."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deja_vu.avatars.io import load_avatar
from deja_vu.bench.evaluate import PERSON_SAMPLE
from deja_vu.core.config import config_text
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.assets import ASSETS, find
from deja_vu.io.files import write_atomic
from deja_vu.io.video import probe, read_frames
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.recipes import Recipe
from deja_vu.pipelines.sample import write_sample
from deja_vu.training.gaussian_config import GaussianPhase
from tests.helpers.videos import add_click, heard

FRAMES, SIDE = 40, 192
KEYS = set(
    "video frames resolution device path parameters gaussians seconds stages speed peak_mb test baselines intervals frames_scored "
    "frames_held_out config commit person body fitted".split()
)


def recipe() -> Recipe:
    """A quarter of a minute instead of two: small crop, small map, few steps."""
    whole = Recipe()
    phases = (
        GaussianPhase(steps=60, resolution=128, learning_rate=0.02),
        GaussianPhase(steps=60, resolution=SIDE, learning_rate=0.01, blendmaps=True),
    )
    avatar = replace(whole.gaussian.avatar, uv_size=128, blend_size=64, blendmaps=6)
    personalization = replace(whole.gaussian, avatar=avatar, phases=phases, picture_every=100)
    return replace(whole, track=replace(whole.track, resolution=SIDE), gaussian=personalization)


def check_body(metrics: dict[str, Any], saved: Path) -> None:
    """Neck and torso are better than guesses, and the figures follow from the pictures that were saved."""
    for name in ("person", "body"):
        assert set(metrics[name]["baselines"]) == {"mean_image", "nearest_frame", "still_torso"}
    assert metrics["person"]["psnr"] > metrics["person"]["baselines"]["mean_image"]["psnr"] + 3
    errors = []
    for path in saved.glob("render_*.png"):
        render, target = (cv2.imread(str(saved / path.name.replace("render", kind))) / 255.0 for kind in ("render", "target"))
        valid = cv2.imread(str(saved / path.name.replace("render", "valid")), cv2.IMREAD_GRAYSCALE) > 127
        errors.append(-10 * np.log10(((render - target)[valid] ** 2).mean()))
    assert np.mean(errors) == pytest.approx(metrics["person"]["psnr"], abs=0.05), "rounded to 8 bits"


@pytest.mark.slow
@pytest.mark.skipif(
    any(find(name) is None for name in ASSETS), reason="models of MediaPipe and ST-LPIPS are not all here: python -m deja_vu.io.assets"
)
def test_from_a_video_to_a_driven_avatar(tmp_path) -> None:
    video, run, saved = tmp_path / "person.mp4", tmp_path / "run", tmp_path / "saved"
    write_sample(video, FRAMES, size=256)
    write_atomic(tmp_path / "recipe.yaml", config_text(recipe()))
    started = time.monotonic()
    main(["personalize", str(video), "--out", str(run), "--config", str(tmp_path / "recipe.yaml")])

    sequence = TrackedSequence.load(run / "track")
    assert len(sequence) == FRAMES  # a face in every frame
    assert int(sequence.test.sum()) == 8
    assert sequence.test[-8:].all()
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics) == KEYS
    assert (metrics["video"], metrics["frames"], metrics["resolution"]) == ("person.mp4", FRAMES, SIDE)
    assert set(metrics["baselines"]) == {"mean_image", "nearest_frame", "global_only"}
    for row in (metrics["test"], metrics["fitted"], *metrics["baselines"].values()):
        assert set(row) == {"psnr", "ssim", "st_lpips", "l1", "regions"}
        assert set(row["regions"]) == {"lips", "eyes", "brows", "face"}
    seconds = metrics["seconds"]
    assert 0 < seconds["track"] < seconds["avatar"] < seconds["total"] <= time.monotonic() - started
    assert seconds["track"] + seconds["personalize"] == pytest.approx(seconds["avatar"], abs=0.2)
    assert seconds["total"] == pytest.approx(time.monotonic() - started, abs=1.0), "all of the command counts"
    assert metrics["gaussians"] == load_avatar(run / "avatar.safetensors").num_gaussians
    test, mean = metrics["test"], metrics["baselines"]["mean_image"]
    assert test["psnr"] > mean["psnr"] + 3
    assert test["ssim"] > mean["ssim"]
    assert test["st_lpips"] < mean["st_lpips"]
    assert test["l1"] < mean["l1"]
    for name, frames in (("turntable.mp4", 150), ("track/overlay.mp4", FRAMES)):
        assert probe(run / name).frames == frames
    height, width, _ = cv2.imread(str(run / "compare.png")).shape
    assert width == 3 * SIDE
    assert 6 * SIDE < height < 6.2 * SIDE, "six rows under a line of headings"

    main(["evaluate", str(run), "--json", str(tmp_path / "again.json"), "--save-frames", str(saved)])
    assert json.loads((tmp_path / "again.json").read_text()) == metrics
    kinds, held_out = ("render", "target", "head", "person", "valid"), sequence.test_part().index.tolist()
    names = {f"{kind}_{index:06d}.png" for index in held_out for kind in kinds}
    assert {path.name for path in saved.iterdir()} == {*names, "frames.json", "run.json", "person"}
    assert len(list((saved / "person").iterdir())) == 1 + len(kinds) * min(len(held_out), PERSON_SAMPLE)
    check_body(metrics, saved / "person")
    described = json.loads((saved / "frames.json").read_text())
    assert described["resolution"] == SIDE
    # The crop is where it says: the target's head is the source's, scaled.
    x0, y0, x1, y1 = described["crop"]
    index = int(sequence.test_part().index[3])
    source = next(image for place, _, image in read_frames(video) if place == index)
    padded = cv2.copyMakeBorder(source, 256, 256, 256, 256, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    crop = cv2.resize(padded[y0 + 256 : y1 + 256, x0 + 256 : x1 + 256], (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(int)
    target = cv2.imread(str(saved / f"target_{index:06d}.png"))[..., ::-1].astype(int)
    head = cv2.imread(str(saved / f"head_{index:06d}.png"), cv2.IMREAD_GRAYSCALE)
    assert (head > 250).mean() > 0.15
    assert np.abs(target - crop)[head > 250].mean() < 6  # the codec, and foreground colors estimated by the matting

    driving = add_click(video, tmp_path / "driving.mp4", 0.8, 1.6)
    main(["drive", str(run), "--motion", str(driving), "--out", str(tmp_path / "driven.mp4")])
    assert probe(tmp_path / "driven.mp4").frames == FRAMES
    when, length = heard(tmp_path / "driven.mp4")
    assert when == pytest.approx(0.8, abs=0.012)  # half a block of the encoder, which spreads a click
    assert length == pytest.approx(1.6, abs=0.03)  # blocks of 21 ms
