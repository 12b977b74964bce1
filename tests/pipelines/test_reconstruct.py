"""One photo becomes a run that the other commands read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from deja_vu.avatars import GaussianAvatar
from deja_vu.avatars.prior.config import PriorConfig
from deja_vu.avatars.prior.network import build_prior, save_prior
from deja_vu.core.errors import InputError, MissingAssetError, OutputError
from deja_vu.nets.config import UVNetConfig
from deja_vu.pipelines.configs import ReconstructConfig
from deja_vu.pipelines.person import load_pair
from deja_vu.pipelines.reconstruct import reconstruct
from deja_vu.tracking.config import PhotoConfig
from tests.pipelines.conftest import unlisted

WOMAN = Path(__file__).parents[1] / "data" / "faces" / "female_00.jpg"
QUICK = {"photo": PhotoConfig(resolution=256), "turntable_frames": 3, "turntable_side": 64}


def test_photo_to_run(tmp_path):
    pytest.importorskip("ai_edge_litert")
    out = tmp_path / "her"
    reconstruct(WOMAN, out, ReconstructConfig(init="lifted", uv_size=128, **QUICK), overwrite=False)
    assert {"avatar.safetensors", "compare.png", "expressions.png", "turntable.mp4", "metrics.json", "track"} <= {
        p.name for p in out.iterdir()
    }
    assert unlisted(out) == set()
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["input_view"]["psnr"] > 15
    avatar, subject = load_pair(out)
    assert isinstance(avatar, GaussianAvatar)
    assert len(subject) == 1
    with pytest.raises(OutputError, match="holds a run of `reconstruct` already"):
        reconstruct(WOMAN, out, ReconstructConfig(init="lifted", **QUICK), overwrite=False)


def test_an_untrained_network_is_lifting(tmp_path):
    pytest.importorskip("ai_edge_litert")
    config = PriorConfig(uv_size=128, network=UVNetConfig(widths=(8, 16), code=8, code_widths=(8, 8)))
    save_prior(build_prior(config), tmp_path / "prior.safetensors", {})
    reconstruct(WOMAN, tmp_path / "net", ReconstructConfig(prior=str(tmp_path / "prior.safetensors"), **QUICK), overwrite=False)
    reconstruct(WOMAN, tmp_path / "lift", ReconstructConfig(init="lifted", uv_size=128, **QUICK), overwrite=False)
    ours, plain = (load_pair(tmp_path / name)[0] for name in ("net", "lift"))
    assert isinstance(ours, GaussianAvatar)
    assert isinstance(plain, GaussianAvatar)
    assert torch.equal(ours.base, plain.base)


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="There is no file"):
        reconstruct(tmp_path / "none.jpg", tmp_path / "out", ReconstructConfig(init="lifted"), overwrite=False)
    monkeypatch.setattr("deja_vu.avatars.prior.network.SHIPPED", "absent.safetensors")
    with pytest.raises(MissingAssetError, match="No trained network ships"):
        reconstruct(WOMAN, tmp_path / "out", ReconstructConfig(), overwrite=False)
    assert not (tmp_path / "out").exists()
