from __future__ import annotations

import pytest
import torch

from deja_vu.avatars import Avatar, NelfAvatar, NerfAvatar
from deja_vu.avatars.nelf.config import NelfConfig
from deja_vu.avatars.nerf.config import NerfConfig
from deja_vu.bench.cost import count_work
from deja_vu.heads.toy import load as load_toy


@pytest.fixture(params=["gaussian", "nerf", "nelf"])
def avatar(request, random_avatar, params) -> Avatar:
    """One of each kind, untrained."""
    if request.param == "gaussian":
        return random_avatar.eval()
    head = load_toy()
    shape = torch.zeros(head.spec.num_shape)
    if request.param == "nerf":
        small = NerfConfig(plane_size=24, plane_channels=6, point_features=5, width=16, features=5, coarse=4, fine=4)
        made: Avatar = NerfAvatar(head, shape, small)
    else:
        made = NelfAvatar(head, shape, NelfConfig(points=4, bank=6, width=16, depth=2, upscale_width=8))
    made.fit(params)
    return made.eval()


@torch.no_grad()
def test_a_prepared_head_is_drawn_as_it_is_rendered_over_any_background_and_as_often_as_asked(avatar, params, camera) -> None:
    draw = avatar.prepare(params, camera)
    for background in (torch.ones(3), torch.tensor([0.2, 0.5, 0.9]), torch.ones(3)):
        rendered, drawn = avatar.render(params, camera, background), draw(background)
        assert torch.equal(drawn.rgb, rendered.rgb)
        assert torch.equal(drawn.alpha, rendered.alpha)


def test_every_kind_tells_its_work(avatar, params, camera) -> None:
    counts = count_work(avatar, params[:1], camera)
    assert all(value >= 0 for value in counts.values())
    assert counts["macs"] > 0
    known = {"GaussianAvatar": {"gaussians", "alpha_evals"}, "NerfAvatar": {"field_samples", "neighbor_queries"}, "NelfAvatar": set()}
    assert counts.keys() == known[type(avatar).__name__] | {"macs"}
    assert all(counts[name] > 0 for name in known[type(avatar).__name__])
