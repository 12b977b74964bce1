from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from deja_vu.avatars import GaussianAvatar, GaussianConfig, save_avatar
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.orbit import orbit
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.subject import Subject
from deja_vu.heads import load_head
from deja_vu.io.files import digest, write_json
from deja_vu.io.tracked_folder import write_sequence
from deja_vu.io.video import probe, read_frames, write_video
from deja_vu.motion.config import RetargetConfig, TorsoMode
from deja_vu.motion.script import ScriptMotion
from deja_vu.motion.tracked import TrackedMotion
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.configs import DriveConfig
from deja_vu.pipelines.drive import frame_camera, perform
from deja_vu.pipelines.own_motion import own_motion
from deja_vu.pipelines.painter import Painter, fill_frame, open_background
from deja_vu.pipelines.person import subject_of
from tests.helpers.people import as_sequence
from tests.helpers.videos import add_click, heard
from tests.pipelines.conftest import unlisted
from tests.pipelines.test_cli import refused, snapshot

__all__ = ["refused"]
CAMERA = Camera.from_focal(100.0, 64, 64)
SCRIPT = "fps: 10\nkeyframes: [{at: 0}, {at: 0.4, weights: {jawOpen: 1}, head: {yaw: 30}}]\n"


@pytest.fixture
def run(film, painted, tmp_path) -> Path:
    """A finished run of the toy head, as far as driving looks at it."""
    film(tmp_path / "run" / "track")
    save_avatar(painted, tmp_path / "run" / "avatar.safetensors", {})
    return tmp_path / "run"


@pytest.fixture
def script(tmp_path) -> Path:
    (tmp_path / "script.yaml").write_text(SCRIPT)
    return tmp_path / "script.yaml"


def test_a_script_moves_the_avatar(run, script, tmp_path) -> None:
    main(["drive", str(run), "--motion", str(script), "--out", str(tmp_path / "a.mp4")])
    assert probe(tmp_path / "a.mp4").fps == 10
    frames = [image.astype(int) for _, _, image in read_frames(tmp_path / "a.mp4")]
    assert len(frames) == 5
    assert np.abs(frames[4] - frames[0]).mean() > 3


def test_a_film_of_the_person_drives_as_its_pixels_say(run, film, painted, tmp_path) -> None:
    """Tracked with shut mouth and open eyes, a film that shows otherwise moves the avatar as it shows: nearer to what was filmed."""
    sequence = film(tmp_path / "film")
    wrong = replace(sequence, params=replace(sequence.params, expression=torch.full_like(sequence.params.expression, 0.3)))
    write_sequence(wrong)
    subject = subject_of(sequence, painted)
    fitted = own_motion(wrong, painted, subject, "fit")
    moved = torch.cat([params.expression for params in fitted.frames()])
    before, after = ((values - sequence.params.expression)[:, [0, 3]].abs().mean() for values in (wrong.params.expression, moved))
    assert after < 0.75 * before  # 96 pixels a side, and springs that hold to what was tracked
    assert torch.equal(fitted.neutral.expression, subject.neutral.expression)
    main(["drive", str(run), "--motion", str(tmp_path / "film"), "--fit", "--out", str(tmp_path / "fit.mp4")])
    main(["drive", str(run), "--motion", str(tmp_path / "film"), "--out", str(tmp_path / "plain.mp4")])
    shown, plain = (np.stack([image for _, _, image in read_frames(tmp_path / f"{name}.mp4")]) for name in ("fit", "plain"))
    assert shown.shape == plain.shape
    assert np.abs(shown.astype(int) - plain).mean() > 0.2


def test_what_moves_no_torso_is_said(run, script, capsys, tmp_path) -> None:
    """A head alone has none; and a script has none that a person's could do as."""
    main(["drive", str(run), "--motion", str(script), "--out", str(tmp_path / "a.mp4"), "--torso", "follow"])
    assert "the avatar is a head alone; --torso follow moves nothing" in capsys.readouterr().out
    person, subject = whole_person()
    source = ScriptMotion(script, person.head)
    driven = {mode: HeadParams.cat(list(perform(subject, source, drive_config(mode), person))) for mode in ("still", "source", "follow")}
    assert "no torso of its own" in capsys.readouterr().out
    assert torch.equal(driven["still"].torso, driven["source"].torso)
    rest = subject.neutral.world_from_torso.expand(len(source), 4, 4)
    torch.testing.assert_close(driven["still"].world_from_torso, rest, rtol=0, atol=1e-6)
    assert (driven["follow"].world_from_torso - rest).abs().max() > 1e-3  # 5 degrees of yaw beyond 25, a quarter of them


def test_a_persons_own_torso_comes_back_from_the_film(tmp_path) -> None:
    person, subject = whole_person()
    frames = subject.neutral[[0] * 5]
    sway = torch.linspace(-0.02, 0.02, 5)
    frames.torso[:, 0, 3] += sway
    film = TrackedMotion(as_sequence(frames, "anny"))
    own = replace(subject, neutral=film.neutral)
    driven = HeadParams.cat(list(perform(own, film, drive_config("source"), person)))
    torch.testing.assert_close(driven.world_from_torso, frames.world_from_torso, rtol=0, atol=1e-5)
    still = HeadParams.cat(list(perform(own, film, drive_config("still"), person)))
    assert (still.world_from_torso - own.neutral.world_from_torso).abs().max() < 1e-5


def drive_config(torso: TorsoMode) -> DriveConfig:
    return DriveConfig(retarget=RetargetConfig(torso=torso))


def whole_person() -> tuple[GaussianAvatar, Subject]:
    """An avatar of head and torso without color, and whose it is."""
    head = load_head("anny")
    config = GaussianConfig(uv_size=64, blend_size=64, bust_size=64, bust_blend_size=64, blendmaps=0)
    neutral = head.neutral((1,))
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None].clone()
    pose[0, 2, 3] = 0.8
    subject = Subject("whole", "anny", replace(neutral, world_from_head=pose, torso=neutral.torso.clone()), CAMERA, 25.0)
    return GaussianAvatar(head, torch.zeros(head.spec.num_shape), config).eval(), subject


def test_backgrounds_and_transparency_agree(run, script, tmp_path) -> None:
    """The same motion over white, over a picture and transparent: all three are one picture, composited."""
    picture = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "room.png"), picture[..., ::-1])
    outs = {"clear": [], "white": ["--background", "ffffff"], "room": ["--background", str(tmp_path / "room.png")]}
    for name, flags in outs.items():
        main(["drive", str(run), "--motion", str(script), "--out", str(tmp_path / name), "--frames", "2", *flags])
        assert len(list((tmp_path / name).glob("*.png"))) == 2
        assert unlisted(tmp_path / name) == set()
    read = {name: cv2.imread(str(tmp_path / name / "000001.png"), cv2.IMREAD_UNCHANGED).astype(float) for name in outs}
    assert {name: image.shape[2] for name, image in read.items()} == {"clear": 4, "white": 3, "room": 3}
    alpha = read["clear"][..., 3:] / 255
    assert alpha.min() == 0
    assert alpha.max() > 0.95
    room = fill_frame(picture, 96, 96).numpy()[..., ::-1] * 255
    for name, behind in (("white", 255.0), ("room", room)):
        # Half a step of 8 bits in color and in alpha, and again when the result is rounded.
        assert np.abs(read["clear"][..., :3] * alpha + behind * (1 - alpha) - read[name]).max() < 2


def test_pictures_can_be_larger(run, script, tmp_path) -> None:
    main(["drive", str(run), "--motion", str(script), "--out", str(tmp_path / "a.webm"), "--frames", "1", "--size", "160"])
    info = probe(tmp_path / "a.webm")
    assert (info.width, info.height) == (160, 160)


def test_gain_and_stillness_are_heard(run, script, tmp_path) -> None:
    def last(*flags: str) -> np.ndarray:
        out = tmp_path / "_".join(["pictures", *flags])
        main(["drive", str(run), "--motion", str(script), "--out", str(out), *flags])
        return cv2.imread(str(out / "000004.png"), cv2.IMREAD_UNCHANGED).astype(int)

    moved, still = last(), last("--no-turn", "--gain", "0")
    first = cv2.imread(str(tmp_path / "pictures" / "000000.png"), cv2.IMREAD_UNCHANGED).astype(int)
    assert np.abs(still - first).max() <= 1  # a rotation that is composed from its factors differs in the last bits
    assert np.abs(moved - first).mean() > 3


def test_what_cannot_be_done_is_refused_before_anything_is_written(refused, run, script, tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    before = snapshot(tmp_path)

    def says(*arguments: object) -> str:
        message = refused("drive", run, *arguments)
        assert snapshot(tmp_path) == before
        return message

    assert "'.gif' cannot be written" in says("--motion", script, "--out", tmp_path / "a.gif")
    assert "holds files, but no run" in says("--motion", script, "--out", tmp_path / "full")
    assert "does not exist" in says("--motion", script, "--out", tmp_path / "absent" / "a.mp4")
    assert ".[virtual-camera]" in says("--motion", script, "--out", "virtual-camera")
    assert "is no color" in says("--motion", script, "--out", tmp_path / "a.mp4", "--background", "mauve-ish")
    (tmp_path / "metrics.json").write_text("{}")
    before = snapshot(tmp_path)
    assert "metrics.json is not a motion. Expected a video" in says("--motion", tmp_path / "metrics.json", "--out", tmp_path / "a.mp4")
    assert "Expected the path of an expression script" in says("--motion", tmp_path / "none.yml", "--out", tmp_path / "a.mp4")
    assert "ARKit's 52 expressions" in says("--motion", tmp_path / "bad.csv", "--out", tmp_path / "a.mp4")
    assert "There is no camera 77" in says("--motion", "webcam:77", "--out", tmp_path / "a.mp4")
    assert "There is no file webcam:99999999999999999999" in says("--motion", "webcam:9" + 19 * "9", "--out", tmp_path / "a.mp4")
    for motion in ("webcam:77", script):
        assert "--neutral-at is for recordings" in says("--motion", motion, "--neutral-at", "1", "--out", tmp_path / "a.mp4")
    assert "has not. Personalize again" in says("--motion", run, "--read", "--out", tmp_path / "a.mp4")
    assert "need a video of the person" in says("--motion", script, "--fit", "--out", tmp_path / "a.mp4")
    assert "has not. Personalize again" in says("--motion", "webcam:77", "--read", "--out", tmp_path / "a.mp4")
    assert "--read takes a camera" in says("--motion", "webcam:77", "--fit", "--out", tmp_path / "a.mp4")
    assert "give one of them" in says("--motion", run, "--fit", "--read", "--out", tmp_path / "a.mp4")
    assert "from 0 to" in says("--motion", run, "--neutral-at", "99", "--out", tmp_path / "a.mp4")


def test_a_picture_behind_is_scaled_to_fill_and_cut_in_the_middle() -> None:
    picture = np.zeros((10, 40, 3), np.uint8)
    picture[:, 13:27] = 255
    filled = fill_frame(picture, 20, 20)
    assert filled.shape == (20, 20, 3)
    assert filled.min() == 1  # only the middle quarter of its width


def test_colors_have_names_and_codes() -> None:
    assert open_background("white").tolist() == [1, 1, 1]
    assert open_background("#00b140").tolist() == open_background("green").tolist() == pytest.approx([0, 177 / 255, 64 / 255])


def test_the_painter_shows_what_render_gives(run, painted) -> None:
    sequence = TrackedSequence.load(run / "track")
    painted_picture = Painter(painted, sequence.camera, torch.tensor([0.2, 0.4, 0.6]))(sequence.params[3:4])
    with torch.no_grad():
        out = painted.render(sequence.params[3:4], sequence.camera, torch.tensor([0.2, 0.4, 0.6]))
    assert np.array_equal(painted_picture, (out.rgb[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy())


@pytest.mark.parametrize("background", [torch.tensor([0.2, 0.4, 0.6]), None, np.full((48, 48, 3), 9, np.uint8)])
def test_frames_drawn_together_are_those_drawn_alone(run, painted, background) -> None:
    sequence = TrackedSequence.load(run / "track")
    paint = Painter(painted, sequence.camera.resize(48, 48), background)
    frames = [sequence.params[place : place + 1] for place in range(5)]
    alone = [paint(params) for params in frames]
    for together in (1, 2, 8):
        assert np.array_equal(np.stack(list(paint.stream(iter(frames), together=together))), np.stack(alone))
    cameras = [orbit(sequence.camera.resize(48, 48), torch.zeros(3), 0.1 * number) for number in range(5)]
    beside = [paint(*view) for view in zip(frames, cameras, strict=True)]
    assert np.array_equal(np.stack(list(paint.stream(frames, cameras, together=3))), np.stack(beside))
    assert not np.array_equal(beside[4], alone[4])
    assert paint.together == 1  # on a CPU


def test_a_wide_picture_shows_the_square_one_in_its_middle(tracked) -> None:
    """Every point lands at the same place of the square that the wide picture's height spans."""
    points = torch.tensor([[0.02, -0.01, 0.5], [-0.05, 0.04, 0.55]])
    square, _ = tracked.camera.resize(48, 48).project(points)
    for size, shift in (((64, 48), (8.0, 0.0)), ((48, 64), (0.0, 8.0)), ((48,), (0.0, 0.0))):
        camera = frame_camera(tracked.camera, size)
        assert (camera.width, camera.height) == (size[0], size[-1])
        torch.testing.assert_close(camera.project(points)[0], square + torch.tensor(shift))


@pytest.mark.parametrize("moved", [False, True])
def test_the_sound_of_a_tracked_video_is_kept_while_the_video_is_there(run, film, tmp_path, moved) -> None:
    write_video(tmp_path / "silent.mp4", [np.zeros((64, 64, 3), np.uint8)] * 10, 25)
    video = add_click(tmp_path / "silent.mp4", tmp_path / "filmed.mp4", 0.2, 0.4)
    motion = film(tmp_path / "motion", frames=10).folder
    content = {"source_sha256": digest(video)}
    write_json(motion / "track.json", json.loads((motion / "track.json").read_text()) | content)
    write_json(motion / "run.json", {"program": "deja-vu", "format": 1, "kind": "track", "source": str(video)} | content)
    if moved:
        video.rename(tmp_path / "elsewhere.mp4")
    main(["drive", str(run), "--motion", str(motion), "--out", str(tmp_path / "driven.mp4")])
    with av.open(str(tmp_path / "driven.mp4")) as container:
        assert bool(container.streams.audio) != moved
    if not moved:
        assert heard(tmp_path / "driven.mp4")[0] == pytest.approx(0.2, abs=0.012)  # half a block of the encoder
    main(["drive", str(run), "--motion", str(motion), "--out", str(tmp_path / "silent_one.mp4"), "--sound", "none", "--frames", "2"])
    with av.open(str(tmp_path / "silent_one.mp4")) as container:
        assert not container.streams.audio


def test_size_and_rate_are_those_asked_for(run, film, tmp_path) -> None:
    film(tmp_path / "motion", frames=10)
    call = ["drive", str(run), "--motion", str(tmp_path / "motion"), "--size", "64", "48", "--out"]
    for fps, frames in ((50, 20), (12.5, 5), (25, 10)):
        out = tmp_path / f"{fps}.mp4"
        main([*call, str(out), "--fps", str(fps)])
        info = probe(out)
        assert (info.width, info.height, info.frames, info.fps) == (64, 48, frames, fps)
