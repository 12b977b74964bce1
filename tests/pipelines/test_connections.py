"""What is made of a person stays on this machine: no command reaches for another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from deja_vu.io.assets import ASSETS, find
from tests.helpers.connections import run_traced
from tests.pipelines.test_view import free_port

PHOTO = Path(__file__).parents[1] / "data" / "faces" / "female_00.jpg"
ROAD = """
import sys, threading, urllib.request
from pathlib import Path
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.sample import write_sample
from deja_vu.pipelines.view import open_viewer
from deja_vu.viewer.config import ViewerConfig

folder, photo, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
film, me, her = (str(folder / name) for name in ("film.mp4", "me", "her"))
write_sample(Path(film), 12, size=192)
small = ["--device", "cpu", "--track.resolution", "128", "--crop", "head"]
main(["personalize", film, "--out", me, "--config", "tiny", *small])
rough = ["--init", "lifted", "--uv-size", "64", "--photo.resolution", "128"]
main(["reconstruct", photo, "--out", her, "--device", "cpu", *rough, "--crop", "head"])
main(["drive", me, "--motion", film, "--out", str(folder / "driven.mp4"), "--device", "cpu"])
with open_viewer((Path(me), Path(her)), (), ViewerConfig(port=port)):
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}").status == 200
print("whole road")
"""


@pytest.mark.slow
@pytest.mark.skipif(any(find(name) is None for name in ASSETS), reason="models are not all here: python -m deja_vu.io.assets")
def test_from_film_and_photo_to_the_browser_nobody_else_is_asked(tmp_path) -> None:
    pytest.importorskip("viser", reason="viser is not installed")
    printed, others = run_traced(["-c", ROAD, str(tmp_path), str(PHOTO), str(free_port())], tmp_path / "calls", timeout=900)
    assert printed.endswith("whole road\n"), printed[-500:]
    assert others == []
