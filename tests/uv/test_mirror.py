"""The mirror image of a head, and colors of one side lent to the other."""

from __future__ import annotations

import torch

from deja_vu.heads.toy import load as load_toy
from deja_vu.uv.attach import attach
from deja_vu.uv.layout import build_layout
from deja_vu.uv.mirror import complete_texels, find_mirror_texels


def texels():
    head = load_toy()
    layout = build_layout(head.topology, 64)
    return layout, attach(head.template, head.topology.faces, layout).points


def test_the_mirror_image_lies_on_the_other_side():
    _, points = texels()
    mirror = find_mirror_texels(points)
    flipped = points * torch.tensor([-1.0, 1.0, 1.0])
    distance = (points[mirror] - flipped).norm(dim=1)
    # Half a diagonal of the toy's coarse texels; its chart is not symmetric.
    assert distance.median() < 0.004
    assert (find_mirror_texels(points)[mirror] == torch.arange(len(points))).float().mean() > 0.3


def test_own_color_where_seen_else_the_other_side_else_the_surroundings():
    layout, points = texels()
    mirror, skin = find_mirror_texels(points), torch.zeros(len(points), dtype=torch.bool)
    color = torch.where(points[:, :1] > 0, 0.8, 0.3).expand(-1, 3)
    left = (points[:, 0] > 0.01).float()
    values, weight = complete_texels(color * left[:, None], left, mirror, skin, layout)
    right = points[:, 0] < -0.015
    assert torch.allclose(values[left > 0], color[left > 0], atol=1e-5)
    assert torch.allclose(values[right], torch.tensor(0.8), atol=0.02), "the unseen side takes the seen side's color"
    assert (weight[right] < weight[left > 0].min()).all()
    both, _ = complete_texels(color, torch.ones(len(points)), mirror, skin, layout)
    assert torch.allclose(both[right], torch.tensor(0.3), atol=0.06), "seen on both sides, each keeps its own"
    nothing = torch.zeros(len(points))
    nothing[:5] = 1
    alone, _ = complete_texels(torch.full((len(points), 3), 0.4) * nothing[:, None], nothing, torch.arange(len(points)), skin, layout)
    assert torch.allclose(alone, torch.tensor(0.4), atol=1e-5), "one known spot colors everything"


def test_hair_nobody_saw_takes_after_most_of_the_hair_that_was_seen():
    layout, points = texels()
    mirror, scalp = torch.arange(len(points)), points[:, 1] > points[:, 1].median()
    seen = points[:, 2] > points[:, 2].median()
    color = torch.where(scalp[:, None], 0.1, 0.7).expand(-1, 3).clone()
    hairline = scalp & seen & (points[:, 1] < points[scalp, 1].quantile(0.2))
    color[hairline] = 0.7
    values, _ = complete_texels(color * seen[:, None], seen.float(), mirror, scalp, layout)
    assert torch.allclose(values[scalp & ~seen], torch.tensor(0.1), atol=1e-4), "skin at the hairline is no example of hair"
    assert torch.allclose(values[~scalp & ~seen], torch.tensor(0.7), atol=1e-4)
    assert torch.equal(values[hairline], color[hairline])
