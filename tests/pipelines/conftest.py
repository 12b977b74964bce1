"""A tracked video of a painted toy head with known parameters, and what several tests of the pipelines share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.avatars import GaussianAvatar, GaussianConfig
from deja_vu.core.camera import Camera
from deja_vu.core.conventions import SH_C0
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.io.tracked_folder import write_frame, write_masks, write_sequence
from deja_vu.pipelines.own_files import own_files
from deja_vu.pipelines.recipes import Recipe
from deja_vu.training.gaussian_config import GaussianPhase

SIDE = 96


@pytest.fixture(scope="session")
def painted() -> GaussianAvatar:
    """The person in the video: stripes of three colors on the skin, dark eyes."""
    head = load_toy()
    avatar = GaussianAvatar(head, torch.linspace(-0.5, 0.5, head.spec.num_shape), GaussianConfig(uv_size=96, blend_size=64, blendmaps=2))
    points = avatar.surface(head.neutral((1,))).points[0]
    waves = torch.stack([torch.sin(80 * points[:, 0] + 0.5), torch.sin(70 * points[:, 1]), torch.cos(60 * points[:, 2])], -1)
    color = 0.5 + 0.3 * waves
    eyes = head.topology.regions["eye_left"] | head.topology.regions["eye_right"]
    color[eyes[avatar.layout.faces]] = 0.1
    avatar.base[:, CHANNELS["color"]] = (color - 0.5) / SH_C0
    return avatar.eval()


def acted(frames: int) -> HeadParams:
    """The head nods, turns and talks, half a meter before the camera."""
    time = torch.linspace(0, 1, frames)
    still = load_toy().neutral((frames,))
    pose = torch.eye(4).repeat(frames, 1, 1)
    turn = torch.stack([0.1 * torch.sin(9 * time), 0.35 * torch.sin(6 * time), 0.05 * torch.cos(5 * time)], -1)
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(turn)
    pose[:, :3, 3] = torch.stack([0.01 * torch.sin(7 * time), 0.005 * time, 0.5 + 0.02 * time], -1)
    expression = torch.zeros(frames, 6)
    expression[:, 0] = 0.5 + 0.5 * torch.sin(13 * time)
    expression[:, 3] = expression[:, 4] = 0.5 - 0.5 * torch.cos(11 * time)
    return replace(still, expression=expression, world_from_head=pose)


@pytest.fixture(scope="session")
def film(painted: GaussianAvatar) -> Callable[..., TrackedSequence]:
    """Write a tracked folder of the painted head, with a torso below it and a strip that was not filmed, which are ignored."""

    def write(folder: Path, frames: int = 15, split: str = "tail") -> TrackedSequence:
        params = acted(frames)
        params = replace(params, shape=painted.shape.expand(frames, -1))
        camera = Camera.from_focal(150.0, SIDE, SIDE)
        with torch.no_grad():
            out = painted.render(params, camera, torch.zeros(3))
        straight = (out.rgb / out.alpha.clamp_min(0.02)).clamp(0, 1)
        for name in ("frames", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        valid = np.full((SIDE, SIDE), 255, np.uint8)
        valid[:, 93:] = 0
        index = torch.arange(frames) * 2  # every second frame of the source showed a face
        for position, source in enumerate(index.tolist()):
            alpha = np.rint(255 * out.alpha[position, ..., 0].numpy()).astype(np.uint8)
            image = np.rint(255 * straight[position].numpy()).astype(np.uint8)
            torso = (np.arange(SIDE)[:, None] > 86) & (alpha < 128)
            image[torso] = (20, 120, 40)
            eyes_mouth = np.zeros_like(alpha)
            eyes_mouth[52:62, 38:58] = 255
            image[:, 93:] = 255  # the crop reaches beyond the frame
            write_frame(folder, source, image)
            foreground, head = (np.where(torso, value, alpha).astype(np.uint8) for value in (255, 0))
            write_masks(folder, source, np.stack([foreground, head, eyes_mouth, valid], -1))
        test = torch.arange(frames) >= round(0.8 * frames)
        info = TrackInfo("toy", "toy", 25.0, "toy.mp4", "0" * 64, 2 * frames, (10, 20, 10 + SIDE, 20 + SIDE), SIDE, split)
        sequence = TrackedSequence(folder, info, params, camera, index, index / 50, test)
        write_sequence(sequence)
        return sequence

    return write


@pytest.fixture
def tracked(film: Callable[..., TrackedSequence], tmp_path: Path) -> TrackedSequence:
    """Fifteen frames, the last three for test."""
    return film(tmp_path / "tracked")


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """A personalization of seconds."""
    recipe = Recipe()
    phases = (
        GaussianPhase(steps=16, resolution=64, learning_rate=0.02, batch=2, perceptual_every=0),
        GaussianPhase(steps=12, resolution=96, learning_rate=0.01, blendmaps=True, perceptual_every=0),
    )
    avatar = replace(recipe.gaussian.avatar, uv_size=64, blend_size=64, blendmaps=4)
    return replace(recipe, gaussian=replace(recipe.gaussian, avatar=avatar, phases=phases, log_every=1, picture_every=7))


def unlisted(folder: Path) -> set[str]:
    """Files of a finished run that it does not know to be its own, and could therefore never replace; of runs below it, too."""
    runs = [path.parent for path in folder.rglob("run.json")]
    known = {run / name for run in runs for name in ("run.json", *own_files(run))}
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path not in known}


def psnr(image: torch.Tensor, target: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of two pictures in [0, 1], dB."""
    return -10 * math.log10(float((image - target).square().mean()))
