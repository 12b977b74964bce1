from __future__ import annotations

import pytest
import torch

from deja_vu.core.errors import ConfigError
from deja_vu.heads.toy import load as load_toy
from deja_vu.uv.layout import build_layout, resample_weights


def test_texels_lie_where_their_triangle_says() -> None:
    topology = load_toy().topology
    layout = build_layout(topology, 64)
    corners = topology.uv[topology.uv_faces[layout.faces]]
    found = (corners * layout.bary[..., None]).sum(1) * 64
    centers = torch.stack([layout.texels % 64, layout.texels // 64], 1) + 0.5
    # Texture coordinates are float32 in [0, 1]: 64 * 6e-8 with a margin for the division by a sliver's area.
    torch.testing.assert_close(found, centers, rtol=0, atol=1e-3)
    assert len(layout.texels.unique()) == len(layout)


def test_every_center_inside_a_triangle_is_found() -> None:
    topology = load_toy().topology
    layout = build_layout(topology, 64)
    generator = torch.Generator().manual_seed(0)
    for texel in torch.randint(0, 64 * 64, (200,), generator=generator).tolist():
        point = torch.tensor([texel % 64 + 0.5, texel // 64 + 0.5], dtype=torch.float64) / 64
        a, b, c = topology.uv[topology.uv_faces].double().unbind(1)
        sides = [((q - p)[:, 0] * (point - p)[:, 1] - (q - p)[:, 1] * (point - p)[:, 0]) for p, q in ((a, b), (b, c), (c, a))]
        signed = torch.stack(sides, 1)
        area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
        inside = ((signed * area.sign()[:, None] > 1e-9).all(1) & (area.abs() > 1e-12)).any()
        assert not inside or texel in set(layout.texels.tolist())


def test_hash_tells_layouts_apart() -> None:
    topology = load_toy().topology
    dropped = torch.zeros(len(topology.faces), dtype=torch.bool)
    dropped[:10] = True
    assert build_layout(topology, 64).hash == build_layout(topology, 64).hash
    assert len({build_layout(topology, 64).hash, build_layout(topology, 96).hash, build_layout(topology, 64, dropped).hash}) == 3


def test_resampling_keeps_constants_and_slopes() -> None:
    topology = load_toy().topology
    coarse, fine = build_layout(topology, 64), build_layout(topology, 128)
    index, weight = resample_weights(coarse, fine)
    torch.testing.assert_close(weight.sum(1), torch.ones(len(fine)))
    place = (coarse.texels % 64 + 0.5) / 64
    carried = (place[index] * weight).sum(1)
    column = fine.texels % 128
    row = fine.texels // 128
    whole = ((weight > 0).sum(1) == 4) & (column > 0) & (column < 127) & (row > 0) & (row < 127)
    wanted = (fine.texels % 128 + 0.5) / 128
    assert whole.float().mean() > 0.5
    torch.testing.assert_close(carried[whole], wanted[whole], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [0, 63, 513])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="64 to 512"):
        build_layout(load_toy().topology, size)
