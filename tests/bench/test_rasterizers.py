"""The rasterizers' benchmark runs, and its counts are what they say."""

from __future__ import annotations

import torch

from deja_vu.bench import rasterizers
from deja_vu.bench.roofline import count_pairs, measure_work
from deja_vu.bench.scenes import Scene, shell, shell_scene
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians
from deja_vu.render.reference import project


def test_pairs_are_those_that_change_the_picture():
    """One wide half-opaque Gaussian touches every pixel; a second behind an opaque wall of four touches none."""
    flat = {"quats": torch.tensor([[1.0, 0, 0, 0]]), "scales": torch.full((1, 3), 5.0), "sh": torch.zeros(1, 1, 3)}

    def stack(opacities: list[float]) -> Gaussians:
        count = len(opacities)
        means = torch.tensor([[0.0, 0, 1 + 0.1 * i] for i in range(count)])
        return Gaussians(means=means, opacities=torch.tensor(opacities), **{k: v.expand(count, *v.shape[1:]) for k, v in flat.items()})

    camera = Camera.from_focal(40.0, 40, 24)
    assert count_pairs(project(stack([0.5]), camera), 40, 24) == 40 * 24
    # 0.999 twice would leave 1e-6 < 1e-4: only the first of the wall is drawn, and nothing behind it.
    assert count_pairs(project(stack([0.999, 0.999, 0.999, 0.999, 0.5]), camera), 40, 24) <= 2 * 40 * 24
    work = measure_work(Scene("wall", stack([0.5]), camera), 1e9)
    assert (work.gaussians, work.entries, work.entries_used, work.blocks) == (1, 6, 6, 10 * 6)
    assert work.pairs == 40 * 24
    assert work.lane_use == 1.0


def test_lanes_of_a_shell_are_used_in_part():
    work = measure_work(shell_scene(64, 500), 1e9)
    assert 0.1 < work.lane_use < 0.9
    assert work.entries_used <= work.entries
    assert 0 < work.forward_floor < work.both_floor


def test_a_shell_is_repeatable():
    for a, b in zip(vars(shell(50)).values(), vars(shell(50)).values(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(shell(50).means, shell(50, seed=1).means)


def test_the_native_rasterizer_is_as_exact_as_documented():
    for name, error in rasterizers.accuracy(3).items():
        assert error < (1e-6 if name in ("rgb", "alpha", "depth") else 1e-5), name
