"""People without pictures: tracked sequences for tests of motion and of what is told about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.heads.skinning import axis_angle_to_matrix

FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""Rotation of a head that looks straight into the camera."""


@pytest.fixture(scope="session")
def anny() -> HeadModel:
    return load_head("anny")


def posed(params: HeadParams, turn: torch.Tensor, place: torch.Tensor) -> HeadParams:
    """The same faces, turned in the world's axes and put somewhere."""
    pose = torch.eye(4).repeat(len(turn), 1, 1)
    pose[:, :3, :3] = axis_angle_to_matrix(turn) @ FACING
    pose[:, :3, 3] = place
    return replace(params, world_from_head=pose)


def moved_together(params: HeadParams, camera: Camera) -> tuple[HeadParams, Camera]:
    """Heads and camera in a world that is turned and shifted: the pictures must stay."""
    motion = torch.eye(4)
    motion[:3, :3] = axis_angle_to_matrix(torch.tensor([0.3, -0.8, 0.2]))
    motion[:3, 3] = torch.tensor([0.4, 0.1, -0.2])
    moved = replace(params, world_from_head=motion @ params.world_from_head)
    return moved, replace(camera, camera_from_world=camera.camera_from_world @ torch.linalg.inv(motion))


def as_sequence(params: HeadParams, head_name: str, fps: float = 25.0) -> TrackedSequence:
    """A tracked sequence that has no pictures."""
    frames = len(params)
    info = TrackInfo("someone", head_name, fps, "a.mp4", "", frames, (0, 0, 64, 64), 64, "tail")
    camera = Camera.from_focal(100.0, 64, 64)
    index, test = torch.arange(frames), torch.zeros(frames, dtype=torch.bool)
    return TrackedSequence(Path("nowhere"), info, params, camera, index, index / fps, test)


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> TrackedSequence:
    """Four small frames of a made-up person, tracked by the truth; one of them held out."""
    from deja_vu.bench.made_up import write_made_up

    return write_made_up(tmp_path_factory.mktemp("made_up"), 4, 64)


@pytest.fixture
def talker(anny: HeadModel) -> Callable[..., HeadParams]:
    """Sixty frames of a person who talks, blinks and looks about; each seed is another person with another resting face."""

    def make(seed: int, frames: int = 60) -> HeadParams:
        generator = torch.Generator().manual_seed(seed)

        def draw(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=generator)

        names = anny.spec.expression_names
        time = torch.linspace(0, 1, frames)
        neutral = anny.neutral((frames,))
        # Squinting and a resting mouth differ between people, and between what trackers make of them.
        expression = (0.06 * draw(52)).expand(frames, -1).clone()
        for name in ("eyeSquintLeft", "eyeSquintRight"):
            expression[:, names.index(name)] = 0.15 * (seed % 4)
        expression[:, names.index("jawOpen")] += 0.4 * (0.5 - 0.5 * torch.cos(20 * time))
        blink = torch.exp(-(((time - 0.5) / 0.02) ** 2))
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            expression[:, names.index(name)] += 0.6 * blink
        shape = (0.6 * draw(anny.spec.num_shape)).expand(frames, -1)
        joints = neutral.joints + 0.05 * draw(1, 4, 3)
        params = replace(neutral, shape=shape, expression=expression, joints=joints)
        return posed(params, 0.15 * draw(frames, 3), torch.tensor([0.0, 0.0, 0.6]) + 0.02 * draw(frames, 3))

    return make
