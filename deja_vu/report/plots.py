"""Plots as SVG: lines, scatter plots and bars, inside a page or in files of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLORS = ("#2563eb", "#dc2626", "#059669", "#9a6700", "#9333ea", "#bf3989", "#57606a", "#0891b2")
GRID = "#8884"
FRAME = "#8888"
CHARACTER = 0.55
"""Width of a character over the size of its font, about."""
NEAR = 1e-9


@dataclass(frozen=True)
class Axis:
    """A range of values, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    @staticmethod
    def around(values: Sequence[float], log: bool = False, room: float = 0.05) -> Axis:
        """The range of some finite values, with room at both ends in shares of it; on a logarithmic axis they are positive."""
        low, high = (math.log10(min(values)), math.log10(max(values))) if log else (min(values), max(values))
        extra = room * (high - low) if high > low else 0.2 if log else 0.05 * abs(high) or 1.0
        return Axis(10 ** (low - extra), 10 ** (high + extra), log) if log else Axis(low - extra, high + extra)

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """At most so many round values in the range, with their labels."""
        return self._log_ticks(most) if self.log else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> list[tuple[float, str]]:
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        step = next(factor * power for factor in (1, 2, 5, 10) if (self.high - self.low) / (factor * power) <= most)
        digits = max(0, -math.floor(math.log10(step) + NEAR))
        numbers = range(math.ceil(self.low / step - NEAR), math.floor(self.high / step + NEAR) + 1)
        return [(number * step, f"{number * step + 0.0:,.{digits}f}") for number in numbers]

    def _log_ticks(self, most: int) -> list[tuple[float, str]]:
        powers = range(math.floor(math.log10(self.low) + NEAR), math.ceil(math.log10(self.high) - NEAR) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            values = [factor * 10.0**power for power in powers for factor in factors]
            inside = [value for value in values if self.low * (1 - NEAR) <= value <= self.high * (1 + NEAR)]
            if len(inside) <= most:
                break
        if len(inside) < 2:
            return self._linear_ticks(most)
        inside = inside[:: -(-len(inside) // most)]
        return [(value, f"{value:,.0f}" if 10 <= value < 1e6 else f"{value:.3g}") for value in inside]


@dataclass(frozen=True)
class Size:
    """Of a drawing and its margins, pixels."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    font: int

    def across(self, share: float) -> float:
        """Place of a share of the horizontal axis."""
        return self.left + share * (self.width - self.left - self.right)

    def down(self, share: float) -> float:
        """Place of a share of the vertical axis, which points up."""
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


SMALL = Size(width=360, height=200, left=48, right=10, top=42, bottom=24, font=11)
"""Of a chart among others on a page."""
LARGE = Size(width=720, height=440, left=72, right=24, top=76, bottom=58, font=13)
"""Of a plot in a file of its own."""


@dataclass(frozen=True)
class Chart:
    """One curve, or several on the same axes."""

    title: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    """x and y by name; a value that is not finite, or has no logarithm, breaks the line."""
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False
    shaded: tuple[tuple[float, float], ...] = ()
    """Ranges of x set off."""
    marked: bool = False
    """Draw a dot at each point."""


@dataclass(frozen=True)
class Point:
    """One labeled place."""

    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart."""

    label: str
    outer: float
    inner: float
    """Drawn darker inside of the other; not more than it."""
    text: str
    """At its end."""


def line_chart(chart: Chart, size: Size = SMALL, *, standalone: bool = False) -> str:
    """Curves with a legend; nothing where no value can be drawn.

    Args:
        chart: what to draw.
        size: of the drawing.
        standalone: for a file: white ground, black text. Otherwise the page's colors.
    """
    lines = {name: _pairs(chart, xs, ys) for name, (xs, ys) in chart.series.items()}
    shown = [pair for pairs in lines.values() for pair in pairs if pair is not None]
    if not shown:
        return ""
    xs, ys = ([pair[k] for pair in shown] for k in (0, 1))
    x_axis = Axis.around(xs, chart.log_x, room=0.02 if chart.marked else 0.0)
    y_axis = Axis.around(ys, chart.log_y)
    top = size.down(1)
    body = []
    for start, end in chart.shaded:
        left, right = (size.across(min(1.0, max(0.0, x_axis.share(x)))) for x in (start, end))
        body.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{size.down(0) - top:.1f}" fill="#8883"/>')
    for number, pairs in enumerate(lines.values()):
        color = COLORS[number % len(COLORS)]
        places = [None if pair is None else (size.across(x_axis.share(pair[0])), size.down(y_axis.share(pair[1]))) for pair in pairs]
        body.append(f'<path d="{_path(places)}" fill="none" stroke="{color}" stroke-width="{1.5 if size is SMALL else 2}"/>')
        if chart.marked:
            body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in filter(None, places)]
    if len(lines) > 1:
        body += _legend(list(lines), size)
    return _drawing(size, body, axes=(x_axis, y_axis), labels=(chart.x_label, chart.y_label), title=chart.title, standalone=standalone)


def scatter(points: Sequence[Point], *, x_label: str, y_label: str, title: str) -> str:
    """Points with labels on a logarithmic x axis, and a line through those that no other beats in both, as a file of its own."""
    size = LARGE
    x_axis, y_axis = Axis.around([p.x for p in points], log=True, room=0.12), Axis.around([p.y for p in points], room=0.1)

    def place(point: Point) -> tuple[float, float]:
        return size.across(x_axis.share(point.x)), size.down(y_axis.share(point.y))

    body = [f'<path d="{_path([place(point) for point in pareto_front(points)])}" fill="none" stroke="{FRAME}" stroke-dasharray="5 4"/>']
    for number, point in enumerate(points):
        x, y = place(point)
        shift, anchor = (-9, "end") if x > 0.75 * size.width else (9, "start")
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLORS[number % len(COLORS)]}"/>')
        body.append(f'<text x="{x + shift:.1f}" y="{y - 7:.1f}" text-anchor="{anchor}">{escape(point.label)}</text>')
    return _drawing(size, body, axes=(x_axis, y_axis), labels=(x_label, y_label), title=title, standalone=True)


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats in both: larger x and smaller y; by rising x."""
    kept = [p for p in points if not any(q.x >= p.x and q.y <= p.y and (q.x, q.y) != (p.x, p.y) for q in points)]
    return sorted(kept, key=lambda point: point.x)


def bar_chart(bars: Sequence[Bar], title: str) -> str:
    """Horizontal bars, the inner value dark inside of the outer one, as a file of its own."""
    thick, gap, left, scale, right, font = 16, 12, 230, 520, 130, 12
    most = max(bar.outer for bar in bars)
    body = [f'<text x="{left}" y="20">{escape(title)}</text>']
    for index, bar in enumerate(bars):
        y = 36 + index * (thick + gap)
        body.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(bar.label)}</text>')
        for value, color in ((bar.outer, "#a8c4de"), (bar.inner, "#4878a8")):
            body.append(f'<rect x="{left}" y="{y}" width="{scale * value / most:.1f}" height="{thick}" fill="{color}"/>')
        body.append(f'<text x="{left + scale * bar.outer / most + 6:.1f}" y="{y + 12}">{escape(bar.text)}</text>')
    return _svg(left + scale + right, 60 + len(bars) * (thick + gap), font, body, standalone=True)


def _pairs(chart: Chart, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float] | None]:
    """Points of a line, None where it breaks."""

    def drawable(value: float, log: bool) -> bool:
        return math.isfinite(value) and (value > 0 or not log)

    pairs = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
    return [(x, y) if drawable(x, chart.log_x) and drawable(y, chart.log_y) else None for x, y in pairs]


def _path(places: Sequence[tuple[float, float] | None]) -> str:
    commands, drawing = [], False
    for place in places:
        if place is not None:
            commands.append(f"{'L' if drawing else 'M'}{place[0]:.1f} {place[1]:.1f}")
        drawing = place is not None
    return "".join(commands)


def _legend(names: Sequence[str], size: Size) -> list[str]:
    """Names in their colors, in a row under the title that breaks where it is full."""
    parts = []
    x, y = float(size.left), 2.5 * size.font
    for number, name in enumerate(names):
        wide = CHARACTER * size.font * len(name) + 2.6 * size.font
        if x > size.left and x + wide > size.width - size.right:
            x, y = float(size.left), y + 1.3 * size.font
        color = COLORS[number % len(COLORS)]
        parts.append(f'<rect x="{x:.1f}" y="{y - 0.45 * size.font:.1f}" width="{size.font}" height="3" fill="{color}"/>')
        parts.append(f'<text x="{x + 1.3 * size.font:.1f}" y="{y:.1f}">{escape(name)}</text>')
        x += wide
    return parts


def _drawing(size: Size, body: Sequence[str], *, axes: tuple[Axis, Axis], labels: tuple[str, str], title: str, standalone: bool) -> str:
    """Axes with rounded labels around what was drawn."""
    left, right, top, bottom = size.across(0), size.across(1), size.down(1), size.down(0)
    parts = [f'<text x="{left}" y="{1.2 * size.font:.1f}" font-size="{size.font + 1}" font-weight="600">{escape(title)}</text>']
    for value, label in axes[0].ticks(most=max(2, size.width // 90)):
        x = size.across(axes[0].share(value))
        parts.append(f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 1.3 * size.font:.1f}" text-anchor="middle">{label}</text>')
    for value, label in axes[1].ticks(most=max(2, size.height // 45)):
        y = size.down(axes[1].share(value))
        parts.append(f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{left - 6:.1f}" y="{y + 0.35 * size.font:.1f}" text-anchor="end">{label}</text>')
    if labels[0]:
        parts.append(f'<text x="{(left + right) / 2:.1f}" y="{size.height - 8}" text-anchor="middle">{escape(labels[0])}</text>')
    if labels[1]:
        turn = f"translate({size.font + 4} {(top + bottom) / 2:.1f}) rotate(-90)"
        parts.append(f'<text transform="{turn}" text-anchor="middle">{escape(labels[1])}</text>')
    return _svg(size.width, size.height, size.font, [*parts, *body], title=title, standalone=standalone)


def _svg(width: int, height: int, font: int, body: Sequence[str], *, title: str = "", standalone: bool) -> str:
    fixed = f' width="{width}" height="{height}" color="#24292f"' if standalone else ""
    ground = ['<rect width="100%" height="100%" fill="white"/>'] if standalone else []
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"{fixed} font-family="system-ui, sans-serif" '
        f'font-size="{font}" fill="currentColor" role="img" aria-label="{escape(title)}">'
    )
    return "\n".join([head, *ground, *body, "</svg>"]) + "\n"
