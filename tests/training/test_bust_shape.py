"""The torso's shape where a film cuts it off."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import torch

from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.anny import load as load_anny
from deja_vu.heads.bust import load_bust
from deja_vu.training.bust_shape import has_shoulders, keep_filmed, shows_front
from deja_vu.training.gaussian_config import BustConfig, GaussianTrainConfig, LiftConfig
from deja_vu.training.gaussian_init import choose_sizes
from deja_vu.uv.attach import vertex_normals


def test_a_component_that_no_filmed_vertex_shows_goes_back_to_the_mean_and_the_others_stay() -> None:
    basis = torch.zeros(2, 40, 3)
    basis[0, :20, 1] = basis[1, 20:, 0] = 0.02
    kept = keep_filmed(basis, torch.tensor([3.0, -4.0]), torch.arange(40) < 20, BustConfig(shape_patches=1000.0))
    torch.testing.assert_close(kept, torch.tensor([3.0, 0.0]), atol=0.01, rtol=0)


def test_it_is_where_deviation_and_prior_balance() -> None:
    generator = torch.Generator().manual_seed(0)
    basis, own = 0.01 * torch.randn(5, 30, 3, generator=generator), torch.randn(5, generator=generator)
    filmed, bust = torch.arange(30) % 3 > 0, BustConfig()
    kept = keep_filmed(basis, own, filmed, bust).double().requires_grad_()
    moved = torch.einsum("k,kvc->vc", kept - own, basis.double())[filmed]
    cost = bust.shape_patches * moved.square().sum(1).mean() / bust.shape_deviation**2 + kept.square().sum()
    (slope,) = torch.autograd.grad(cost, kept)
    assert slope.abs().max() < 1e-4


def test_what_shows_nothing_says_nothing() -> None:
    assert keep_filmed(torch.rand(3, 9, 3), torch.ones(3), torch.zeros(9, dtype=torch.bool), BustConfig()).eq(0).all()


def test_filmed_is_what_lies_in_the_picture_and_does_not_face_away() -> None:
    """The middle third of a picture of shoulders: neither arms nor back are filmed."""
    head, bust = load_anny(), load_bust()
    camera = Camera.from_focal(420.0, 192, 192)
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None]
    pose[:, 1:3, 3] = torch.tensor([-0.1, 1.0])
    params = replace(head.neutral((1,)), world_from_head=pose)
    plane, image = torch.zeros(1, 192, 192, 1), torch.zeros(1, 192, 192, 3)
    valid = plane.clone()
    valid[:, :, 64:128] = 1
    batch = Batch(torch.zeros(1, dtype=torch.long), image, plane, plane, valid, valid, plane, params, camera)
    shown = shows_front(bust, torch.zeros(bust.num_own), batch, BustConfig())
    place, normal = bust(params)[0], vertex_normals(bust(params), bust.topology.faces)[0]
    pixels, _ = camera.project(place[None])
    within = (pixels[0, :, 0] - 96).abs() < 31
    assert not shown[(pixels[0, :, 0] - 96).abs() > 33].any()
    assert not shown[normal[:, 2] > 0.4].any()  # the camera looks along +z
    assert shown[within & (pixels[0, :, 1] < 190) & (normal[:, 2] < -0.4)].all()


def cut_away(sequence: TrackedSequence, folder: Path) -> TrackedSequence:
    """The same film with all below the head cut away, as data sets store it."""
    shutil.copytree(sequence.folder, folder)
    for path in (folder / "person_masks").iterdir():
        masks = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        masks[..., 0] = masks[..., 1]  # what is left of the person is the head
        assert cv2.imwrite(str(path), masks)
    return TrackedSequence.load(folder)


def test_a_film_from_which_shoulders_were_cut_away_makes_a_head_on_a_neck(made_up: TrackedSequence, tmp_path: Path, capsys) -> None:
    config = GaussianTrainConfig()
    assert has_shoulders(made_up, LiftConfig(resolution=64), BustConfig())
    assert choose_sizes(made_up, config).bust_part == "whole"
    cut = cut_away(made_up, tmp_path / "cut")
    assert not has_shoulders(cut, LiftConfig(resolution=64), BustConfig())
    assert "cut away" not in capsys.readouterr().out
    assert choose_sizes(cut, config).bust_part == "neck"
    assert "the shoulders are cut away in this video" in capsys.readouterr().out
    assert choose_sizes(replace(cut, torso_shape=None), config).bust_part == "whole", "nothing was tracked that could say so"


def test_a_torso_that_is_a_little_off_its_matte_is_not_taken_for_cut_away(made_up: TrackedSequence) -> None:
    torso = made_up.params.torso.clone()
    torso[:, 0, 3] += 0.01
    assert has_shoulders(replace(made_up, params=replace(made_up.params, torso=torso)), LiftConfig(resolution=64), BustConfig())
