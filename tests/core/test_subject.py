from __future__ import annotations

import json

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.errors import FormatError
from deja_vu.core.head import HeadParams
from deja_vu.core.subject import Subject


@pytest.fixture
def subject() -> Subject:
    torch.manual_seed(0)
    neutral = HeadParams(torch.randn(1, 3), torch.rand(1, 5), torch.randn(1, 2, 3), torch.randn(1, 4, 4), torch.randn(1, 4, 4))
    return Subject("Zoë", "toy", neutral, Camera.from_focal(123.4567, 96, 80), 29.97, (-20.25, 31.5))


def test_a_subject_comes_back_exactly(subject) -> None:
    found = Subject.from_json(subject.to_json(), "file")
    assert (found.name, found.head_name, found.fps) == ("Zoë", "toy", 29.97)
    for name in ("shape", "expression", "joints", "world_from_head", "torso"):
        assert torch.equal(getattr(found.neutral, name), getattr(subject.neutral, name))
    assert torch.equal(found.camera.intrinsics, subject.camera.intrinsics)
    assert torch.equal(found.camera.camera_from_world, torch.eye(4))
    assert (found.camera.width, found.camera.height) == (96, 80)
    assert found.filmed == (-20.25, 31.5)


def test_a_subject_written_before_torsos_has_one_that_follows_the_head(subject) -> None:
    values = json.loads(subject.to_json())
    del values["neutral"]["torso"]
    assert torch.equal(Subject.from_json(json.dumps(values), "file").neutral.torso, torch.eye(4)[None])


def test_a_subject_written_before_it_was_noted_from_where_one_filmed_is_read(subject) -> None:
    values = json.loads(subject.to_json())
    del values["filmed"]
    assert Subject.from_json(json.dumps(values), "file").filmed is None


@pytest.mark.parametrize("wrong", ["nothing", "list", "absent", "shape", "torso", "nan", "word", "range", "endless"])
def test_what_is_no_subject_is_refused(subject, wrong) -> None:
    values = json.loads(subject.to_json())
    if wrong == "absent":
        del values["camera"]
    if wrong == "shape":
        values["neutral"]["world_from_head"] = [1, 2, 3]
    if wrong == "torso":
        values["neutral"]["torso"] = [1, 2, 3]
    if wrong == "nan":
        values["neutral"]["expression"][0] = float("nan")
    if wrong == "range":
        values["filmed"] = [1.0]
    if wrong == "endless":
        values["filmed"] = [0.0, float("inf")]
    if wrong == "word":
        values["neutral"]["joints"] = "none"
    text = {"nothing": "", "list": "[]"}.get(wrong) or json.dumps(values)
    with pytest.raises(FormatError, match=r"^me\.safetensors"):
        Subject.from_json(text if wrong != "nothing" else "", "me.safetensors")
