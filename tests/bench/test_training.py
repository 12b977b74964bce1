"""The benchmark of training runs on a tiny case, and its figures hold together."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from deja_vu.bench.training import TrainingSize, clock, copy_rate, find_floors, product_rate, profile_training
from deja_vu.core.sequence import TrackedSequence
from deja_vu.training.gaussian_config import GaussianTrainConfig

CPU = torch.device("cpu")


def test_a_made_up_person_is_a_tracked_folder_as_any(made_up: TrackedSequence) -> None:
    read = TrackedSequence.load(made_up.folder)
    assert (len(read), int(read.test.sum()), read.shows_person) == (4, 1, True)
    frame = read.frame(0)
    assert 0.05 < float((frame.head > 127).float().mean()) < float((frame.foreground > 127).float().mean()) < 1
    assert 0 < float((frame.eyes_mouth > 127).float().mean()) < 0.2


def test_a_profile_has_every_part_of_a_step_and_its_floors(made_up: TrackedSequence, capsys: pytest.CaptureFixture[str]) -> None:
    config = GaussianTrainConfig()
    small = replace(config.avatar, uv_size=64, blend_size=64, blendmaps=2)
    config = replace(config, avatar=small, bust=replace(config.bust, size=64), loss=replace(config.loss, perceptual=0.0))
    size = TrainingSize(side=48, batch=2, steps=2, warmup=1)
    found = profile_training(made_up.train_part(), config, size, CPU)
    assert found["images_per_s"] == pytest.approx(2e3 / found["step_ms"])
    parts = {"frames", "pose forward", "pose both ways", "rasterize forward", "rasterize both ways", "losses", "regularizers", "optimizer"}
    assert set(found["parts_ms"]) == parts | {"novel views", "person views"}
    assert all(value > 0 for value in found["parts_ms"].values())
    assert found["share_of_floor"] == pytest.approx(max(found["arithmetic_ms"], found["memory_ms"]) / found["step_ms"])
    twice = find_floors(made_up.train_part(), config, replace(size, side=96), CPU)
    assert twice["arithmetic_ms"] > 1.5 * found["arithmetic_ms"]  # four times the pixels, on a machine whose speed varies


def test_rates_and_clocks_are_of_the_right_size() -> None:
    assert 1e8 < product_rate(CPU, 256) < 1e14
    assert 1e7 < copy_rate(CPU, 4) < 1e13
    assert 9 < clock(lambda: time.sleep(0.01), CPU, 3) < 500
