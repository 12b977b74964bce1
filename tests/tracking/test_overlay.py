"""What the overlay shows of the torso: drawn where the dressed bust is, with a grid that moves along with it."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.errors import FormatError
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.heads import load_head
from deja_vu.heads.bust import load_bust
from deja_vu.io.tracked_folder import write_frame, write_masks
from deja_vu.io.video import probe
from deja_vu.pipelines.personalize import overlay_in_background
from deja_vu.tracking.overlay import OVERLAY, draw_torso, write_overlay

SIDE = 128


@pytest.fixture
def sequence(tmp_path: Path) -> TrackedSequence:
    """Two frames of even gray; in the second one the torso has moved to the right."""
    head = load_head("anny")
    neutral = head.neutral((2,))
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])).repeat(2, 1, 1)
    pose[:, :3, 3] = torch.tensor([0.0, -0.05, 0.8])
    torso = torch.eye(4).repeat(2, 1, 1)
    torso[1, 0, 3] = 0.03
    params = HeadParams(neutral.shape, neutral.expression, neutral.joints, pose, torso)
    crop, wide = (40, 20, 40 + SIDE, 20 + SIDE), (8, 20, 8 + 192, 20 + 192)
    info = TrackInfo("me", "anny", 25, "me.mp4", "0" * 64, 2, crop, SIDE, "tail", person_crop=wide)
    for window in ("head", "person"):
        for name in ("frames", "masks") if window == "head" else ("person", "person_masks"):
            (tmp_path / name).mkdir()
        for index in range(2):
            write_frame(tmp_path, index, np.full((SIDE, SIDE, 3), 90, np.uint8), window)
            write_masks(tmp_path, index, np.full((SIDE, SIDE, 4), 255, np.uint8), window)
    camera, index = Camera.from_focal(2.2 * SIDE, SIDE, SIDE), torch.arange(2)
    return TrackedSequence(tmp_path, info, params, camera, index, index / 25, index > 0, torso_shape=torch.zeros(12))


def test_the_torso_is_drawn_below_the_head_and_moves_with_its_pose(sequence: TrackedSequence) -> None:
    head, bust, person = load_head("anny"), load_bust(), sequence.person_window()
    first, second = (np.abs(draw_torso(head, bust, person, position).astype(int) - 90).max(-1) > 3 for position in range(2))
    pixels, _ = person.camera.project(bust(sequence.params))
    chin = float(person.camera.project(head(sequence.params))[0][0, head.topology.faces[head.topology.regions["face"]].unique(), 1].max())
    low = int(pixels[0, :, 1].max().clamp(max=SIDE - 1))
    assert not first[: int(chin) - 12].any()  # the face stays as it was filmed
    assert first[int(chin) + 8 : low, SIDE // 2 - 5 : SIDE // 2 + 5].mean() > 0.95
    columns = [np.flatnonzero(shown[low - 3]).mean() for shown in (first, second)]
    moved = float((pixels[1, :, 0] - pixels[0, :, 0])[bust.skin_weights[:, 0] > 0.99].mean())
    assert columns[1] - columns[0] == pytest.approx(moved, abs=1)


def test_the_video_has_a_panel_more_where_the_torso_was_tracked(sequence: TrackedSequence) -> None:
    head = load_head("anny")
    for name, shape, panels in (("with.mp4", sequence.torso_shape, 3), ("without.mp4", None, 2)):
        write_overlay(head, replace(sequence, torso_shape=shape), sequence.folder / name)
        info = probe(sequence.folder / name)
        assert (info.width, info.height) == (panels * SIDE, SIDE)


def test_nothing_is_left_of_an_overlay_that_was_stopped(sequence: TrackedSequence) -> None:
    before, stopped = sorted(sequence.folder.iterdir()), Event()
    head = load_head("anny")

    def stop_after_a_frame(params: HeadParams) -> torch.Tensor:
        stopped.set()
        return posed(params)

    posed, head.forward = head.forward, stop_after_a_frame
    with pytest.raises(CancelledError):
        write_overlay(head, sequence, sequence.folder / OVERLAY, stopped)
    assert sorted(sequence.folder.iterdir()) == before


def test_a_run_draws_its_overlay_beside_its_training_once(sequence: TrackedSequence) -> None:
    path = sequence.folder / OVERLAY
    write_overlay(load_head("anny"), sequence, sequence.folder / "expected.mp4")
    with overlay_in_background(sequence):
        pass
    assert path.read_bytes() == (sequence.folder / "expected.mp4").read_bytes()
    path.write_bytes(b"of an earlier attempt")
    with overlay_in_background(sequence):
        pass
    assert path.read_bytes() == b"of an earlier attempt"


def test_an_overlay_that_cannot_be_written_ends_the_run_by_its_own_error(sequence: TrackedSequence) -> None:
    (sequence.folder / "masks").rename(sequence.folder / "gone")
    trained = []
    with pytest.raises(FormatError, match="missing or damaged"), overlay_in_background(sequence):
        trained.append(True)
    assert trained == [True]
    assert not (sequence.folder / OVERLAY).exists()
