from __future__ import annotations

import base64
import math
import re
from xml.etree import ElementTree

import cv2
import numpy as np

from deja_vu.report import html as page


def points(svg: str) -> list[list[tuple[float, float]]]:
    """Lines of every path of a chart."""
    paths = re.findall(r'<path d="([^"]*)"', svg)
    return [[tuple(map(float, pair.split())) for pair in re.split("[ML]", path)[1:]] for path in paths]


def test_a_chart_draws_what_it_is_given() -> None:
    """Equal steps are equal distances, larger values lie higher, and the ends meet the frame."""
    svg = page.charts([page.Chart("a < b", {"one": ([0, 1, 2, 3], [1.0, 3.0, 2.0, 4.0])})])
    ElementTree.fromstring(svg)
    (line,) = points(svg)
    xs, ys = zip(*line, strict=True)
    assert np.allclose(np.diff(xs), np.diff(xs)[0], atol=0.11)
    assert ys[3] < ys[1] < ys[2] < ys[0]
    assert math.isclose((ys[0] - ys[1]) / (ys[0] - ys[3]), 2 / 3, abs_tol=0.01)
    assert "a &lt; b" in svg


def test_logarithms_gaps_and_shades() -> None:
    svg = page.charts([page.Chart("loss", {"loss": ([0, 1, 2, 3, 4], [100.0, 10.0, math.nan, 0.0, 1.0])}, log=True, shaded=((1, 2),))])
    ElementTree.fromstring(svg)
    path = re.search(r'<path d="([^"]*)"', svg)[1]
    assert path.count("M") == 2  # broken where there is no logarithm
    (line,) = points(svg)
    assert math.isclose((line[1][1] - line[0][1]) / (line[2][1] - line[0][1]), 0.5, abs_tol=0.01)
    assert svg.count("<rect") == 1


def test_charts_without_values_are_left_out() -> None:
    empty = page.charts([page.Chart("none", {}), page.Chart("nan", {"x": ([0, 1], [math.nan, math.nan])})])
    assert "<svg" not in empty
    assert "<svg" in page.charts([page.Chart("one", {"x": ([5], [2.0])})])


def test_pictures_are_inside_the_page() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 200
    source = re.search(r"base64,([^\"]*)", page.picture(image, "red"))[1]
    read = cv2.imdecode(np.frombuffer(base64.b64decode(source), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(read[0, 0].astype(int) - [0, 0, 200]).max() < 6


def test_whatever_is_said_is_text() -> None:
    evil = "<script>alert(1)</script>"
    whole = page.page(
        evil,
        evil,
        [
            page.section(evil, page.tiles({evil: evil}), page.table([evil], [[evil, 1.5]]), lead=evil),
            page.warnings([(evil, evil)]),
            page.folded(evil, evil),
        ],
    )
    assert "<script" not in whole
    assert whole.count("&lt;script&gt;") == 13
    assert "http" not in whole  # it asks the network for nothing
