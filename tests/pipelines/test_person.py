"""A person from a run or from the avatar's file alone, as commands and notebooks use it."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import deja_vu
from deja_vu.avatars import save_avatar
from deja_vu.io.video import probe, read_frames
from deja_vu.motion.actor import PRESETS
from deja_vu.motion.neutral import face_camera
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.person import subject_of
from deja_vu.pipelines.view import open_viewer
from tests.pipelines.test_cli import refused
from tests.pipelines.test_view import ViewerConfig, free_port, needs_viser

__all__ = ["refused"]


@pytest.fixture
def run(film, painted, tmp_path) -> Path:
    """A run whose avatar says whose it is."""
    video = film(tmp_path / "me" / "track")
    save_avatar(painted, tmp_path / "me" / "avatar.safetensors", {}, subject_of(video, painted))
    return tmp_path / "me"


@pytest.fixture
def alone(run, tmp_path) -> Path:
    """The avatar's file, far from any video."""
    (tmp_path / "elsewhere").mkdir()
    return Path(shutil.copy(run / "avatar.safetensors", tmp_path / "elsewhere" / "friend.safetensors"))


def test_a_file_alone_is_the_same_person(run, alone) -> None:
    ours, theirs = deja_vu.load(run), deja_vu.load(str(alone))
    assert ours.video is not None
    assert theirs.video is None
    for name in ("shape", "expression", "joints", "world_from_head"):
        assert torch.equal(getattr(ours.subject.neutral, name), getattr(theirs.subject.neutral, name))
    pictures = [np.asarray(person.render({"jawOpen": 0.6}, yaw=15, size=64)) for person in (ours, theirs)]
    assert np.array_equal(*pictures)


def test_from_where_one_filmed_is_known_from_the_video_where_the_file_does_not_say(run, painted) -> None:
    subject = deja_vu.load(run).subject
    assert subject.filmed is not None
    save_avatar(painted, run / "avatar.safetensors", {}, replace(subject, filmed=None))
    assert deja_vu.load(run).subject.filmed == subject.filmed


def test_a_run_of_an_older_version_gives_the_same_person(run, alone, film, painted, refused) -> None:
    """It has no subject in its header; its tracked video says the same, and without that it is refused."""
    before = deja_vu.load(run)
    save_avatar(painted, run / "avatar.safetensors", {})
    after = deja_vu.load(run)
    assert torch.equal(before.subject.neutral.expression, after.subject.neutral.expression)
    assert torch.equal(before.subject.camera.intrinsics, after.subject.camera.intrinsics)
    save_avatar(painted, alone, {})
    assert "an older version wrote it" in refused("drive", alone, "--motion", run, "--out", run / "x.mp4")


def test_pictures_are_of_the_pose_asked_for(run) -> None:
    """A face at rest is what the avatar renders of its neutral parameters; a pose is what its parameters say."""
    me = deja_vu.load(run)
    neutral = face_camera(me.subject.neutral)
    with torch.no_grad():
        rgb = me.avatar.render(neutral, me.subject.camera.resize(48, 48), torch.ones(3)).rgb[0]
    # Half a step of eight bits, and the rounding of a retargeting that changes nothing.
    assert np.abs(np.asarray(me.render(size=48)) / 255 - rgb.clamp(0, 1).numpy()).max() < 0.6 / 255 + 1e-3
    turned = me.params({"jawOpen": 0.5}, yaw=30)
    assert float(turned.expression[0, 0] - me.params().expression[0, 0]) == pytest.approx(0.5, abs=1e-5)
    ahead, left = (pose.world_from_head[0, :3, 2] for pose in (me.params(), turned))
    assert float(torch.rad2deg(torch.arccos((ahead @ left).clamp(-1, 1)))) == pytest.approx(30, abs=1e-2)
    assert left[0] > 0, "to the person's own left, which is on the right of the picture"


def test_presets_and_weights_say_the_same(run) -> None:
    me = deja_vu.load(run)
    known = {name: value for name, value in PRESETS["a"].items() if name in me.head.spec.expression_names}
    assert torch.equal(me.params("a").expression, me.params(known).expression)


def test_a_transparent_picture_and_a_notebooks(run) -> None:
    me = deja_vu.load(run)
    clear = me.render(size=48, background=None)
    assert (clear.mode, clear.size) == ("RGBA", (48, 48))
    assert np.asarray(clear)[0, 0, 3] == 0
    shown = Image.open(io.BytesIO(me._repr_png_()))
    assert shown.size == (320, 320)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"face": {"jawOpn": 1.0}}, "no expression 'jawOpn'. Did you mean 'jawOpen'"),
        ({"face": "smle"}, "no face 'smle'. Did you mean 'smile'"),
        ({"size": 0}, "side of 0 pixels"),
        ({"background": "rde"}, "is no color"),
    ],
)
def test_what_is_not_known_is_refused(run, call, expected) -> None:
    with pytest.raises(deja_vu.core.errors.InputError, match=expected):
        deja_vu.load(run).render(**call)


def test_a_damaged_header_is_refused(alone, refused, tmp_path) -> None:
    def says(change: dict[str, object], expected: str) -> None:
        with safe_open(alone, framework="pt") as file:
            header = file.metadata()
        subject = json.loads(header["subject"])
        save_file(load_file(alone), tmp_path / "wrong.safetensors", metadata=header | {"subject": json.dumps(subject | change)})
        assert expected in refused("drive", tmp_path / "wrong.safetensors", "--motion", tmp_path / "me", "--out", tmp_path / "x.mp4")

    says({"head": "anny"}, "neutral face is of another head than 'toy'")
    says({"camera": {}}, "cannot be read")
    says({"neutral": {"shape": [0.0]}}, "cannot be read")


def test_an_avatars_file_is_driven_and_exported_like_its_run(run, alone, tmp_path) -> None:
    for name, source in (("run", run), ("file", alone)):
        main(["drive", str(source), "--motion", str(run / "track"), "--out", str(tmp_path / f"{name}.mp4"), "--frames", "2"])
        main(["export", str(source), "--format", "ply", "--out", str(tmp_path / f"{name}.ply")])
        main(["export", str(source), "--format", "web", "--out", str(tmp_path / f"{name}_page")])
    assert probe(tmp_path / "file.mp4").frames == 2
    ours, theirs = ([image for _, _, image in read_frames(tmp_path / f"{name}.mp4")] for name in ("run", "file"))
    assert np.array_equal(ours[0], theirs[0])
    assert (tmp_path / "run.ply").read_bytes() == (tmp_path / "file.ply").read_bytes()
    assert (tmp_path / "file_page" / "index.html").is_file()


@needs_viser
def test_an_avatars_file_is_viewed_without_a_video(run, alone) -> None:
    with open_viewer((alone, run), (), ViewerConfig(port=free_port(), size=128)) as viewer:
        first, second = viewer.stage.performers
        assert (first.name, first.sequence) == ("friend", None)
        assert list(viewer.stage.clips) == ["As filmed: me"]
        assert first.fov == second.fov
        assert replace(first.neutral).expression.equal(second.neutral.expression)
