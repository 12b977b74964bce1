from __future__ import annotations

import pytest
import torch

from deja_vu.render.base import RASTERIZERS
from deja_vu.render.probe import find_fault

CPU = torch.device("cpu")


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_rasterizer_that_works_has_no_fault(backend: str) -> None:
    assert find_fault(backend, CPU) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_rasterizer_that_is_not_there_says_what_it_needs() -> None:
    assert "needs a CUDA device" in (find_fault("gsplat", CPU) or "")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gsplat_draws_the_tiny_scene_or_says_what_to_install() -> None:
    fault = find_fault("gsplat", torch.device("cuda"))
    assert fault is None or "install" in fault.lower()


@pytest.mark.parametrize("change", ["dimmer", "flat"])
def test_a_rasterizer_that_draws_wrongly_is_found_out(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    right = RASTERIZERS["reference"]

    def wrong(gaussians, camera, background, depth):
        out = right(gaussians, camera, background, depth)
        rgb = 0.98 * out.rgb if change == "dimmer" else out.rgb.detach() + 0 * out.rgb
        return type(out)(rgb, out.alpha, out.depth)

    monkeypatch.setitem(RASTERIZERS, "broken", wrong)
    assert "draws a tiny scene wrongly" in (find_fault("broken", CPU) or "")
    find_fault.cache_clear()
