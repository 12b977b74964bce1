"""Nothing that finds a face or a person tells anybody about it."""

from __future__ import annotations

import pytest

from deja_vu.io.assets import find
from tests.helpers.connections import reached, run_traced

LOOK = """
import time
import numpy as np
from deja_vu.tracking.config import MatteConfig
from deja_vu.tracking.detector import LandmarkDetector
from deja_vu.tracking.matte import Matting
picture = np.zeros((256, 256, 3), np.uint8)
with LandmarkDetector(runtime="RUNTIME") as detector, Matting(MatteConfig(runtime="RUNTIME")) as matting:
    print(len(detector.detect_all(picture)))
    matting.coarse(picture)
time.sleep(0.5)
"""
TALK = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
    line.connect(("192.0.2.1", 9))
    line.connect(("127.0.0.1", 9))
"""


def test_a_program_that_talks_is_seen(tmp_path):
    assert run_traced(["-c", TALK], tmp_path / "calls") == ("", ["192.0.2.1:9"])


def test_addresses_are_read_from_calls():
    calls = """
    7 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0
    7 connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = 0
    7 connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)
    7 sendto(3, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, 16) = 1
    """  # noqa: E501
    assert reached(calls) == ["127.0.0.53:53", "2001:db8::1:443"], "a loopback name server is asked for somebody else's sake"


@pytest.mark.parametrize("environment", [{}, {"no_proxy": "*", "https_proxy": "http://192.0.2.1:3128"}])
@pytest.mark.parametrize("runtime", ["litert", "mediapipe"])
def test_looking_for_a_face_and_a_person_connects_to_nobody(tmp_path, runtime, environment):
    if find("face_landmarker") is None or find("selfie_segmenter") is None:
        pytest.skip("models have not been fetched: python -m deja_vu.io.assets")
    if runtime == "mediapipe":
        pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    printed, others = run_traced(["-c", LOOK.replace("RUNTIME", runtime)], tmp_path / "calls", **environment)
    assert printed == "0\n"
    assert others == []
