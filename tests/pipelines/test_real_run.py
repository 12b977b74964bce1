"""What docs/guide/export.md and docs/guide/drive_and_view.md say of a trained avatar, measured again on any run:

DEJA_VU_RUN=runs/me python -m pytest -s tests/pipelines/test_real_run.py
"""

from __future__ import annotations

import json
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from deja_vu.core.gaussians import Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.motion.neutral import estimate_neutral, face_camera
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.drive import turntable_of
from deja_vu.pipelines.person import load_pair, subject_of
from deja_vu.pipelines.view import open_viewer
from deja_vu.render.base import rasterize
from deja_vu.viewer.config import ViewerConfig
from tests.export.pages import on_disk, psnr, seen
from tests.export.test_rig import gaussians as by_numpy
from tests.export.test_splats import PREFIX, gltf_arrays
from tests.pipelines.test_view import free_port

RUN = Path(os.environ.get("DEJA_VU_RUN", ""))
pytestmark = pytest.mark.skipif("DEJA_VU_RUN" not in os.environ, reason="needs a trained avatar: DEJA_VU_RUN=runs/me")
LOSSLESS_DB, LOSSY_DB, PAGE_DB, PAGE_MB = 40, 35, 35, 8
"""What the issue asks for; SPZ keeps 8 bits."""
HALF_TURN = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def pair():
    return load_pair(RUN)


@pytest.fixture(scope="module")
def standing(pair) -> HeadParams:
    """The person at rest."""
    avatar, subject = pair
    return face_camera(estimate_neutral(subject.params, avatar.head))


@torch.no_grad()
def native(avatar, params, camera) -> np.ndarray:
    return avatar.render(params, camera, torch.ones(3)).rgb[0].clamp(0, 1).numpy()


def read(path: Path) -> tuple[np.ndarray, ...]:
    """Centers, rotations (wxyz), scales, opacities and colors in axes y up, z out of the face, read by other projects' programs."""
    gsply = pytest.importorskip("gsply")
    if path.suffix in (".glb", ".gltf"):
        found = gltf_arrays(path)
        names = ("POSITION", *(f"{PREFIX}{name}" for name in ("ROTATION", "SCALE", "OPACITY", "SH_DEGREE_0_COEF_0")))
        means, xyzw, scales, opacities, colors = (found[name] for name in names)
        return means, xyzw[:, [3, 0, 1, 2]], scales, opacities[:, 0], colors
    found = gsply.plyread(str(path)) if path.suffix == ".ply" else gsply.read_spz(str(path))
    means, quats = found.means, found.quats
    if path.suffix == ".ply":
        w, x, y, z = quats.T
        means, quats = means @ HALF_TURN, np.stack([-x, w, -z, y], 1)
    return means, quats, np.exp(found.scales), 1 / (1 + np.exp(-found.opacities.astype(float))), found.sh0


def drawn(values: tuple[np.ndarray, ...], camera) -> np.ndarray:
    gaussians = Gaussians(*(torch.from_numpy(np.ascontiguousarray(value)).float() for value in values))
    return rasterize(gaussians, camera, torch.ones(3)).rgb.clamp(0, 1).numpy()


@pytest.mark.parametrize("name", ["a.ply", "a.spz", "a.glb", "a.gltf"])
def test_a_splat_file_shows_the_person(name, pair, standing, tmp_path):
    avatar, subject = pair
    path = tmp_path / name
    main(["export", str(RUN), "--format", {"glb": "gltf"}.get(path.suffix[1:], path.suffix[1:]), "--out", str(path)])
    means, (w, x, y, z), *rest = (value.T if place == 1 else value for place, value in enumerate(read(path)))
    means = means @ HALF_TURN + standing.world_from_head[0, :3, 3].numpy()
    shown = drawn((means, np.stack([-x, w, -z, y], 1), *rest[:2], rest[2][:, None]), subject.camera)
    found = psnr(shown, native(avatar, standing, subject.camera))
    print(f"{name}: {found:.1f} dB, {path.stat().st_size / 1e6:.1f} MB")
    assert found > (LOSSY_DB if name == "a.spz" else LOSSLESS_DB)


def test_the_raw_maps_show_the_person(pair, standing, tmp_path):
    """By NumPy and SciPy, in a pose of the video."""
    avatar, subject = pair
    main(["export", str(RUN), "--format", "npz", "--out", str(tmp_path / "a.npz")])
    params = replace(subject.params[len(subject) // 2 :][:1], shape=standing.shape)
    with np.load(tmp_path / "a.npz") as archive:
        values = (tensor[0].double().numpy() for tensor in (params.expression, params.joints, params.world_from_head, params.torso))
        means, covariances, opacities, colors = by_numpy(dict(archive), json.loads(str(archive["facts"])), *values)
    variances, axes = np.linalg.eigh(covariances)
    axes = axes * np.sign(np.linalg.det(axes))[:, None, None]
    quats = Rotation.from_matrix(axes).as_quat()[:, [3, 0, 1, 2]]
    shown = drawn((means, quats, np.sqrt(np.maximum(variances, 0)), opacities, colors[:, None]), subject.camera)
    found = psnr(shown, native(avatar, params, subject.camera))
    print(f"a.npz: {found:.1f} dB, {(tmp_path / 'a.npz').stat().st_size / 1e6:.1f} MB")
    assert found > LOSSLESS_DB


def test_the_page_shows_ten_poses_as_python_does(pair, standing, browser, screenshots, tmp_path):
    """Five of the video, five of the turntable."""
    avatar, subject = pair
    main(["export", str(RUN), "--format", "web", "--out", str(tmp_path / "page")])
    size = sum((tmp_path / "page" / name).stat().st_size for name in ("index.html", "avatar.bin")) / 1e6
    turn = turntable_of(avatar, subject_of(subject, avatar), 150).params
    poses = [subject.params[k : k + 1] for k in np.linspace(0, len(subject) - 1, 5).astype(int)]
    poses = [replace(pose, shape=standing.shape) for pose in poses] + [turn[k : k + 1] for k in (20, 50, 80, 110, 140)]
    page = browser.new_page(viewport={"width": 1000, "height": 600})
    page.set_default_timeout(600_000)
    page.goto(on_disk(tmp_path / "page"))
    shown = [seen(page, pose, subject.camera) for pose in poses]
    page.close()
    ours = [native(avatar, pose, subject.camera) for pose in poses]
    found = [psnr(a, b) for a, b in zip(shown, ours, strict=True)]
    sheet = np.concatenate([np.concatenate(row[::3], 1) for row in (shown, ours)])
    Image.fromarray((255 * sheet).round().astype(np.uint8)).save(screenshots / "page_real.png")
    print(f"page: {avatar.num_gaussians} Gaussians, {size:.1f} MB; ten poses: {min(found):.1f} to {max(found):.1f} dB")
    assert min(found) > PAGE_DB
    assert size <= PAGE_MB


def test_the_viewer_keeps_up_with_a_slider(pair, browser):
    """A slider is dragged for some seconds: pictures that reach the browser in a second, and the time from each event to its picture."""
    drag = """async (seconds) => {
      const label = [...document.querySelectorAll('label')].find(({ textContent }) => textContent === 'Head yaw');
      const slider = document.getElementById(label.htmlFor).querySelector('[role=slider]');
      const box = slider.parentElement.getBoundingClientRect();
      const fire = (type, x) => (type === 'mousedown' ? slider.parentElement : document).dispatchEvent(
        new MouseEvent(type, { bubbles: true, clientX: box.x + x * box.width, clientY: box.y + box.height / 2, button: 0 }));
      fire('mousedown', 0.5);
      for (const end = performance.now() + 1000 * seconds; performance.now() < end; ) {
        fire('mousemove', 0.5 + 0.3 * Math.sin(performance.now() / 400));
        await new Promise((resolve) => setTimeout(resolve, 16));
      }
      fire('mouseup', 0.5);
    }"""
    events, pictures = [], []
    with open_viewer((RUN,), (), ViewerConfig(port=free_port())) as viewer:
        page = browser.new_page(viewport={"width": 836, "height": 512})  # the picture is square beside the controls
        page.set_default_timeout(600_000)
        page.on(
            "websocket",
            lambda socket: (
                socket.on("framesent", lambda data: b"GuiUpdate" in data and events.append(time.monotonic())),
                socket.on("framereceived", lambda data: b"BackgroundImage" in data and pictures.append(time.monotonic())),
            ),
        )
        page.goto(f"http://127.0.0.1:{viewer.config.port}")
        page.get_by_role("button", name="Smile", exact=True).wait_for()
        page.wait_for_timeout(4000)
        events.clear(), pictures.clear()
        page.evaluate(drag, 6)
        session = next(iter(viewer._sessions.values()))
        print(f"panel: {session.panel._status.content}; picture {session._size(1.0)}")
        page.close()
    waits = [next((shown - asked for shown in pictures if shown > asked), None) for asked in events]
    latency = [1000 * wait for wait in waits if wait is not None]
    rate = (len(pictures) - 1) / (pictures[-1] - pictures[0])
    print(f"viewer: {rate:.0f} pictures/s; slider to picture: median {statistics.median(latency):.0f} ms, least {min(latency):.0f} ms")
