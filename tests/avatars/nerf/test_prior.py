"""A field for many people: what it makes of pictures does not depend on their order, and needs no encoder afterwards."""

from __future__ import annotations

from dataclasses import replace

import torch

from deja_vu.avatars import NerfConfig
from deja_vu.avatars.nerf.planes import frontal_pictures
from deja_vu.avatars.nerf.prior import build_field_prior, load_field_prior, make_person, save_field_prior
from deja_vu.core.camera import Camera
from deja_vu.core.image import WHITE
from deja_vu.heads.toy import load
from deja_vu.io.arrays import read_weights
from tests.helpers.people import FACING

SMALL = NerfConfig(
    planes="encoded", plane_size=16, plane_channels=4, encoder_size=32, encoder_width=0.05, sources=1, code=0, width=16, coarse=4, fine=4
)


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 32, 32, 3, generator=torch.Generator().manual_seed(1))


def test_the_order_of_photos_does_not_matter() -> None:
    prior, seen = build_field_prior(load(), SMALL).eval(), pictures(3)
    shape = prior.shape
    planes = [make_person(prior, shape, seen[order]).planes() for order in ([0, 1, 2], [2, 0, 1])]
    torch.testing.assert_close(planes[0], planes[1])
    alone, twice = (make_person(prior, shape, seen[order]).planes() for order in ([0], [0, 0]))
    torch.testing.assert_close(alone, twice)
    assert not torch.allclose(planes[0], alone)


def test_a_person_is_drawn_as_the_field_draws_them() -> None:
    """With planes of its own, and without the encoder."""
    prior, head = build_field_prior(load(), SMALL).eval(), load()
    person = make_person(prior, prior.shape + 0.1, pictures(2))
    params = head.neutral((1,))
    pose = torch.eye(4)[None].clone()
    pose[:, :3, :3], pose[:, 2, 3] = FACING, 0.6
    params, camera = replace(params, world_from_head=pose), Camera.from_focal(60.0, 32, 32)
    with torch.no_grad():
        ours, theirs = (avatar.render(params, camera, WHITE) for avatar in (person, prior))
    torch.testing.assert_close(ours.rgb, theirs.rgb)
    assert ours.alpha.max() > 0.5


def test_a_file_holds_the_network_and_nobody(tmp_path) -> None:
    prior = build_field_prior(load(), SMALL)
    prior.become(prior.shape + 1, pictures(4))
    save_field_prior(prior, tmp_path / "prior.safetensors", {"commit": "c"})
    again = load_field_prior(tmp_path / "prior.safetensors")
    assert torch.equal(again.shape, load().neutral((1,)).shape[0])
    header, tensors = read_weights(tmp_path / "prior.safetensors")
    assert header["commit"] == "c"
    assert not {"shape", "planes.sources"} & tensors.keys()
    for name, value in prior.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float()), name


def test_frontal_pictures_are_of_each_photo_by_its_own_camera(made_up) -> None:
    from deja_vu.io.frames import FrameSource

    source = FrameSource(made_up, 64)
    both, second = source.batch(torch.tensor([0, 2])), source.batch(torch.tensor([2]))
    torch.testing.assert_close(frontal_pictures(both, 32)[1], frontal_pictures(second, 32)[0])
