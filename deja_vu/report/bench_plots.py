"""Two plots as SVG: points in a plane with their Pareto front, and lines over time. Time and speed are drawn on logarithmic axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH = 720
"""Of a plot, pixels."""
HEIGHT = 440
MARGIN = 70
"""Around the axes, pixels."""
COLORS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#57606a", "#0a7ea4")


@dataclass(frozen=True)
class Point:
    """One labeled place."""

    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Frame:
    """Ranges of a plot; x is logarithmic."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a value lies in the drawing."""
        across = (math.log10(x) - math.log10(self.low_x)) / (math.log10(self.high_x) - math.log10(self.low_x))
        up = (y - self.low_y) / (self.high_y - self.low_y)
        return MARGIN + across * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)


def front(points: list[Point]) -> list[Point]:
    """Those that no other point beats in both: larger x and smaller y; by rising x."""
    kept = [p for p in points if not any(q.x >= p.x and q.y <= p.y and (q.x, q.y) != (p.x, p.y) for q in points)]
    return sorted(kept, key=lambda point: point.x)


def scatter(points: list[Point], x_label: str, y_label: str, title: str) -> str:
    """Points with labels, and a line through the front of those that are best for something."""
    frame = _frame([point.x for point in points], [point.y for point in points])
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (frame.place(point.x, point.y) for point in front(points)))
    body = [f'<polyline points="{path}" fill="none" stroke="#8c959f" stroke-dasharray="5 4"/>']
    for number, point in enumerate(points):
        x, y = frame.place(point.x, point.y)
        color = COLORS[number % len(COLORS)]
        shift, anchor = (-9, "end") if x > WIDTH - 2.2 * MARGIN else (9, "start")
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color}"/>')
        body.append(f'<text x="{x + shift:.1f}" y="{y - 7:.1f}" text-anchor="{anchor}">{escape(point.label)}</text>')
    return _drawing(frame, body, x_label, y_label, title)


def curves(series: dict[str, list[tuple[float, float]]], x_label: str, y_label: str, title: str) -> str:
    """Lines through (x, y), a color and a legend entry each."""
    frame = _frame([x for marks in series.values() for x, _ in marks], [y for marks in series.values() for _, y in marks])
    body = []
    for number, (name, marks) in enumerate(series.items()):
        color, places = COLORS[number % len(COLORS)], [frame.place(x, y) for x, y in marks]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        body.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
        at = HEIGHT - MARGIN - 12 - 18 * (len(series) - 1 - number)
        body.append(f'<rect x="{WIDTH - MARGIN - 175}" y="{at - 9}" width="14" height="4" fill="{color}"/>')
        body.append(f'<text x="{WIDTH - MARGIN - 155}" y="{at - 3}">{escape(name)}</text>')
    return _drawing(frame, body, x_label, y_label, title)


def _frame(xs: list[float], ys: list[float]) -> Frame:
    low, high = min(ys), max(ys)
    room = 0.1 * (high - low) or 0.1 * abs(high) or 1.0
    return Frame(min(xs) / 1.4, max(xs) * 1.4, low - room, high + room)


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round values in a range."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 8)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten in a range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for power in powers for value in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if low <= value <= high]


def _drawing(frame: Frame, body: list[str], x_label: str, y_label: str, title: str) -> str:
    left, right, top, bottom = MARGIN, WIDTH - MARGIN, MARGIN, HEIGHT - MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="{top / 2}" text-anchor="middle" font-size="16">{escape(title)}</text>',
    ]
    for value in _log_ticks(frame.low_x, frame.high_x):
        x, _ = frame.place(value, frame.low_y)
        lines.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#eaeef2"/>')
        lines.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
    for value in _ticks(frame.low_y, frame.high_y):
        _, y = frame.place(frame.low_x, value)
        lines.append(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#eaeef2"/>')
        lines.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    lines += [
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="none" stroke="#8c959f"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 18}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
