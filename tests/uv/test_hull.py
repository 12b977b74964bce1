from __future__ import annotations

from dataclasses import replace

import torch

from deja_vu.core.camera import Camera
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.uv.attach import attach
from deja_vu.uv.config import HullConfig
from deja_vu.uv.hull import HairHull
from deja_vu.uv.layout import build_layout

FRAMES, SIDE, HAIR = 24, 128, 0.02


def silhouettes(known_rows: int, reach: float = 0.0) -> tuple[torch.Tensor, object, torch.Tensor]:
    """Heights found on the scalp of a toy head that turns, its silhouettes grown by 2 cm of hair."""
    head = load_toy()
    layout = build_layout(head.topology, 64)
    angle = torch.linspace(-1.2, 1.2, FRAMES)
    turn = torch.stack([torch.zeros(FRAMES), angle, 0.5 * angle.flip(0)], -1)
    pose = torch.eye(4).repeat(FRAMES, 1, 1)
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(turn)
    pose[:, 2, 3] = 1.0
    params = replace(head.neutral((FRAMES,)), world_from_head=pose)
    camera = Camera.from_focal(300.0, SIDE, SIDE)
    surface = attach(head(params), head.topology.faces, layout)
    pixels, _ = camera.project(surface.points + HAIR * surface.frames[..., 2])
    foreground = torch.zeros(FRAMES, SIDE, SIDE, 1)
    for frame in range(FRAMES):
        columns, rows = pixels[frame].long().clamp(0, SIDE - 1).unbind(-1)
        foreground[frame, rows, columns] = 1
    grown = torch.nn.functional.max_pool2d(foreground.permute(0, 3, 1, 2), 5, 1, 2)
    foreground = -torch.nn.functional.max_pool2d(-grown, 5, 1, 2).permute(0, 2, 3, 1)
    valid = torch.ones_like(foreground)
    valid[:, :known_rows] = 0
    foreground = foreground * valid
    hull = HairHull(len(layout))
    hull.add(surface, camera, foreground, valid, reach)
    return hull.estimate_heights(layout, head.topology.regions["scalp"][layout.faces]), layout, head.topology.regions["scalp"]


def test_hair_of_known_height_is_found() -> None:
    thickness, layout, scalp = silhouettes(known_rows=0)
    scalp = scalp[layout.faces]
    # Silhouettes are drawn on pixels of 3.3 mm and closed by two of them, and the search steps by 3 mm.
    assert (thickness[scalp].median() - HAIR).abs() < 0.008
    assert (thickness[~scalp] == 0).all()


def test_unknown_pixels_carve_nothing() -> None:
    thickness, layout, scalp = silhouettes(known_rows=40)
    scalp = scalp[layout.faces]
    assert thickness[scalp].median() > HAIR - 0.008
    assert thickness.max() <= HullConfig().max_height


def test_hair_beyond_reach_is_tall_where_it_is_known_to_be() -> None:
    head = load_toy()
    layout = build_layout(head.topology, 64)
    params = replace(head.neutral((1,)), world_from_head=torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None])
    params.world_from_head[:, 2, 3] = 1.0
    surface, everywhere = attach(head(params), head.topology.faces, layout), torch.ones(1, SIDE, SIDE, 1)
    hull = HairHull(len(layout))
    hull.add(surface, Camera.from_focal(300.0, SIDE, SIDE), everywhere, everywhere)
    scalp = head.topology.regions["scalp"][layout.faces]
    assert hull.estimate_heights(layout, scalp).max() == 0, "no silhouette bounds anything"
    assert (hull.estimate_heights(layout, scalp, scalp)[scalp].median() - HullConfig().max_height).abs() < 1e-6


def test_a_gaussian_that_reaches_farther_stands_lower() -> None:
    plain, layout, scalp = silhouettes(known_rows=0)
    lower, _, _ = silhouettes(known_rows=0, reach=0.006)
    scalp = scalp[layout.faces]
    # Heights are searched in steps of 3 mm.
    assert (plain[scalp].median() - lower[scalp].median() - 0.006).abs() < 0.0031
