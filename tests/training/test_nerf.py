from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars import NerfAvatar, NerfConfig
from deja_vu.avatars.nerf.planes import EncodedPlanes
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.image import RenderOutput, over
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.toy import load
from deja_vu.io.frames import FrameSource
from deja_vu.training.nerf import NerfTask, draw_sources, init_nerf
from deja_vu.training.nerf_config import NerfPhase, NerfRegularizers, NerfTrainConfig
from tests.helpers.people import as_sequence

GRAY = torch.full((3,), 0.25)


@pytest.fixture
def sequence() -> TrackedSequence:
    return as_sequence(load().neutral((4,)), "toy")


def test_the_face_is_scored_on_every_picture_at_its_own_size(sequence) -> None:
    config = NerfTrainConfig(avatar=NerfConfig(plane_size=8, plane_channels=2, width=8), regularizers=NerfRegularizers(face=1.0))
    config = replace(config, loss=replace(config.loss, perceptual=0.0))
    task = NerfTask(NerfAvatar(load(), sequence.params.shape[0], config.avatar), sequence, config)
    ones = torch.ones(1, 40, 40, 1)
    head = ones.clone()
    head[:, :, 20:] = 0
    batch = Batch(
        positions=torch.tensor([0]),
        image=torch.ones(1, 40, 40, 3),
        head=head,
        foreground=ones,
        valid=ones,
        loss_mask=ones,
        eyes_mouth=0 * ones,
        params=load().neutral((1,)),
        camera=Camera.from_focal(60.0, 40, 40),
    )
    small = batch.resize(20, 20)
    full, low = (RenderOutput(over(part.image, part.head, GRAY), part.head.clone()) for part in (batch, small))
    low.rgb[:, 5:10, 0:5] += 0.2  # within the box, at half the size
    low.rgb[:, 16:] += 5.0  # not within it
    terms = task.face_terms([(low, small), (full, batch)], [(slice(10, 20), slice(0, 10))], GRAY, perceptual=False)
    assert set(terms) == {"face"}
    assert float(terms["face"]) == pytest.approx(0.2 * 0.75, abs=1e-6)


def test_sources_are_never_the_frames_that_are_to_be_made() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([draw_sources(6, 2, torch.tensor([1, 4]), generator) for _ in range(100)])
    assert set(drawn.tolist()) == {0, 2, 3, 5}
    assert draw_sources(1, 2, torch.tensor([0]), generator).tolist() == [0, 0]


def test_an_encoder_runs_once_a_step(made_up: TrackedSequence) -> None:
    small = NerfConfig(planes="encoded", plane_size=16, plane_channels=4, encoder_size=32, encoder_width=0.05, sources=2, width=16)
    config = NerfTrainConfig(avatar=replace(small, coarse=4, fine=4), regularizers=NerfRegularizers(planes=0.1))
    config = replace(config, loss=replace(config.loss, perceptual=0.0))
    avatar = init_nerf(made_up, config)
    task, calls = NerfTask(avatar.train(), made_up, config), []
    task.phase = NerfPhase(steps=1, resolution=64, learning_rate=1e-3)
    assert isinstance(avatar.planes, EncodedPlanes)
    avatar.planes.encoder.register_forward_hook(lambda *_: calls.append(1))
    result = task.compute(FrameSource(made_up, 64).batch(torch.tensor([0])), 0, torch.manual_seed(0))
    result.total().backward()
    assert len(calls) == 1
    assert result.terms["planes"].item() > 0
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in avatar.planes.encoder.parameters())
