from __future__ import annotations

import os
import warnings

import cv2
import numpy as np
import pytest
import torch

from deja_vu.core.errors import InputError, OutputError
from deja_vu.heads import load_head
from deja_vu.io.arrays import write_picture
from deja_vu.io.assets import find
from deja_vu.io.decode import FileMark
from deja_vu.io.tracked_folder import write_masks
from deja_vu.io.video import InputWarning, VideoInfo
from deja_vu.pipelines.sample import write_sample
from deja_vu.tracking.config import HeadMaskConfig, PhotometricConfig, TrackConfig
from deja_vu.tracking.crop import Crop, crop_frame, crop_valid
from deja_vu.tracking.frames import FrameWriter, StoredWindow, begin_track, read_foreground
from deja_vu.tracking.landmarks import Detections, detect_video
from deja_vu.tracking.letterbox import Filmed
from deja_vu.tracking.masks import HeadMasks
from deja_vu.tracking.matte import Matting
from deja_vu.tracking.matte_check import check_mattes
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.tracker import BLOCK, BLOCK_PERIOD, choose_windows, split_frames, track_video


@pytest.mark.parametrize("count", [3, 10, 41, 450])
def test_the_tail_is_the_last_fifth(count) -> None:
    test = split_frames(count, "tail")
    assert int(test.sum()) == pytest.approx(0.2 * count, abs=0.5)
    assert torch.equal(test, test.sort().values)  # no training frame follows a test frame


def test_blocks_are_every_fifth_of_sixteen_frames() -> None:
    test = split_frames(400, "blocks")
    assert int(test.sum()) == 80
    begins = (test[1:] & ~test[:-1]).nonzero()[:, 0] + 1
    assert begins.tolist() == [BLOCK * (BLOCK_PERIOD * k + BLOCK_PERIOD - 1) for k in range(5)]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_filmed_frames_are_closed_to_others(tmp_path, umask):
    before = os.umask(umask)
    try:
        begin_track(tmp_path / "track")
        write_picture(tmp_path / "track" / "frames" / "a.png", np.zeros((2, 2, 3), np.uint8))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "track").rglob("*")}
    assert modes.pop("a.png") == 0o666 & ~umask, "files follow the umask, so that a copy can be given away"
    assert set(modes.values()) == {0o700}
    assert (tmp_path / "track").stat().st_mode & 0o777 == 0o777 & ~umask, "poses and camera are results"


def test_frames_of_another_video_or_of_the_users_are_never_mixed_with_new_ones(tmp_path) -> None:
    begin_track(tmp_path)
    begin_track(tmp_path)  # nothing was written yet
    (tmp_path / "frames" / "holiday.jpg").write_text("mine")
    with pytest.raises(OutputError, match="holds frames already"):
        begin_track(tmp_path)
    assert (tmp_path / "frames" / "holiday.jpg").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        begin_track(tmp_path / "file" / "track")


def test_both_windows_agree_where_the_head_ends(tmp_path) -> None:
    """The masks of the wider window, where it shows the head's, are those of the head's: its camera sees the same head smaller."""
    side, head = 192, load_head("anny")
    one = np.zeros(1)
    found = Detections(
        info=VideoInfo(256, 256, 25.0, 1, 0, 1.0),
        frames_read=1,
        index=one.astype(int),
        times=one,
        found=one == 0,
        landmarks=np.zeros((1, 478, 3), np.float32),
        scores=np.zeros((1, 52)),
        transforms=np.eye(4)[None],
        crop=Crop(64, 40, 128),
        filmed=Filmed(0, 0, 256, 256),
        mark=FileMark.of(tmp_path / "none.mp4"),
    )
    head_window, wide = found.crop, Crop(0, 8, 256)
    windows = [StoredWindow(name, crop, crop.camera(1.8, 256, 256, side), 64) for name, crop in (("head", head_window), ("person", wide))]
    begin_track(tmp_path)
    for window in windows:
        write_masks(tmp_path, 0, np.full((side, side, 4), 255, np.uint8), window.name)
    neutral = head.neutral((1,))
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None].clone()
    pose[0, 2, 3] = 0.9
    log_focal = (windows[0].camera.intrinsics[0, 0] / side).log() + 0.1  # not what was expected
    state = TrackState(neutral.shape[0], log_focal, neutral.expression, neutral.joints, pose)
    FrameWriter(tmp_path / "none.mp4", found, tmp_path, windows).write_head_masks(HeadMasks(head, HeadMaskConfig()), state)
    close, far = (cv2.imread(str(tmp_path / name / "000000.png"), cv2.IMREAD_UNCHANGED)[..., 1:3] for name in ("masks", "person_masks"))
    part = cv2.resize(far[24:120, 48:144], (side, side), interpolation=cv2.INTER_LINEAR)
    differs = np.abs(close.astype(int) - part) > 64
    assert differs.mean() < 0.03  # the masks are drawn on grids of one size, which are coarser over the wider window
    assert (close[..., 0] > 127).mean() > 0.2


@pytest.mark.skipif(
    find("face_landmarker") is None or find("selfie_segmenter") is None, reason="a model is not here: python -m deja_vu.io.assets"
)
def test_in_a_close_film_the_person_is_what_was_drawn(tmp_path) -> None:
    """Where the crop reaches beyond the picture, nothing that was not filmed may pass for a wall, nor be stored as person."""
    side = 256
    subject = write_sample(tmp_path / "close.mp4", 3, size=side, close=True)
    detections = detect_video(tmp_path / "close.mp4")
    assert min(detections.crop.x0, detections.crop.y0) < -10
    begin_track(tmp_path / "out")
    head, _ = choose_windows(detections, TrackConfig(resolution=side, photometric=PhotometricConfig(resolution=side)))
    writer = FrameWriter(tmp_path / "close.mp4", detections, tmp_path / "out", [head])
    with Matting() as matting:
        (crops,) = writer.write_crops([matting])
    valid = crop_valid(detections.filmed, detections.crop, side)
    beyond, filmed = valid == 0, valid == 255
    for index in range(3):
        alpha = read_foreground(tmp_path / "out", index)
        truth = crop_frame(subject.render(index).foreground, detections.crop, side, border=0)
        # As exact as with the landmarks' truth and before the codec; 64 of 255 with a white margin.
        assert cv2.absdiff(alpha, truth)[filmed].mean() < 2.5
        assert not alpha[beyond].any()
        assert not crops.alpha[index].numpy()[beyond].any()
        stored = cv2.imread(str(tmp_path / "out" / "frames" / f"{index:06d}.jpg"))[..., ::-1]
        assert cv2.absdiff(np.ascontiguousarray(stored), crops.rgb[index].numpy())[beyond].mean() < 4, "the border is repeated"
    assert check_mattes(crops.alpha.numpy(), valid, np.arange(3)) == ()


@pytest.mark.skipif(find("face_landmarker") is None, reason="the landmarker is not here: python -m deja_vu.io.assets")
@pytest.mark.parametrize(("frames", "split"), [(2, "tail"), (8, "blocks")])
def test_a_video_too_short_for_a_test_is_refused(tmp_path, frames, split) -> None:
    write_sample(tmp_path / "person.mp4", frames, size=256)
    with pytest.raises(InputError, match=f"{frames} frames with a face are too few .* '{split}'"):
        track_video(tmp_path / "person.mp4", tmp_path / "out", TrackConfig(split=split))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(
    find("face_landmarker") is None or find("selfie_segmenter") is None, reason="a model is not here: python -m deja_vu.io.assets"
)
def test_a_film_that_grows_or_is_cut_while_it_is_read_is_told_and_leaves_nothing(tmp_path) -> None:
    film, frames = tmp_path / "film.mp4", 6
    write_sample(film, frames, size=192)
    whole = film.read_bytes()

    def append(done: int, _: int) -> None:
        with film.open("ab") as file:
            file.write(bytes(1000) if done == 2 else b"")

    def shorten(done: int, _: int) -> None:
        os.truncate(film, len(whole) * 9 // 10 if done == 2 else film.stat().st_size)

    for change, said in ((append, "grew from"), (shorten, "shrank from")):
        film.write_bytes(whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)  # that it is cut off
            with pytest.raises(InputError, match=f"{said} .* while it was read"):
                detect_video(film, progress=change)
    film.write_bytes(whole)
    detections = detect_video(film)
    film.write_bytes(whole + b"\0")
    begin_track(tmp_path / "out")
    head, person = choose_windows(detections, TrackConfig(resolution=96))
    with Matting() as first, Matting() as second, pytest.raises(InputError, match=r"grew from .* Wait until it is recorded or copied"):
        FrameWriter(film, detections, tmp_path / "out", [head, person]).write_crops([first, second])
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
