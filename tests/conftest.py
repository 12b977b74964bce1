"""Shared by all tests: one thread, as on the machines that run them, and repeatable random numbers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anybody imports it

pytest_plugins = ["tests.helpers.flame", "tests.helpers.native", "tests.helpers.people"]
"""Fixtures that several folders of tests use."""


def pytest_collection_modifyitems(config, items):
    """Tests marked `gpu` are skipped with their reason where there is no CUDA device; several processes begin with the slow files.

    A slow file that begins last would leave the other processes without work.
    """
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


ALONE = "DEJA_VU_TEST_ALONE"
"""Set in the process that runs a single test which forks."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Tests marked `forks` run in a process of their own: where browsers and pools of threads were used, a fork may wait for ever."""
    if not pyfuncitem.get_closest_marker("forks") or ALONE in os.environ:
        return None
    checked = pyfuncitem.config.getoption("--jaxtyping-packages")
    options = [f"--jaxtyping-packages={checked}"] if checked else []
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, pyfuncitem.nodeid]
    done = subprocess.run(
        words, cwd=pyfuncitem.config.rootpath, env={**os.environ, ALONE: "1"}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return True


@pytest.fixture(autouse=True)
def _repeatable():
    torch.manual_seed(0)


@pytest.fixture
def unchecked_types() -> Iterator[None]:
    """Calls as users make them, whose types and shapes nobody checks before the function does: for tests of its own refusals."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


SCREENSHOTS = Path(__file__).parents[1] / "build" / "screenshots"
"""Pictures that the tests of pages leave behind to be looked at."""
PATIENCE_MS = 300_000
"""Only stops what hangs: a page may draw WebGL on a CPU that is busy with other work."""
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
"""WebGL on the CPU, the same on every machine."""
UNHURRIED = ("--disable-gpu-watchdog", "--disable-gpu-process-crash-limit", "--disable-hang-monitor")
"""Chromium ends where it waits 15 seconds for what a GPU does at once, and a busy CPU does not."""
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""A camera that shows a test picture, with the user's permission."""


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Folder for screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS


@pytest.fixture(scope="session")
def capture(browser) -> Callable[..., bytes]:
    """Take a picture of a page, asked for again where Chromium's compositor, busy drawing WebGL on the CPU, has none to give."""
    from playwright.sync_api import Error

    def shoot(page, path: Path | None = None) -> bytes:
        for _ in range(9):
            try:
                return page.screenshot(path=path, timeout=PATIENCE_MS)
            except Error as error:
                if "Unable to capture screenshot" not in error.message:
                    raise
                page.wait_for_timeout(500)
        return page.screenshot(path=path, timeout=PATIENCE_MS)

    return shoot


def runs(program: str) -> bool:
    """Whether a browser starts: Ubuntu has a script of its name that only asks for snap."""
    return subprocess.run([program, "--version"], capture_output=True, timeout=60, check=False).returncode == 0


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Debian's Chromium without a window, driven by Playwright; skipped with the reason where one of them is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]' in the source folder")
    found = next((path for path in map(shutil.which, CHROMIUM) if path and runs(path)), None)
    if found is None:
        pytest.skip("needs Chromium: make browser, or apt-get install chromium")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=found, args=[*WEBGL, *UNHURRIED, *CAMERA, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        )
        yield running
        running.close()


# A shell starts background jobs with Ctrl-C ignored, and Python then installs no handler; the tests of interrupts need the usual one.
signal.signal(signal.SIGINT, signal.default_int_handler)
