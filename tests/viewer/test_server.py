from __future__ import annotations

import socket
import sys

import numpy as np
import pytest
import torch

from deja_vu.core.conventions import SH_C0
from deja_vu.core.errors import InputError, MissingAssetError
from deja_vu.core.gaussians import Gaussians
from deja_vu.viewer.config import ViewerConfig
from deja_vu.viewer.server import UNITS, Viewer, refuse_taken, splats


def test_splats_are_the_gaussians_in_scene_units() -> None:
    """Covariance by the rotation's own columns; half floats, in which the browser keeps it, hold it to one part in a thousand."""
    torch.manual_seed(0)
    quats = torch.nn.functional.normalize(torch.randn(1, 5, 4), dim=-1)
    scales = torch.rand(1, 5, 3) * 2e-3 + 2e-4
    sh = torch.rand(1, 5, 1, 3) - 0.5
    drawn = Gaussians(torch.randn(1, 5, 3), quats, scales, torch.rand(1, 5), sh)
    centers, covariances, rgbs, opacities = splats(drawn)
    assert centers == pytest.approx(100 * drawn.means[0].numpy())
    from scipy.spatial.transform import Rotation

    for place in range(5):
        axes = Rotation.from_quat(quats[0, place].numpy(), scalar_first=True).as_matrix()
        expected = axes @ np.diag((UNITS * scales[0, place].numpy()) ** 2) @ axes.T
        assert covariances[place] == pytest.approx(expected, abs=1e-6)
        assert covariances[place].astype(np.float16).diagonal() == pytest.approx(expected.diagonal(), rel=1e-3)
    assert rgbs == pytest.approx((0.5 + SH_C0 * sh[0, :, 0]).numpy())
    assert opacities.shape == (5, 1)


def test_a_taken_port_and_a_foreign_address_are_refused() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(InputError, match=r"Cannot listen on 127\.0\.0\.1:\d+ .*--port"):
            refuse_taken("127.0.0.1", holder.getsockname()[1])
    with pytest.raises(InputError, match="Cannot listen on 192"):
        refuse_taken("192.0.2.1", 8080)
    with pytest.raises(InputError, match="Cannot listen"):
        refuse_taken("127.0.0.1", 99999)


@pytest.mark.usefixtures("unchecked_types")
def test_without_viser_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(MissingAssetError, match="pip install 'viser"):
        Viewer(None, ViewerConfig(port=free_port()))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
