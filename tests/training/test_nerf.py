from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars import NerfAvatar, NerfConfig
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.image import RenderOutput, over
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.toy import load
from deja_vu.training.nerf import NerfTask
from deja_vu.training.nerf_config import NerfRegularizers, NerfTrainConfig
from tests.helpers.people import as_sequence

GREY = torch.full((3,), 0.25)


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
    full, low = (RenderOutput(over(part.image, part.head, GREY), part.head.clone()) for part in (batch, small))
    low.rgb[:, 5:10, 0:5] += 0.2  # within the box, at half the size
    low.rgb[:, 16:] += 5.0  # not within it
    terms = task.face_terms([(low, small), (full, batch)], [(slice(10, 20), slice(0, 10))], GREY, perceptual=False)
    assert set(terms) == {"face"}
    assert float(terms["face"]) == pytest.approx(0.2 * 0.75, abs=1e-6)
