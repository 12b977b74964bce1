"""Gaps where a chart is cut."""

from __future__ import annotations

import torch

from deja_vu.heads.anny import load as load_anny
from deja_vu.uv.attach import attach
from deja_vu.uv.layout import UVLayout, build_layout
from deja_vu.uv.seams import border_texels, seam_gaps


def strip(corners: list[list[int]], columns: list[int]) -> UVLayout:
    """A row of texels of a chart of 64, each in a triangle of its own."""
    count = len(columns)
    return UVLayout(
        faces=torch.arange(count),
        corners=torch.tensor(corners),
        bary=torch.full((count, 3), 1 / 3),
        uv_gradient=torch.zeros(count, 2, 2)[:, :, 0],
        size=64,
        texels=torch.tensor(columns),
        hash="",
    )


def test_only_what_is_joined_on_the_surface_and_apart_in_the_chart_has_a_gap() -> None:
    layout = strip([[0, 1, 2], [1, 2, 3], [3, 4, 5], [6, 7, 8]], [0, 1, 10, 20])
    points = torch.tensor([[0.0, 0, 0], [0.001, 0, 0], [0.003, 0, 0], [0.0031, 0, 0]])
    gaps = seam_gaps(points, layout)
    torch.testing.assert_close(gaps, torch.tensor([0.0, 0.002, 0.002, 0.0]))  # the first shares no vertex across, the last with nobody


def test_a_chart_of_one_texel_has_none() -> None:
    assert seam_gaps(torch.zeros(1, 3), strip([[0, 1, 2]], [5])).tolist() == [0.0]


def test_seams_of_the_default_head_are_narrow_and_on_its_border() -> None:
    head = load_anny()
    layout = build_layout(head.topology, 128)
    points = attach(head.template, head.topology.faces, layout).points
    gaps, border = seam_gaps(points, layout), border_texels(layout)
    assert 0 < (gaps > 0).sum() < border.sum() < len(layout) / 4
    assert (gaps[~border] == 0).all()
    assert gaps[gaps > 0].median() < 0.006  # a texel or two of this chart
