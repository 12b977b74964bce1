"""One self-contained HTML page: pictures, clips and curves are inside it, and it asks the network for nothing."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

JPEG_QUALITY = 88
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #2563eb; --warn: #b45309; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
p.lead, figcaption { opacity: .75; } figure { margin: 1rem 0; }
img, video { max-width: 100%; border-radius: 4px; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; } tr.first { font-weight: 600; }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem; } .tile { background: var(--soft); border-radius: 6px; padding: .6rem 1rem; }
.tile b { display: block; font-size: 1.4rem; } li.warning { margin: .5rem 0; } li.warning b { color: var(--warn); font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; opacity: .75; }
pre { background: var(--soft); padding: 1rem; overflow: auto; font-size: .85rem; } summary { cursor: pointer; }
"""


def text(value: object) -> str:
    """Plain text, safe inside HTML."""
    return html.escape(str(value))


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """A whole page of finished parts."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n<body><h1>{text(title)}</h1><p class=lead>{text(lead)}</p>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def section(title: str, *parts: str, lead: str = "") -> str:
    """A heading, a sentence, and finished parts."""
    return f"<section><h2>{text(title)}</h2>" + (f"<p class=lead>{text(lead)}</p>" if lead else "") + "".join(parts) + "</section>"


def tiles(values: Mapping[str, str]) -> str:
    """Large numbers side by side, by label."""
    return "<div class=tiles>" + "".join(f"<div class=tile><b>{text(v)}</b>{text(k)}</div>" for k, v in values.items()) + "</div>"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows of texts and numbers; the first row is set off."""
    lines = ["<tr>" + "".join(f"<th>{text(cell)}</th>" for cell in header) + "</tr>"]
    for place, row in enumerate(rows):
        cells = (f"<td{' class=number' if isinstance(cell, int | float) else ''}>{text(cell)}</td>" for cell in row)
        lines.append(f"<tr{' class=first' if place == 0 else ''}>" + "".join(cells) + "</tr>")
    return "<table>" + "".join(lines) + "</table>"


def warnings(items: Sequence[tuple[str, str]]) -> str:
    """What is wrong, each with what to do."""
    return "<ul>" + "".join(f"<li class=warning><b>{text(lack)}</b> {text(advice)}</li>" for lack, advice in items) + "</ul>"


def picture(image: UInt8[np.ndarray, "H W 3"], caption: str) -> str:
    """An RGB picture, as JPEG."""
    encoded, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded
    source = f"data:image/jpeg;base64,{_base64(data.tobytes())}"
    return f'<figure><img src="{source}" alt="{text(caption)}"><figcaption>{text(caption)}</figcaption></figure>'


def clip(path: Path, caption: str) -> str:
    """A short MP4, playing by itself without sound."""
    source = f"data:video/mp4;base64,{_base64(path.read_bytes())}"
    return (
        f'<figure><video src="{source}" autoplay loop muted playsinline controls></video><figcaption>{text(caption)}</figcaption></figure>'
    )


def folded(summary: str, content: str) -> str:
    """Text that one opens."""
    return f"<details><summary>{text(summary)}</summary><pre>{text(content)}</pre></details>"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


@dataclass(frozen=True)
class Chart:
    """One curve, or several on the same axes."""

    title: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    """x and y by name; y that is not finite breaks the line."""
    log: bool = False
    """Logarithmic y axis; values that are not positive break the line."""
    shaded: tuple[tuple[float, float], ...] = ()
    """Ranges of x set off."""


WIDTH = 360
"""Of a chart, pixels."""
HEIGHT = 180
LEFT = 46
"""Room beside the axes, pixels."""
BOTTOM = 22
TOP = 22
COLORS = ("#2563eb", "#dc2626", "#059669", "#9333ea")


def charts(items: Sequence[Chart]) -> str:
    """Small charts in a grid; those without any value are left out."""
    return '<div class="charts">' + "".join(_chart(item) for item in items) + "</div>"


def _chart(chart: Chart) -> str:
    def scaled(value: float) -> float:
        return math.log10(value) if chart.log and value > 0 else math.nan if chart.log else value

    series = {name: (list(xs), [scaled(float(y)) for y in ys]) for name, (xs, ys) in chart.series.items()}
    xs = [float(x) for given, _ in series.values() for x in given]
    ys = [y for _, given in series.values() for y in given if math.isfinite(y)]
    if not xs or not ys:
        return ""
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    x1, y0, y1 = (x1 if x1 > x0 else x0 + 1), (y0 if y1 > y0 else y0 - 0.5), (y1 if y1 > y0 else y0 + 0.5)

    def across(x: float) -> float:
        return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - 6)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP)

    parts = [f'<text x="{LEFT}" y="14">{text(chart.title)}</text>']
    tall = HEIGHT - BOTTOM - TOP
    for start, end in chart.shaded:
        wide = across(end) - across(start)
        parts.append(f'<rect x="{across(start):.1f}" y="{TOP}" width="{wide:.1f}" height="{tall}" fill="#8883"/>')
    for value in np.linspace(y0, y1, 4):
        label = f"{10**value:.1e}" if chart.log else f"{value:.2g}"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 6}" y1="{down(value):.1f}" y2="{down(value):.1f}" stroke="#8884"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{down(value) + 4:.1f}" text-anchor="end">{label}</text>')
    parts += [f'<text x="{across(x):.1f}" y="{HEIGHT - 6}" text-anchor="{at}">{x:.4g}</text>' for x, at in ((x0, "start"), (x1, "end"))]
    for place, (name, (given, values)) in enumerate(series.items()):
        color = COLORS[place % len(COLORS)]
        points = [(across(float(x)), down(y)) if math.isfinite(y) else None for x, y in zip(given, values, strict=True)]
        parts.append(f'<path d="{_path(points)}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        if len(series) > 1:
            parts.append(
                f'<text x="{WIDTH - 6}" y="{TOP + 12 + 13 * place}" text-anchor="end" style="fill:{color};opacity:1">{text(name)}</text>'
            )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(chart.title)}">' + "".join(parts) + "</svg>"


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    commands, drawing = [], False
    for point in points:
        if point is not None:
            commands.append(f"{'L' if drawing else 'M'}{point[0]:.1f} {point[1]:.1f}")
        drawing = point is not None
    return "".join(commands)
