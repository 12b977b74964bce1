"""Quality by time from different starts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deja_vu.avatars.prior.config import PriorConfig
from deja_vu.avatars.prior.network import build_prior, save_prior
from deja_vu.core.errors import ConfigError, InputError, OutputError
from deja_vu.nets.config import UVNetConfig
from deja_vu.pipelines.compare_starts import LIFTED, NETWORK, PLAIN, QUICK, compare_starts
from tests.pipelines.conftest import unlisted


def test_every_way_is_trained_once_and_compared(tracked, small_recipe, tmp_path):
    network = PriorConfig(head="toy", uv_size=64, network=UVNetConfig(widths=(8, 16), code=8, code_widths=(8, 8)), picture=32)
    save_prior(build_prior(network), tmp_path / "prior.safetensors", {})
    recipe = replace(small_recipe.gaussian, prior=str(tmp_path / "prior.safetensors"))
    quick = tuple(replace(phase, steps=phase.steps // 2) for phase in recipe.phases)
    table = compare_starts([tracked.folder], tmp_path / "out", recipe, quick)
    assert unlisted(tmp_path / "out") == set()
    figures = json.loads((tmp_path / "out" / "curves.json").read_text())
    ends = {run["way"]: run["points"][-1] for run in figures["runs"]}
    assert set(ends) == {PLAIN, LIFTED, NETWORK, QUICK}
    steps = sum(phase.steps for phase in recipe.phases)
    assert (ends[LIFTED]["step"], ends[QUICK]["step"]) == (steps, sum(phase.steps // 2 for phase in recipe.phases))
    starts = {run["way"]: run["points"][0]["psnr"] for run in figures["runs"]}
    assert starts[NETWORK] == starts[QUICK]
    assert min(starts[LIFTED], starts[NETWORK]) > starts[PLAIN] + 3, "an untrained network is lifting, from fewer frames"
    assert all(run["points"][-1]["psnr"] > run["points"][0]["psnr"] for run in figures["runs"])
    assert (tmp_path / "out" / f"{tracked.folder.name}.svg").read_text().count("<path") == 4
    assert len(table.splitlines()) == 6
    made = (tmp_path / "out" / tracked.folder.name / "lifted" / "checkpoint.pt").stat().st_mtime_ns
    with pytest.raises(OutputError, match=r"holds a run of `compare-starts` already. Add --reuse to keep what is there, --overwrite"):
        compare_starts([tracked.folder], tmp_path / "out", recipe, quick)
    assert compare_starts([tracked.folder], tmp_path / "out", recipe, quick, reuse=True) == table
    assert (tmp_path / "out" / tracked.folder.name / "lifted" / "checkpoint.pt").stat().st_mtime_ns == made
    with pytest.raises(ConfigError, match="another recipe"):
        compare_starts([tracked.folder], tmp_path / "out", replace(recipe, seed=1), quick, reuse=True)
    with pytest.raises(InputError, match="given twice"):
        compare_starts([tracked.folder, tracked.folder], tmp_path / "out", recipe, quick, reuse=True)
    with pytest.raises(InputError, match="no start 'old'"):
        compare_starts([tracked.folder], tmp_path / "out", recipe, quick, ["old"], reuse=True)
    with pytest.raises(InputError, match="Nothing to compare"):
        compare_starts([], tmp_path / "empty", recipe, quick)
