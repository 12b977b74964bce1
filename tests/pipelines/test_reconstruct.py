"""One photo becomes a run that the other commands read."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
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
    reconstruct([WOMAN], out, ReconstructConfig(init="lifted", uv_size=128, **QUICK), overwrite=False)
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
        reconstruct([WOMAN], out, ReconstructConfig(init="lifted", **QUICK), overwrite=False)


def test_an_untrained_network_is_lifting(tmp_path):
    pytest.importorskip("ai_edge_litert")
    config = PriorConfig(uv_size=128, network=UVNetConfig(widths=(8, 16), code=8, code_widths=(8, 8)))
    save_prior(build_prior(config), tmp_path / "prior.safetensors", {})
    reconstruct([WOMAN], tmp_path / "net", ReconstructConfig(prior=str(tmp_path / "prior.safetensors"), **QUICK), overwrite=False)
    reconstruct([WOMAN], tmp_path / "lift", ReconstructConfig(init="lifted", uv_size=128, **QUICK), overwrite=False)
    ours, plain = (load_pair(tmp_path / name)[0] for name in ("net", "lift"))
    assert isinstance(ours, GaussianAvatar)
    assert isinstance(plain, GaussianAvatar)
    assert torch.equal(ours.base, plain.base)


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="There is no file"):
        reconstruct([tmp_path / "none.jpg"], tmp_path / "out", ReconstructConfig(init="lifted"), overwrite=False)
    monkeypatch.setattr("deja_vu.avatars.prior.network.SHIPPED", "absent.safetensors")
    with pytest.raises(MissingAssetError, match="No trained network ships"):
        reconstruct([WOMAN], tmp_path / "out", ReconstructConfig(), overwrite=False)
    assert not (tmp_path / "out").exists()


def test_several_photos_of_one_person_become_one_head(tmp_path, capsys):
    """The same face from a little nearer shares its identity; both pictures count, the first one's place is kept."""
    pytest.importorskip("ai_edge_litert")
    picture = cv2.imread(str(WOMAN))
    height, width = picture.shape[:2]
    nearer = cv2.resize(picture[height // 20 : -height // 20, width // 20 : -width // 20], (width, height))
    cv2.imwrite(str(tmp_path / "nearer.png"), np.clip(1.15 * nearer.astype(np.float32), 0, 255).astype(np.uint8))
    config = ReconstructConfig(init="lifted", uv_size=128, crop="head", **QUICK)
    reconstruct([WOMAN, tmp_path / "nearer.png"], tmp_path / "both", config, overwrite=False)
    reconstruct([WOMAN], tmp_path / "one", config, overwrite=False)
    assert "the first of 2 photos" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "both" / "metrics.json").read_text())
    assert metrics["photos"] == [WOMAN.name, "nearer.png"]
    assert metrics["input_view"]["psnr"] > 15
    record = json.loads((tmp_path / "both" / "run.json").read_text())
    assert record["other_sources"].endswith("nearer.png")
    both, one = (load_pair(tmp_path / name)[0] for name in ("both", "one"))
    brighter = (both.base - one.base)[~both.scalp, -3:]
    assert brighter.mean() > 0.05, "the second picture was brighter"


def test_photos_of_two_people_are_refused_and_leave_nothing(tmp_path):
    pytest.importorskip("ai_edge_litert")
    config = ReconstructConfig(init="lifted", uv_size=128, **QUICK)
    with pytest.raises(InputError, match=r"male_49\.jpg seems to show another person than female_00\.jpg"):
        reconstruct([WOMAN, WOMAN.with_name("male_49.jpg")], tmp_path / "out", config, overwrite=False)
    assert not (tmp_path / "out").exists()
