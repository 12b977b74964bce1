"""The viewer in a real browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import http.client
import importlib.util
import io
import math
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deja_vu.avatars import save_avatar
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.core.orbit import HEAD_ORBIT
from deja_vu.motion.labels import WORDS
from deja_vu.pipelines.person import Person, load
from deja_vu.pipelines.view import open_viewer, unique_name
from deja_vu.viewer.config import ViewerConfig
from deja_vu.viewer.look import DARK, LIGHT
from deja_vu.viewer.server import Viewer
from deja_vu.viewer.stage import Wish, view_camera
from tests.pipelines.test_cli import refused

__all__ = ["refused"]
needs_viser = pytest.mark.skipif(importlib.util.find_spec("viser") is None, reason="viser is not installed: pip install 'viser>=1.1,<2'")
SECONDS = 180_000
"""Patience with a busy machine, milliseconds."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def run(film, painted, tmp_path) -> Path:
    film(tmp_path / "me" / "track")
    save_avatar(painted, tmp_path / "me" / "avatar.safetensors", {})
    return tmp_path / "me"


@pytest.fixture
def viewer(run) -> Iterator[Viewer]:
    with open_viewer((run,), (), ViewerConfig(port=free_port(), size=256)) as viewer:
        yield viewer


def is_error(message) -> bool:
    """Errors but for one that viser 1.1 causes with any splats, finite or not: its instanced geometry has no bounding sphere."""
    return message.type == "error" and not message.text.startswith("THREE.BufferGeometry.computeBoundingSphere(): Computed radius is NaN")


@pytest.fixture
def page(viewer, browser, capture):
    """The open page, with its errors collected as `page.errors`; `page.capture` takes its picture."""
    page = browser.new_page(viewport={"width": 760, "height": 520})
    page.set_default_timeout(SECONDS)
    page.errors, page.capture = [], partial(capture, page)
    page.on("console", lambda message: page.errors.append(message.text) if is_error(message) else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(f"http://127.0.0.1:{viewer.config.port}")
    page.get_by_role("button", name="Smile", exact=True).wait_for()
    yield page
    page.close()


def canvas(page) -> np.ndarray:
    """What the page shows left of the controls and below the browser's notice about software rendering."""
    picture = Image.open(io.BytesIO(page.capture())).convert("RGB")
    return np.asarray(picture)[200:, :400].astype(int)


def settled(page, differs_from: np.ndarray | None = None) -> np.ndarray:
    """The picture once it has stopped changing, and differs from an earlier one."""
    before = canvas(page)
    for _ in range(100):
        page.wait_for_timeout(300)
        now = canvas(page)
        fresh = differs_from is None or np.abs(now - differs_from).mean() > 0.2
        if fresh and np.abs(now - before).max() == 0 and now.std() > 5:
            return now
        before = now
    raise AssertionError("the picture did not settle, or did not change")


@needs_viser
def test_the_page_shows_the_avatar_and_obeys(page, viewer, screenshots, tmp_path) -> None:
    """Opens, shows what Python renders, and every kind of control moves pixels; no error in the console."""
    first = settled(page)
    session = next(iter(viewer._sessions.values()))
    camera = session._client.camera
    width, height = session._size(1.0)
    view = view_camera(camera.wxyz, np.asarray(camera.position) / 100, camera.fov, width, height)
    rendered = viewer.stage.picture(Wish(), view)
    shown = np.asarray(Image.fromarray(rendered).resize((camera.image_width, camera.image_height), Image.Resampling.BILINEAR)).astype(int)
    error = np.abs(first - shown[200:520, :400])
    assert error.mean() < 3  # JPEG, and the browser's own interpolation
    assert "Gaussians · " in page.inner_text("body")
    page.get_by_role("button", name="A (ah)", exact=True).click()
    spoken = settled(page, first)
    page.get_by_role("button", name="Reset face and head").click()
    again = settled(page, spoken)
    assert np.abs(again - first).mean() < 0.5
    page.locator("input.mantine-NumberInput-input").nth(2).fill("30")  # head yaw, after two frames
    page.keyboard.press("Enter")
    turned = settled(page, first)
    page.capture(screenshots / "viewer_turned.png")
    page.mouse.move(150, 400)
    page.mouse.down()
    page.mouse.move(220, 380, steps=5)
    page.mouse.up()
    settled(page, turned)
    with page.expect_download(timeout=SECONDS) as download:
        page.get_by_role("button", name="Save picture").click()
    download.value.save_as(tmp_path / "shot.png")
    shot = Image.open(tmp_path / "shot.png")
    assert shot.height == height
    assert abs(shot.width - width) <= 2  # the window's own rounding
    assert WORDS["unfilmed"] in page.inner_text("body")  # in place of what there is, so that the line does not wrap
    assert page.title() == "me · Déjà-vu"
    assert page.errors == []


@needs_viser
def test_a_motion_plays_and_splats_appear(page, viewer, screenshots) -> None:
    first = settled(page)
    session = next(iter(viewer._sessions.values()))
    panel = session.panel
    page.get_by_role("combobox", name="Motion").click()
    page.get_by_role("option", name="As filmed").click()
    moved = [canvas(page)]
    for _ in range(6):
        page.wait_for_timeout(400)
        moved.append(canvas(page))
    assert len({frame.tobytes() for frame in moved}) > 2  # it plays
    page.get_by_role("button", name="Neutral", exact=True).click()  # a preset stops the motion
    exact = settled(page)
    assert panel.motion.value == "No motion"
    page.get_by_role("combobox", name="Drawn as").click()
    page.get_by_role("option", name="Splats in the browser").click()
    drawn = settled(page, exact)
    page.capture(screenshots / "viewer_splats.png")
    assert np.abs(drawn - first).mean() < 25  # the same head, drawn by another renderer
    assert (np.abs(drawn - 255).max(-1) > 60).mean() > 0.05
    assert page.errors == []


@needs_viser
def test_nobody_looks_behind_the_head(page, viewer) -> None:
    """A camera that is dragged around the head is held, and stands at the limit once it rests."""
    settled(page)
    session = next(iter(viewer._sessions.values()))
    page.mouse.move(60, 400)
    page.mouse.down()
    page.mouse.move(390, 400, steps=8)
    page.mouse.up()

    def yaw() -> float:
        x, _, z = np.asarray(session._client.camera.position) - np.asarray(session._client.camera.look_at)
        return abs(math.degrees(math.atan2(x, -z)))

    for _ in range(100):
        page.wait_for_timeout(300)
        if abs(yaw() - HEAD_ORBIT.yaw) < 1:
            break
    assert yaw() == pytest.approx(HEAD_ORBIT.yaw, abs=1)


@needs_viser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_whole_head_in_the_systems_colors(scheme, viewer, browser, capture, screenshots) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    page.goto(f"http://127.0.0.1:{viewer.config.port}")
    page.get_by_role("button", name="Smile", exact=True).wait_for()
    expected = {"light": LIGHT, "dark": DARK}[scheme]
    for _ in range(100):
        page.wait_for_timeout(300)
        shown = np.asarray(Image.open(io.BytesIO(capture(page, screenshots / f"viewer_phone_{scheme}.png"))).convert("RGB")).astype(int)
        picture = shown[4:440, 4:-4]
        head = np.argwhere(np.abs(picture - expected).max(-1) > 40)
        if len(head) > 0.1 * picture[..., 0].size and np.abs(picture[0, 0] - expected).max() < 4:
            break
    assert np.abs(picture[0, 0] - expected).max() < 4
    assert head.min(0).min() > 4  # not cut by the window
    assert head.max(0)[1] < picture.shape[1] - 4
    assert head.max(0)[0] < picture.shape[0] - 4  # nor by the controls
    wide = page.get_by_role("button", name="Reset face and head").bounding_box()["width"]
    assert wide > 340  # the controls use the screen
    context.close()


@needs_viser
def test_keys_do_what_they_do_on_the_exported_page(page, viewer) -> None:
    settled(page)
    panel = next(iter(viewer._sessions.values())).panel
    page.keyboard.press("Space")
    for _ in range(100):
        page.wait_for_timeout(100)
        if panel.playing:
            break
    assert panel.playing
    page.keyboard.press("r")
    for _ in range(100):
        page.wait_for_timeout(100)
        if not panel.playing:
            break
    assert panel.motion.value == "No motion"


@needs_viser
def test_nothing_but_the_page_can_be_read(viewer, tmp_path) -> None:
    """Neither the run's files nor the system's, in any spelling."""
    (tmp_path / "secret.txt").write_text("secret")
    paths = ["/avatar.safetensors", "/me/avatar.safetensors", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd"]
    paths += ["/..%5c..%5cetc%5cpasswd", "//etc/passwd", f"/{tmp_path}/secret.txt", "/track/frames/000000.jpg"]
    for path in paths:
        connection = http.client.HTTPConnection("127.0.0.1", viewer.config.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 404, path
        assert b"root:" not in answer.read()
    connection = http.client.HTTPConnection("127.0.0.1", viewer.config.port, timeout=60)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200


def ask(port: int, **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of the page, asked for with these headers."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        line.sendall("\r\n".join(["GET / HTTP/1.1", *lines, "Connection: close", "", ""]).encode())
        answer = http.client.HTTPResponse(line)
        answer.begin()
        return answer.status, dict(answer.getheaders())


@needs_viser
def test_it_answers_its_own_host_and_origin_alone(viewer) -> None:
    port = viewer.config.port
    talk = {"Upgrade": "websocket", "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec_WebSocket_Version": "13"}
    for name in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost:9000"):  # the last through a tunnel
        status, headers = ask(port, Host=name)
        assert status == 200
        assert f"connect-src 'self' ws://{name}" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert ask(port, Host=name, Origin=f"http://{name}")[0] == 200
        assert ask(port, Host=name, Origin="https://elsewhere.example")[0] == 403
        assert ask(port, Host=name, Origin="null")[0] == 403
        assert ask(port, Host=name, **talk)[0] == 403, "no page of ours"
        assert ask(port, Host=name, Origin="http://elsewhere.example", **talk)[0] == 403
    for name in (f"elsewhere.example:{port}", f"127.0.0.1.elsewhere.example:{port}", f"localhost.elsewhere.example:{port}", ""):
        assert ask(port, Host=name)[0] == 403, "a name elsewhere was made to mean this machine"
        assert ask(port, Host=name, Origin=f"http://{name}", **talk)[0] == 403


@needs_viser
def test_its_own_page_may_talk(viewer) -> None:
    import viser
    from websockets.sync.client import connect

    here = f"127.0.0.1:{viewer.config.port}"
    with connect(f"ws://{here}", origin=f"http://{here}", subprotocols=[f"viser-v{viser.__version__}"]) as talk:
        assert talk.recv(timeout=60)


@needs_viser
@pytest.mark.parametrize(
    ("host", "who", "shown"),
    [("127.0.0.1", "here", True), ("0.0.0.0", "here", False), ("0.0.0.0", "all", True), ("127.0.0.1", "never", False)],
)
def test_filmed_frames_are_for_those_for_whom_they_are_meant(run, host, who, shown) -> None:
    with open_viewer((run,), (), ViewerConfig(port=free_port(), host=host, film=who)) as viewer:
        assert (viewer.stage.performers[0].sequence is not None) == shown
        assert "As filmed" in viewer.stage.clips


@needs_viser
def test_it_listens_on_this_machine_alone(viewer) -> None:
    for address, answers in (("127.0.0.1", True), ("127.0.0.2", False)):  # another name of this machine; 0.0.0.0 would answer to both
        with socket.socket() as probe:
            probe.settimeout(5)
            assert (probe.connect_ex((address, viewer.config.port)) == 0) == answers


def test_what_cannot_be_viewed_is_refused(refused, run, tmp_path) -> None:
    port = free_port()
    assert "Nothing to look at" in refused("view", "--port", port)
    assert "holds no avatar.safetensors" in refused("view", tmp_path / "absent", "--port", port)
    assert "plays recordings" in refused("view", run, "--motion", "webcam:0", "--port", port)
    assert "There is no file" in refused("view", run, "--motion", tmp_path / "none.mp4", "--port", port)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        assert f"Cannot listen on 127.0.0.1:{port}" in refused("view", run, "--port", port)
    data = (run / "avatar.safetensors").read_bytes()
    (run / "avatar.safetensors").write_bytes(data[: len(data) // 2])
    assert "is damaged" in refused("view", run, "--port", port)


def test_avatars_of_different_heads_are_refused(run, tmp_path, monkeypatch) -> None:
    shutil.copytree(run, tmp_path / "other")

    def load_with_another_head(run: Path, device: torch.device) -> Person:
        person = load(run, device)
        if loads:
            person.head.spec = replace(person.head.spec, name="another")
        loads.append(run)
        return person

    loads: list[Path] = []
    monkeypatch.setattr("deja_vu.pipelines.view.load", load_with_another_head)
    with pytest.raises(ConfigError, match="View them one by one"):
        open_viewer((run, tmp_path / "other"), (), ViewerConfig(port=free_port()))


@pytest.mark.usefixtures("unchecked_types")  # a name does not depend on who bears the others
def test_names_are_unique() -> None:
    assert unique_name({}, "a") == "a"
    assert unique_name({"a": None, "a (2)": None}, "a") == "a (3)"  # type: ignore[dict-item]


def test_no_run_is_refused() -> None:
    with pytest.raises(InputError, match="Nothing to look at"):
        open_viewer((), (), ViewerConfig())
