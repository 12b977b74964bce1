from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from deja_vu.core.camera import Camera
from deja_vu.core.errors import FormatError, InputError, OutputError
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import Frame, TrackedSequence, TrackInfo, leave_out_undecided, window_camera
from deja_vu.io.tracked_folder import write_frame, write_masks, write_sequence

FRAMES, SIDE = 6, 32


def picture(index: int) -> np.ndarray:
    """A smooth picture, which JPEG keeps well, with red, green and blue that differ."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.stack([100 + 4 * rows, 60 + 3 * columns, np.full_like(rows, 20 + 10 * index)], -1).astype(np.uint8)


def planes(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)


@pytest.fixture
def sequence(tmp_path: Path) -> TrackedSequence:
    """Six frames with gaps in the source, on disk."""
    generator = torch.Generator().manual_seed(0)
    for name in ("frames", "masks"):
        (tmp_path / name).mkdir()
    index = torch.tensor([0, 1, 2, 5, 6, 9])
    for source in index.tolist():
        write_frame(tmp_path, source, picture(source))
        write_masks(tmp_path, source, planes(source))
    pose = torch.eye(4).repeat(FRAMES, 1, 1)
    pose[:, :3, 3] = torch.randn(FRAMES, 3, generator=generator)
    shape = torch.randn(4, generator=generator).expand(FRAMES, -1)
    params = HeadParams(shape, torch.rand(FRAMES, 5, generator=generator), torch.randn(FRAMES, 2, 3, generator=generator), pose)
    info = TrackInfo("me", "toy", 29.97, "me.mp4", "0" * 64, 10, (-4, 3, 60, 67), SIDE, "tail", ("two faces",))
    made = TrackedSequence(tmp_path, info, params, Camera.from_focal(77.5, SIDE, SIDE), index, index / 30, index > 5)
    write_sequence(made)
    return made


def test_a_saved_sequence_loads_equal(sequence) -> None:
    loaded = TrackedSequence.load(sequence.folder)
    assert loaded.info == sequence.info
    assert len(loaded) == FRAMES
    for field in fields(HeadParams):
        assert torch.equal(getattr(loaded.params, field.name), getattr(sequence.params, field.name)), field.name
    for name in ("index", "times", "test"):
        assert torch.equal(getattr(loaded, name), getattr(sequence, name)), name
    assert torch.equal(loaded.camera.intrinsics, sequence.camera.intrinsics)
    assert torch.equal(loaded.camera.camera_from_world, torch.eye(4))
    assert (loaded.camera.width, loaded.camera.height) == (SIDE, SIDE)


def test_frames_come_back_by_position_in_rgb_and_with_their_masks(sequence) -> None:
    frame = sequence.frame(3)
    assert isinstance(frame, Frame)
    assert frame.image.dtype == frame.foreground.dtype == torch.uint8
    assert (frame.image.int() - torch.from_numpy(picture(5)).int()).abs().max() <= 6  # JPEG at quality 97
    for plane, name in enumerate(("foreground", "head", "eyes_mouth")):
        np.testing.assert_array_equal(getattr(frame, name).numpy(), planes(5)[..., plane])  # PNG keeps all
    np.testing.assert_array_equal(frame.valid.numpy(), leave_out_undecided(planes(5)))


def test_a_reduced_frame_is_the_mean_over_pixel_areas(sequence) -> None:
    small, large = sequence.frame(2, SIDE // 4), sequence.frame(2)
    mean = large.image.float().unflatten(0, (8, 4)).unflatten(2, (8, 4)).mean((1, 3))
    assert (small.image.float() - mean).abs().max() <= 0.5 + 1e-3
    assert small.foreground.shape == (8, 8)
    assert sequence.frame(2, SIDE).image.equal(large.image)


def test_parts_keep_train_and_test_apart(sequence) -> None:
    train, test = sequence.train_part(), sequence.test_part()
    assert train.index.tolist() == [0, 1, 2, 5]
    assert test.index.tolist() == [6, 9]
    assert torch.equal(test.params.expression, sequence.params.expression[4:])
    assert test.frame(0).image.equal(sequence.frame(4).image)
    assert sequence.select(torch.tensor([3, 1])).index.tolist() == [5, 1]


def test_a_missing_or_damaged_frame_is_refused_by_its_name(sequence) -> None:
    (sequence.folder / "frames" / "000001.jpg").unlink()
    (sequence.folder / "masks" / "000002.png").unlink()
    (sequence.folder / "frames" / "000005.jpg").write_bytes(b"no picture")
    cut = sequence.folder / "frames" / "000006.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    half = sequence.folder / "masks" / "000009.png"
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    sequence.frame(0)
    for position, name in enumerate(("000001", "000002", "000005", "000006", "000009"), 1):
        with pytest.raises(FormatError, match=f"frame {name} is missing or damaged"):
            sequence.frame(position)


def test_a_frame_of_another_size_or_without_all_masks_is_refused(sequence) -> None:
    cv2.imwrite(str(sequence.folder / "frames" / "000001.jpg"), np.zeros((SIDE, SIDE // 2, 3), np.uint8))
    cv2.imwrite(str(sequence.folder / "masks" / "000002.png"), np.zeros((SIDE // 2, SIDE // 2, 4), np.uint8))
    cv2.imwrite(str(sequence.folder / "masks" / "000005.png"), np.zeros((SIDE, SIDE, 3), np.uint8))
    for position in (1, 2, 3):
        for resolution in (None, 16):
            with pytest.raises(FormatError, match="missing or damaged"):
                sequence.frame(position, resolution)


def test_a_folder_that_is_not_tracked_is_refused(sequence, tmp_path) -> None:
    with pytest.raises(InputError, match="is not a tracked folder"):
        TrackedSequence.load(tmp_path / "none")
    (sequence.folder / "params.safetensors").unlink()
    with pytest.raises(InputError, match=r"params\.safetensors"):
        TrackedSequence.load(sequence.folder)


def test_a_torso_that_moves_is_kept_and_one_that_follows_the_head_needs_no_place(sequence) -> None:
    path = sequence.folder / "params.safetensors"
    assert "torso" not in load_file(path)
    torso = torch.eye(4).repeat(FRAMES, 1, 1)
    torso[:, 0, 3] = torch.arange(FRAMES) / 100
    write_sequence(replace(sequence, params=replace(sequence.params, torso=torso)))
    assert torch.equal(TrackedSequence.load(sequence.folder).params.torso, torso)
    assert TrackedSequence.load(sequence.folder).torso_shape is None
    assert "torso_shape" not in load_file(path)
    shape = torch.arange(12) / 10
    write_sequence(replace(sequence, torso_shape=shape))
    assert torch.equal(TrackedSequence.load(sequence.folder).torso_shape, shape)
    save_file(load_file(path) | {"torso_shape": shape[1:]}, path)
    with pytest.raises(FormatError, match=r"torso_shape has shape \(11,\), expected \(12,\)"):
        TrackedSequence.load(sequence.folder)
    write_sequence(sequence)
    save_file(load_file(path) | {"torso": torso[1:]}, path)
    with pytest.raises(FormatError, match=r"torso has shape \(5, 4, 4\), expected \(6, 4, 4\)"):
        TrackedSequence.load(sequence.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, r"format 2, expected 1\. A newer version of this program wrote it: update the program"),
        ({"version": None}, r"format None, expected 1\. Track the video again"),
        ({"fps": None, "color": 3}, "damaged"),
        ({"crop": 5}, "damaged"),
    ],
)
def test_another_version_or_other_fields_are_refused(sequence, change, message) -> None:
    path = sequence.folder / "track.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FormatError, match=message):
        TrackedSequence.load(sequence.folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"'])
def test_a_damaged_description_is_refused(sequence, content) -> None:
    (sequence.folder / "track.json").write_text(content)
    with pytest.raises(FormatError):
        TrackedSequence.load(sequence.folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("expression", lambda value: value.where(value < value.max(), torch.nan), "not finite"),
        ("intrinsics", lambda value: value / 0, "not finite"),
        ("joints", lambda value: None, "damaged"),
        ("expression", lambda value: value[:-1].clone(), "damaged"),
        ("world_from_head", lambda value: value[:, :3].contiguous(), "damaged"),
        ("test", lambda value: value[:2].clone(), "damaged"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(sequence, name, change, message) -> None:
    path = sequence.folder / "params.safetensors"
    tensors = load_file(path)
    tensors[name] = change(tensors[name])
    save_file({key: value for key, value in tensors.items() if value is not None}, path)
    with pytest.raises(FormatError, match=message):
        TrackedSequence.load(sequence.folder)


def test_truncated_parameters_are_refused(sequence) -> None:
    path = sequence.folder / "params.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match="damaged"):
        TrackedSequence.load(sequence.folder)


def test_a_place_that_cannot_be_written_is_refused(tmp_path, sequence) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        write_frame(tmp_path / "file", 0, picture(0))
    with pytest.raises(OutputError, match="could not be written"):
        write_masks(tmp_path / "file", 0, planes(0))
    with pytest.raises(OutputError, match="could not be written"):
        write_sequence(replace(sequence, folder=tmp_path / "file"))


def test_both_windows_show_a_point_at_the_same_place_of_the_video() -> None:
    """A pixel of either window, mapped back to the video by the window's box, is where one camera of the whole video sees the point."""
    whole = Camera.from_focal(1000.0, 640, 480)
    points = torch.tensor([[0.05, -0.02, 0.5], [-0.1, 0.06, 0.8]])
    head, person = (200, 50, 456, 306), (120, 20, 532, 432)
    cameras = {head: whole.crop(*head[:2], 256, 256).resize(128, 128)}
    cameras[person] = window_camera(cameras[head], head, person)
    for box, camera in cameras.items():
        assert (camera.width, camera.height) == (128, 128)
        pixels = camera.project(points)[0] * (box[2] - box[0]) / 128 + torch.tensor(box[:2])
        torch.testing.assert_close(pixels, whole.project(points)[0], atol=1e-3, rtol=0)  # float32 at pixels of some hundreds


def test_the_persons_window_is_read_from_its_own_folders(sequence) -> None:
    with pytest.raises(InputError, match="head alone"):
        sequence.person_window()
    for name in ("person", "person_masks"):
        (sequence.folder / name).mkdir()
    for source in sequence.index.tolist():
        write_frame(sequence.folder, source, picture(9 - source), "person")
        write_masks(sequence.folder, source, planes(source + 50), "person")
    write_sequence(replace(sequence, info=replace(sequence.info, person_crop=(-40, -30, 88, 98))))
    wide = TrackedSequence.load(sequence.folder).person_window()
    assert (wide.crop, wide.info.crop) == ((-40, -30, 88, 98), sequence.info.crop)
    np.testing.assert_array_equal(wide.frame(3).foreground.numpy(), planes(55)[..., 0])
    assert (wide.frame(3).image.int() - torch.from_numpy(picture(4)).int()).abs().max() <= 6
    assert wide.select(torch.tensor([3])).frame(0).image.equal(wide.frame(3).image)


def test_a_translucent_torso_counts_for_nothing_near_the_border_of_what_was_filmed() -> None:
    masks = np.zeros((100, 100, 4), np.uint8)
    masks[:, 20:, 3] = 255  # nothing was filmed on the left
    masks[40:, :, 0] = 128
    masks[40:, 22:24, 0] = 255  # here the matte is sure
    masks[40:50, 20:40, 1] = 100  # a head
    left = leave_out_undecided(masks)
    assert (left[:40, 20:] == 255).all()
    assert (left[40:50, 20:40] == 255).all()
    assert (left[50:90, 22:24] == 255).all()
    assert not left[50:90, 20:22].any()
    assert not left[97:, 30:90].any()
    assert (left[50:90, 30:90] == 255).all()


def test_pixels_that_are_filmed_in_part_count_for_nothing_in_smaller_copies(sequence) -> None:
    """Their matte is a mean with what nobody filmed, so they would be white."""
    masks = np.full((SIDE, SIDE, 4), 255, np.uint8)
    masks[:, 17:] = 0
    write_masks(sequence.folder, 0, masks)
    frame = sequence.frame(0, SIDE // 2)
    assert (frame.valid[:, :8] == 255).all()
    assert not frame.valid[:, 8:].any()
    assert 0 < frame.foreground[0, 8] < 255
