"""The exported page in a real browser, for the tests of the page and of what embeds it."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deja_vu.core.camera import Camera
from deja_vu.export.web import Clip, write_web

SIDE = 300
PATIENCE_MS = 300_000
"""Only stops what hangs: WebGL runs on the CPU here, which other work may keep busy."""
CHATTER = ("TensorFlow Lite", "gl_context", "face_landmarker", "inference_feedback", "Graph successfully")
"""What MediaPipe tells about itself, some of it as errors."""


@pytest.fixture(scope="session")
def exported_page(avatar, subject, controls, motion, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_web(avatar, subject, controls, [Clip("Talk", motion, 25.0)], "someone", folder)
    return folder


@pytest.fixture(scope="module")
def opener(browser) -> Iterator[Callable[..., object]]:
    """Open a page by its address; see `opened`."""
    pages, complaints = [], []

    def open_page(address: str, ready: bool = True):
        page = browser.new_context(viewport={"width": SIDE + 480, "height": SIDE}, permissions=["camera"]).new_page()
        pages.append(page)
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(f"asks for {request.url}") if outside(request.url, address) else None)
        page.goto(address)
        if ready:
            page.evaluate("dejaVu.then((avatar) => avatar.name)")
        return page

    open_page.pages, open_page.complaints = pages, complaints  # type: ignore[attr-defined]
    yield open_page
    for page in pages:
        page.context.close()


@pytest.fixture
def opened(opener) -> Iterator[Callable[..., object]]:
    """Open a page by its address; a page must complain of nothing, unless the test clears what it expected."""
    earlier = len(opener.pages)
    yield opener
    for page in opener.pages[earlier:]:  # a page that stays open goes on drawing
        page.context.close()
    del opener.pages[earlier:]
    heard = [text for text in opener.complaints if not any(known in text for known in CHATTER)]
    opener.complaints.clear()
    assert not heard, heard


@pytest.fixture(scope="module")
def exported_open(opener, exported_page):
    return opener(on_disk(exported_page))


@pytest.fixture
def page(exported_open, opened):
    """The exported page as it opens; one page serves many tests, as WebGL on the CPU takes seconds to start."""
    exported_open.evaluate("async () => (await dejaVu).view.reset()")
    exported_open.locator("#reset").evaluate("(button) => button.click()")
    exported_open.locator("#background").evaluate("(input) => { input.value = '#ffffff'; input.dispatchEvent(new Event('input')); }")
    return exported_open


def outside(url: str, address: str) -> bool:
    """Whether a request leaves the folder of the page."""
    return not url.startswith((address.split("?")[0].rsplit("/", 1)[0] + "/", "data:", "blob:"))


def on_disk(folder: Path) -> str:
    return (folder / "index.html").resolve().as_uri()


def seen(page, params=None, camera=None) -> np.ndarray:
    """The page's own picture, [H W 3] in [0, 1]; of what it shows now, or of a pose in front of a camera."""
    arguments: list = [None, None]
    if params is not None:
        pose = params.world_from_head[0].flatten().tolist()
        torso = params.torso[0].flatten().tolist()
        arguments[0] = {"expression": params.expression[0].tolist(), "joints": params.joints[0].tolist(), "pose": pose, "torso": torso}
        arguments[1] = pinhole(camera)
    url = page.evaluate("async ([params, camera]) => (await dejaVu).snapshot(params ?? undefined, camera ?? undefined)", arguments)
    return pixels(url)[..., :3]


def pinhole(camera: Camera) -> dict[str, object]:
    """A camera as the page has it."""
    (fx, _, cx), (_, fy, cy), _ = camera.intrinsics.tolist()
    view = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": camera.width, "height": camera.height}
    return view | {"cameraFromWorld": camera.camera_from_world.flatten().tolist()}


def pixels(url: str) -> np.ndarray:
    """A PNG data URL as [H W 4] in [0, 1]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA")) / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return -10 * math.log10(float(np.square(a - b).mean()) + 1e-12)


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """Address of a folder on a server of its own."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def wait_until(page, condition: str, patience_ms: int = PATIENCE_MS) -> None:
    """Return once an expression of JavaScript, which may await, holds.

    `page.wait_for_function` evaluates text in the page, which its policy forbids.

    Args:
        page: or frame.
        condition: expression in the page's own scope.
        patience_ms: after which the test fails.
    """
    loop = f"""async (patience) => {{
      for (const start = performance.now(); performance.now() - start < patience;) {{
        if ({condition}) return true;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }}
      return false;
    }}"""
    assert page.evaluate(loop, patience_ms), f"did not become true: {condition}"


def set_slider(page, selector: str, value: float) -> None:
    script = "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }"
    page.locator(selector).first.evaluate(script, value)
