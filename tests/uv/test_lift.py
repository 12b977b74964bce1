from __future__ import annotations

from dataclasses import replace

import torch

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.uv.attach import SurfaceFrames, attach
from deja_vu.uv.layout import UVLayout, build_layout
from deja_vu.uv.lift import ColorLift, push_pull

SIDE = 128
CAMERA = Camera.from_focal(230.0, SIDE, SIDE)
HEAD = load_toy()
LAYOUT = build_layout(HEAD.topology, 64, drop=HEAD.topology.regions["neck"])


def posed(*yaw: float) -> HeadParams:
    """The toy head, half a meter before the camera, turned about its own axis."""
    still = HEAD.neutral((len(yaw),))
    pose = torch.eye(4).repeat(len(yaw), 1, 1)
    turn = torch.tensor([[0.0, angle, 0.0] for angle in yaw])
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(turn)
    pose[:, 2, 3] = 0.5
    return replace(still, world_from_head=pose)


def look(params: HeadParams, layout: UVLayout = LAYOUT) -> tuple[SurfaceFrames, torch.Tensor, torch.Tensor]:
    """Texels, z-buffer and coverage of the posed head."""
    vertices = HEAD(params)
    depth = rasterize_mesh(vertices, HEAD.topology.faces, CAMERA).depth
    return attach(vertices, HEAD.topology.faces, layout), depth, (depth > 0).float()[..., None]


def test_a_picture_of_one_color_gives_that_color_to_every_texel() -> None:
    surface, depth, alpha = look(posed(0.0, 0.6))
    color = torch.tensor([0.2, 0.5, 0.7])
    lift = ColorLift(len(LAYOUT))
    lift.add(surface, CAMERA, depth, color.expand(2, SIDE, SIDE, 3), alpha)
    torch.testing.assert_close(lift.colors(LAYOUT), color.expand(len(LAYOUT), 3), rtol=0, atol=1e-5)  # unseen ones are filled with it too
    assert 0.2 < (lift.weight > 0.05).float().mean() < 0.8  # the back of the head is not seen


def test_colors_land_on_the_texels_that_showed_them() -> None:
    """Paint the picture by world position; texels must get the color of their own place back."""
    params = posed(0.0)
    surface, depth, alpha = look(params)
    rows, columns = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    x = (columns - SIDE / 2) * depth[0] / 230
    y = (rows - SIDE / 2) * depth[0] / 230
    image = torch.stack([0.5 + 4 * x, 0.5 + 3 * y, torch.full_like(x, 0.3)], -1)[None]
    lift = ColorLift(len(LAYOUT))
    lift.add(surface, CAMERA, depth, image, alpha)
    seen = lift.weight > 0.05
    found = (lift.total / lift.weight[:, None])[seen]
    place = surface.points[0, seen]
    expected = torch.stack([0.5 + 4 * place[:, 0], 0.5 + 3 * place[:, 1], torch.full_like(place[:, 0], 0.3)], -1)
    assert (found - expected).abs().max() < 0.02  # a pixel is 2 mm: 0.009; beside an outline somewhat more


def test_a_hidden_texel_is_not_colored_by_what_hides_it() -> None:
    """In profile the nose hides a part of the far cheek. Whatever is painted red in the picture is nose."""
    params = posed(0.75)
    surface, depth, alpha = look(params)
    vertices, faces = HEAD(params), HEAD.topology.faces
    nose = ((HEAD.template - torch.tensor([0.0, -0.012, 0.108])).norm(dim=1) < 0.03)[faces].all(1)
    shown = rasterize_mesh(vertices, faces, CAMERA).face_id[0]
    red = nose[shown.clamp_min(0)] & (shown >= 0)
    grown = torch.nn.functional.max_pool2d(red[None].float(), 3, 1, 1)[0] > 0  # bilinear samples reach a pixel further
    image = torch.where(grown[..., None], torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0]))[None]
    pixels, distance = CAMERA.project(surface.points)
    column, row = pixels[0].long().clamp(0, SIDE - 1).unbind(-1)
    behind = red[row, column] & (distance[0] > depth[0][row, column] + 0.01)
    assert behind.sum() > 5, "the scene hides nothing"
    lift = ColorLift(len(LAYOUT))
    lift.add(surface, CAMERA, depth, image, alpha)
    assert (lift.weight[behind] == 0).all()
    # Without the z-buffer they would be red.
    blind = ColorLift(len(LAYOUT))
    blind.add(surface, CAMERA, torch.full_like(depth, torch.inf), image, alpha)
    facing = behind & (blind.weight > 0.05)
    assert facing.any()
    assert (blind.total / blind.weight[:, None])[facing][:, 0].mean() > 0.5


def test_background_does_not_reach_texels() -> None:
    surface, depth, alpha = look(posed(0.0, 0.5, -0.5))
    image = torch.where(alpha > 0, torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0]))
    lift = ColorLift(len(LAYOUT))
    lift.add(surface, CAMERA, depth, image, alpha)
    assert lift.colors(LAYOUT)[:, 1].max() < 0.06  # alpha above 0.95 lets 5 % of the background in


def test_squarely_seen_frames_count_more() -> None:
    surface, depth, alpha = look(posed(0.0, 1.2))
    image = torch.stack([torch.zeros(SIDE, SIDE, 3), torch.ones(SIDE, SIDE, 3)])
    lift = ColorLift(len(LAYOUT))
    lift.add(surface, CAMERA, depth, image, alpha)
    colors, seen = lift.colors(LAYOUT)[:, 0], lift.weight > 0.05
    front = surface.frames[0, :, 2, 2] < -0.95
    side = surface.frames[1, :, 2, 2] < -0.95
    assert colors[front & seen].mean() < 0.25
    assert colors[side & seen].mean() > 0.75


def test_holes_take_the_color_of_their_surroundings() -> None:
    """Left half red, right half blue, holes in both: every hole gets its side's color; known texels keep theirs exactly."""
    generator = torch.Generator().manual_seed(0)
    column = LAYOUT.texels % LAYOUT.size
    row = LAYOUT.texels // LAYOUT.size
    values = torch.where((column < 32)[:, None], torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0]))
    known = torch.rand(len(LAYOUT), generator=generator) < 0.3
    filled = push_pull(values * known[:, None] + 9.0 * ~known[:, None], known, LAYOUT)
    assert torch.equal(filled[known], values[known])
    away = ((column - 31.5).abs() > 8) & (row < 48)
    assert (filled - values)[away].abs().max() < 0.2
    assert filled.min() >= 0
    assert filled.max() <= 1


def test_one_known_texel_is_enough() -> None:
    known = torch.zeros(len(LAYOUT), dtype=torch.bool)
    known[100] = True
    filled = push_pull(torch.full((len(LAYOUT), 2), 0.4), known, LAYOUT)
    torch.testing.assert_close(filled, torch.full((len(LAYOUT), 2), 0.4))


def test_unseen_hair_takes_the_color_of_hair_not_of_the_hairline() -> None:
    """A scalp seen in part: black but for some skin at its border; the face is skin. What nobody saw of the scalp becomes black."""
    scalp = HEAD.topology.regions["scalp"][LAYOUT.faces]
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(len(LAYOUT), generator=generator)
    skin, black = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.05, 0.05, 0.06])
    mean = torch.where((scalp & (draw > 0.06))[:, None], black + 0.02 * draw[:, None], skin)
    seen = ~scalp | (draw < 0.3)
    lift = ColorLift(len(LAYOUT))
    lift.total, lift.weight, lift.best = mean * seen[:, None], seen.float(), seen.float()
    colors = lift.colors(LAYOUT, scalp)
    assert torch.equal(colors[seen], mean[seen])  # what was seen stays, the hairline's skin too
    assert (colors[~seen] - black).abs().max() < 0.05
