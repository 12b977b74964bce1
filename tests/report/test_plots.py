from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deja_vu.report.plots import LARGE, Axis, Bar, Chart, Point, bar_chart, line_chart, pareto_front, scatter


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """Points of every path of a chart."""
    paths = re.findall(r'<path d="([^"]*)"', svg)
    return [[tuple(map(float, pair.split())) for pair in re.split("[ML]", path)[1:]] for path in paths]


def texts(svg: str) -> list[str]:
    return [node.text for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_a_chart_draws_what_it_is_given() -> None:
    """Equal steps are equal distances, and larger values lie higher."""
    svg = line_chart(Chart("a < b", {"one": ([0, 1, 2, 3], [1.0, 3.0, 2.0, 4.0])}))
    (line,) = lines(svg)
    xs, ys = zip(*line, strict=True)
    assert np.allclose(np.diff(xs), np.diff(xs)[0], atol=0.11)
    assert ys[3] < ys[1] < ys[2] < ys[0]
    assert math.isclose((ys[0] - ys[1]) / (ys[0] - ys[3]), 2 / 3, abs_tol=0.01)
    assert "a < b" in texts(svg)


def test_logarithms_gaps_and_shades() -> None:
    svg = line_chart(Chart("loss", {"loss": ([0, 1, 2, 3, 4], [100.0, 10.0, math.nan, 0.0, 1.0])}, log_y=True, shaded=((1, 2),)))
    path = re.search(r'<path d="([^"]*)"', svg)[1]
    assert path.count("M") == 2  # broken where there is no logarithm
    (line,) = lines(svg)
    assert math.isclose((line[1][1] - line[0][1]) / (line[2][1] - line[0][1]), 0.5, abs_tol=0.01)
    assert svg.count("<rect") == 1


def test_what_has_no_value_is_not_drawn() -> None:
    assert line_chart(Chart("none", {})) == ""
    assert line_chart(Chart("nan", {"x": ([0, 1], [math.nan, math.nan])})) == ""
    assert "<svg" in line_chart(Chart("one", {"x": ([5], [2.0])}))
    assert "<svg" in line_chart(Chart("flat", {"x": ([0, 1], [0.0, 0.0])}))


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis(-9.2, 12.7), ["-5", "0", "5", "10"]),
        (Axis(-0.018, 0.031), ["-0.01", "0.00", "0.01", "0.02", "0.03"]),
        (Axis(0, 1500), ["0", "500", "1,000", "1,500"]),
        (Axis(27.25, 27.95), ["27.4", "27.6", "27.8"]),
        (Axis(0.003, 40, log=True), ["0.01", "0.1", "1", "10"]),
        (Axis(3, 70, log=True), ["5", "10", "20", "50"]),
        (Axis(1.05, 1.5, log=True), ["1.1", "1.2", "1.3", "1.4", "1.5"]),
        (Axis(1e-6, 1e3, log=True), ["1e-06", "0.0001", "0.01", "1", "100"]),
    ],
)
def test_labels_are_round(axis, expected) -> None:
    assert [label for _, label in axis.ticks()] == expected


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.booleans())
def test_ticks_lie_in_the_range_rise_and_are_few(low, wide, log) -> None:
    axis = Axis(abs(low) + 1e-3, abs(low) + 1e-3 + wide, log=True) if log else Axis(low, low + wide)
    values = [value for value, _ in axis.ticks()]
    assert len(values) <= 7
    assert values == sorted(set(values))
    assert all(-1e-6 <= axis.share(value) <= 1 + 1e-6 for value in values)


def test_the_front_keeps_what_nothing_beats() -> None:
    points = [Point("slow and good", 1, 0.1), Point("fast and bad", 9, 0.5), Point("beaten", 0.5, 0.4), Point("between", 4, 0.2)]
    assert [point.label for point in pareto_front(points)] == ["slow and good", "between", "fast and bad"]


def test_plots_are_drawings_with_every_label() -> None:
    chart = Chart("t", {"a<b": ([1, 10], [2, 3]), "c": ([5], [2.5])}, x_label="x", y_label="y", log_x=True, marked=True)
    for svg in (
        scatter([Point("a<b", 1, 0.2), Point("c", 100, 0.2)], x_label="x", y_label="y", title="t"),
        line_chart(chart, LARGE, standalone=True),
    ):
        assert {"a<b", "c", "x", "y", "t"} <= set(texts(svg))
        assert 'fill="white"' in svg


def test_bars_are_as_long_as_their_values() -> None:
    svg = bar_chart([Bar("a", outer=4.0, inner=1.0, text="1 / 4"), Bar("b", outer=2.0, inner=2.0, text="2 / 2")], "times")
    widths = [float(width) for width in re.findall(r'<rect x="\d+" y="\d+" width="([\d.]+)"', svg)]
    assert np.allclose(np.array(widths) / widths[0], [1, 0.25, 0.5, 0.5])
    assert {"a", "b", "times", "1 / 4"} <= set(texts(svg))
