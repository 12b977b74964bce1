"""Bake how high hair usually stands: mean and covariance among made-up people, whose hair is known all round.

python -m deja_vu.pipelines.bake.hair deja_vu/uv/assets/hair.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.datasets.synthetic.body import vertex_normals
from deja_vu.datasets.synthetic.wardrobe import Haircut, grow_hair
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.io.arrays import write_tensors
from deja_vu.uv.attach import attach
from deja_vu.uv.hair import OFFSET, border_ramp, direction_terms, scalp_directions
from deja_vu.uv.layout import build_layout

PEOPLE = 120
FIRST_SEED = 20_000
"""Seeds from here on choose the people, far from those of films and tests."""
SIZE = 96
"""Texels a side of the chart on which heights are measured."""
QUANTILE = 0.85
"""Of the strands over a texel: an outline is that of the upper ones."""
RIDGE = 1e-3
"""Of the fit of polynomials to one person's heights."""
SPREAD, LIMIT = 0.7, 1.6
"""Deviation and bound of identity coefficients, as of the sample subject."""


def measure_heights(head: HeadModel, seed: int) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
    """Directions of texels over which a made-up person has hair, and its heights, meters."""
    draw = np.random.default_rng([seed, 0]).normal(0, SPREAD, head.spec.num_shape).clip(-LIMIT, LIMIT)
    neutral = head.neutral()
    rest = head(HeadParams(torch.from_numpy(draw).float(), neutral.expression, neutral.joints, neutral.world_from_head))
    layout = build_layout(head.topology, SIZE)
    surface = attach(rest, head.topology.faces, layout)
    points, normals = surface.points, surface.frames[..., 2]
    scalp = head.topology.regions["scalp"][layout.faces]
    hair = grow_hair(head, rest.numpy(), vertex_normals(rest, head.topology.faces).numpy(), seed, Haircut.draw(seed))
    strands = torch.from_numpy(hair.vertices)
    nearest = torch.from_numpy(cKDTree(points.numpy()).query(strands.numpy())[1])
    height = ((strands - points[nearest]) * normals[nearest]).sum(1)
    ramp = border_ramp(points, scalp, 0.016)
    tall = torch.stack([_upper(height[nearest == texel]) for texel in scalp.nonzero()[:, 0]])
    kept = ~tall.isnan() & (ramp[scalp] > 0.9)
    return scalp_directions(points, scalp)[scalp][kept], tall[kept].clamp_min(0)


def _upper(heights: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Height that the upper strands over a texel have; NaN where there are hardly any."""
    return heights.quantile(QUANTILE) if len(heights) > 3 else torch.tensor(torch.nan)


def bake(path: Path) -> None:
    """Measure everybody and write the asset."""
    head = load_head("anny")
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + PEOPLE):
        directions, heights = measure_heights(head, seed)
        terms = direction_terms(directions)
        target = (heights.double() + OFFSET).log()
        ridge = RIDGE * len(terms) * torch.eye(terms.shape[1], dtype=torch.double)
        rows.append(torch.linalg.solve(terms.T @ terms + ridge, terms.T @ target))
        print(seed, len(heights), f"{1000 * float(heights.mean()):.1f} mm, fitted to {float((terms @ rows[-1] - target).std()):.3f}")
    fitted = torch.stack(rows)
    tensors = {"mean": fitted.mean(0).float(), "covariance": torch.cov(fitted.T).float()}
    provenance = {"people": str(PEOPLE), "first_seed": str(FIRST_SEED), "made_by": "pipelines/bake/hair.py", "head": "anny"}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {"format": "deja-vu hair", **provenance})


if __name__ == "__main__":
    bake(Path(sys.argv[1]))
