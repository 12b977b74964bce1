"""What training computes beside its steps is what it would have computed in turn."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.core.batch import Batch
from deja_vu.core.sequence import TrackedSequence
from deja_vu.losses.perceptual import KERNELS, PerceptualDistance
from deja_vu.pipelines.recipes import shipped_recipe
from deja_vu.training import reading
from deja_vu.training.gaussian import GaussianTask
from deja_vu.training.gaussian_config import GaussianTrainConfig
from deja_vu.training.gaussian_init import init_avatar
from deja_vu.training.objective import ImageObjective
from deja_vu.training.trainer import Trainer

CPU = torch.device("cpu")


class InTurn(GaussianTask):
    """Computes the features of a step's target in that step."""

    def look_ahead(self, coming: tuple[int, Batch]) -> Batch:
        return coming[1]


class WatchedDistance(PerceptualDistance):
    """Of random weights, and without a file; notes whether pictures were encoded on the thread that trains, and on others."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        kernels = [torch.randn(o, i, k, k, generator=generator) * math.sqrt(2 / (i * k * k)) for o, i, k in KERNELS]
        super().__init__(kernels, [torch.zeros(o) for o, _, _ in KERNELS], [torch.ones(o) for o, _, _ in KERNELS])
        self.on_main: set[bool] = set()

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        self.on_main.add(threading.current_thread() is threading.main_thread())
        return super().encode(images)


def begin(kind: type[GaussianTask], made_up: TrackedSequence, run: Path) -> GaussianTask:
    """A small avatar's training, its perceptual term in every second step."""
    config = shipped_recipe("paper").gaussian
    avatar = replace(config.avatar, uv_size=64, blend_size=64, blendmaps=3, code_network=replace(config.avatar.code_network, steps=50))
    phases = tuple(replace(phase, steps=5, resolution=64, perceptual_every=2, perceptual_from=0) for phase in config.phases)
    loss = replace(config.loss, perceptual=0.0)
    config = replace(config, avatar=avatar, phases=phases, init="gray", perceptual_window=32, loss=loss)
    task = kind(init_avatar(made_up, config), made_up, config, run, CPU)
    task.objective = ImageObjective(replace(loss, perceptual=0.05), WatchedDistance())
    task.weights = task.weights | {"perceptual": 0.05}
    return task


def test_targets_encoded_ahead_train_the_same_avatar(made_up: TrackedSequence, tmp_path: Path) -> None:
    ends = []
    for kind, on_main in ((GaussianTask, {True, False}), (InTurn, {True})):
        run = tmp_path / kind.__name__
        run.mkdir()
        task = begin(kind, made_up, run)
        Trainer(task, task.config, run, resume=False).fit()
        assert task.objective.perceptual.on_main == on_main
        ends.append((task.avatar.rectification.detach(), task.avatar.blendmaps.detach()))
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))
    assert ends[0][1].any()


def test_a_step_that_draws_another_window_than_was_looked_at_encodes_its_own(made_up: TrackedSequence, tmp_path: Path) -> None:
    found = []
    for kind in (GaussianTask, InTurn):
        task = begin(kind, made_up, tmp_path)
        batch = next(iter(task.batches(task.config.phases[0], 0, 0)))
        found.append(task.compute(batch, 0, torch.Generator().manual_seed(12345)).terms["perceptual"].item())
    assert found[0] == found[1]


def test_frames_fitted_at_once_teach_the_same_reader(made_up: TrackedSequence, monkeypatch: pytest.MonkeyPatch) -> None:
    config = GaussianTrainConfig(init="gray", avatar=GaussianConfig(uv_size=64, blend_size=64, blendmaps=3))
    learned = []
    for workers in (1, 3):
        monkeypatch.setattr(reading, "WORKERS", workers)
        avatar = init_avatar(made_up, config)
        reading.teach_reader(avatar, made_up, config.reader)
        learned.append(avatar.reader.weight.clone())
    assert torch.equal(*learned)
    assert learned[0].any()
