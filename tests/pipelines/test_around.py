"""An avatar of a made-up person against the truth from all sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deja_vu.avatars import GaussianAvatar, GaussianConfig, save_avatar
from deja_vu.core.camera import Camera
from deja_vu.core.errors import FormatError, InputError
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.datasets.synthetic import PARTS
from deja_vu.io.assets import find
from deja_vu.io.tracked_folder import write_frame, write_masks, write_sequence
from deja_vu.pipelines.around import MadeUpPerson, load_person
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.sample import write_sample

SIDE = 64
needs_perceptual = pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run whose avatar is the true head in gray, tracked without an error; the film and its truth lie beside it."""
    folder = tmp_path_factory.mktemp("around")
    subject = write_sample(folder / "film.mp4", 3, size=SIDE)
    track = folder / "run" / "track"
    for name in ("frames", "masks"):
        (track / name).mkdir(parents=True)
    for index in range(3):
        shown = subject.render(index)
        write_frame(track, index, shown.image)
        valid = np.full((SIDE, SIDE), 255, np.uint8)
        write_masks(track, index, np.stack([shown.foreground, shown.foreground, np.zeros_like(valid), valid], -1))
    info = TrackInfo("film", "anny", 25.0, "film.mp4", "0" * 64, 3, (0, 0, SIDE, SIDE), SIDE, "tail", ())
    camera = Camera(torch.eye(4), subject.camera.intrinsics, SIDE, SIDE)
    test = torch.tensor([False, False, True])
    write_sequence(TrackedSequence(track, info, subject.params, camera, torch.arange(3), torch.arange(3) / 25, test))
    avatar = GaussianAvatar(subject.head, subject.params.shape[0], GaussianConfig(uv_size=64, blendmaps=0))
    save_avatar(avatar, folder / "run" / "avatar.safetensors", {})
    return folder / "run"


@needs_perceptual
def test_a_run_is_scored_from_all_sides_where_the_truth_is_given(run, tmp_path):
    figures, seen = tmp_path / "figures.json", tmp_path / "seen"
    truth = run.parent / "film.truth.safetensors"
    main(["evaluate", str(run), "--truth", str(truth), "--save-frames", str(seen), "--json", str(figures)])
    around = json.loads(figures.read_text())["around"]
    assert list(around) == ["0", "30", "60", "90", "180"]
    for scores in around.values():
        assert scores["psnr"] > 8, "gray on white"
        assert scores["ssim"] > 0.4
    assert (seen / "around.png").is_file()


def test_a_view_tells_head_from_body_and_mouth_from_skin(run):
    person = load_person(run, run.parent / "film.truth.safetensors")
    camera = person.camera().resize(128, 128)
    view, parts = person.view(0, camera), person.subject.render(0, camera).parts
    shirt = torch.from_numpy(parts == PARTS.index("shirt"))
    assert shirt.any()
    assert not (view.scored & shirt).any()
    assert not (view.inside & ~view.scored).any()
    assert view.scored[torch.from_numpy(parts == PARTS.index("background"))].float().mean() > 0.9
    assert 0.05 < view.inside.float().mean() < 0.5


def test_the_filming_camera_sees_the_same_as_in_the_film(run):
    """But for the sensor's noise (1.1 of 255, here within five deviations) and for what stands behind the person."""
    subject = load_person(run, run.parent / "film.truth.safetensors").subject
    filmed, seen = subject.render(1), subject.render(1, subject.camera)
    solid = filmed.foreground == 255
    assert np.array_equal(filmed.parts, seen.parts)
    assert np.abs(filmed.image[solid].astype(int) - seen.image[solid]).max() <= 7
    assert (seen.image[seen.foreground == 0] == 255).all()


def test_the_light_stays_when_the_camera_moves(run):
    """The key light comes from the left of the picture: from behind, at its right, the same cheek is as bright as before."""
    person = load_person(run, run.parent / "film.truth.safetensors")
    assert isinstance(person, MadeUpPerson)
    subject = person.subject
    pose = subject.camera.camera_from_world.clone()
    pose[:3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    pose[:3, 3] = torch.tensor([0.0, 0.0, 2 * float(subject.params.world_from_head[0, 2, 3])])
    back = subject.render(0, Camera(pose, subject.camera.intrinsics, SIDE, SIDE))
    hair = back.parts == PARTS.index("hair")
    left, right = (hair & half for half in (np.arange(SIDE)[None] < SIDE / 2, np.arange(SIDE)[None] > SIDE / 2))
    assert hair.mean() > 0.05
    assert abs(back.image[left].mean() - back.image[right].mean()) > 3, "the lamps do not stand symmetrically"


def test_the_truth_about_another_film_is_refused(run, tmp_path):
    write_sample(tmp_path / "other.mp4", 2, size=SIDE)
    with pytest.raises(InputError, match="knows 2 frames"):
        load_person(run, tmp_path / "other.truth.safetensors")


def test_a_file_that_is_no_truth_is_refused(run, tmp_path):
    save_file({"expression": torch.zeros(3, 2)}, tmp_path / "bare.safetensors")
    (tmp_path / "text").write_text("no tensors")
    for name in ("bare.safetensors", "text", "absent"):
        with pytest.raises(FormatError, match="deja-vu sample"):
            load_person(run, tmp_path / name)
