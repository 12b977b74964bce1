"""A field for many people: what it makes of pictures does not depend on their order, and needs no encoder afterwards."""

from __future__ import annotations

from dataclasses import replace

import torch

from deja_vu.avatars import NerfAvatar, NerfConfig
from deja_vu.avatars.nerf.planes import frontal_pictures
from deja_vu.avatars.nerf.prior import build_field_prior, load_field_prior, make_person, save_field_prior
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.image import WHITE
from deja_vu.heads import load_head
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load
from deja_vu.io.arrays import read_weights
from deja_vu.io.frames import FrameSource
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.render.volume import SCENE_SCALE
from tests.helpers.people import FACING

SMALL = NerfConfig(
    planes="encoded", plane_size=16, plane_channels=4, encoder_size=32, encoder_width=0.05, sources=1, code=0, width=16, coarse=4, fine=4
)


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 32, 32, 3, generator=torch.Generator().manual_seed(1))


LAID = replace(SMALL, rectify="surface", picture=True)


def test_a_laid_picture_is_where_colors_begin() -> None:
    """An untrained field shows the picture itself on the plane, mixed of several as the plane is."""
    prior = build_field_prior(load(), LAID).eval()
    gray, light = torch.full((1, 32, 32, 3), 0.3), torch.full((1, 32, 32, 3), 0.8)
    alone = make_person(prior, prior.shape, gray).planes()
    assert alone.shape == (3, 4, 32, 32)
    torch.testing.assert_close(alone[0, :3].sigmoid(), torch.full((3, 32, 32), 0.3), atol=0.1, rtol=0)
    both = make_person(prior, prior.shape, torch.cat([gray, light])).planes()[0, :3]
    assert ((both > alone[0, :3]) & (both < make_person(prior, prior.shape, light).planes()[0, :3])).float().mean() > 0.95


def test_the_order_of_photos_does_not_matter() -> None:
    for config in (SMALL, LAID):
        compare_orders(build_field_prior(load(), config).eval())


def compare_orders(prior: NerfAvatar) -> None:
    seen, shape = pictures(3), prior.shape
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
    source, head = FrameSource(made_up, 64), load_head(made_up.info.head_name)
    both, second = source.batch(torch.tensor([0, 2])), source.batch(torch.tensor([2]))
    for kind in ("plane", "surface"):
        config = replace(SMALL, rectify=kind)
        torch.testing.assert_close(frontal_pictures(both, head, config)[1], frontal_pictures(second, head, config)[0])


def test_the_front_takes_the_expression_back() -> None:
    """A photo of an open mouth, painted by where points of the still head are, reads as those places again; the frontal plane does not."""
    head, size = load_head("anny"), 64
    params = head.neutral((1,))
    pose = torch.eye(4)[None].clone()
    pose[:, :3, :3], pose[:, 2, 3] = axis_angle_to_matrix(torch.tensor([0.05, 0.3, 0.0])) @ FACING, 0.6
    expression = params.expression.clone()
    expression[0, head.spec.expression_names.index("jawOpen")] = 0.7
    params, camera = replace(params, world_from_head=pose, expression=expression), Camera.from_focal(500.0, 256, 256)
    still = head(head.neutral((1,)))[0]
    seen = rasterize_mesh(head(params)[0], head.topology.faces, camera)
    place = (still[head.topology.faces[seen.face_id]] * seen.bary[..., None]).sum(-2) * SCENE_SCALE
    covered = (seen.face_id >= 0).float()[None, ..., None]
    photo = Batch(
        positions=torch.tensor([0]),
        image=(place[None] * 0.5 + 0.5) * covered,
        head=covered,
        foreground=covered,
        valid=torch.ones_like(covered),
        loss_mask=torch.ones_like(covered),
        eyes_mouth=0 * covered,
        params=params,
        camera=camera,
    )
    at = (torch.arange(size) + 0.5) * (2 / size) - 1
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    jaw = (columns.abs() < 0.15) & (rows > -0.3) & (rows < -0.1)
    errors = []
    for kind in ("surface", "plane"):
        read = 2 * frontal_pictures(photo, head, replace(SMALL, encoder_size=size, rectify=kind))[0] - 1
        errors.append(float((read[..., 1] - rows)[jaw].abs().median()))
    assert errors[0] < 0.004, "scene units, an eighth of a texel: what bilinear reading leaves"
    assert errors[1] > 0.05, "the frontal plane shows the opened jaw"
