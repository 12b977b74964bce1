"""One self-contained HTML page, with its pictures, videos and curves inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8

JPEG_QUALITY = 88
STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #1f2328; --soft: #636c76; --line: #d8dee4;
  --good: #1a7f37; --note: #0969da; --bad: #b35900; }
@media (prefers-color-scheme: dark) { :root { --ground: #0d1117; --card: #161b22; --ink: #e6edf3; --soft: #9198a1; --line: #30363d;
  --good: #3fb950; --note: #58a6ff; --bad: #e3a008; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0; }
header, main { max-width: 68rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 2rem; } main { padding-bottom: 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.2rem; margin: 1rem 0; }
p { margin: .5rem 0; max-width: 46rem; } p.lead, figcaption { color: var(--soft); } p.lead { overflow-wrap: anywhere; }
figure { margin: .6rem 0; } figure.tall img { max-width: min(100%, 44rem); } figure video { max-height: 80vh; }
figcaption { font-size: .9rem; margin-top: .2rem; }
img, video { display: block; max-width: 100%; height: auto; border-radius: 6px; background: #fff; }
ul.verdicts { list-style: none; padding: 0; margin: 0; }
ul.verdicts li { border-left: 4px solid var(--note); padding: .1rem 0 .1rem .8rem; margin: .7rem 0; max-width: 48rem; }
ul.verdicts li.good { border-color: var(--good); } ul.verdicts li.bad { border-color: var(--bad); }
ul.verdicts b { display: block; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: .5rem .8rem; font-size: .85rem; color: var(--soft); }
.tile b { display: block; font-size: 1.45rem; line-height: 1.3; color: var(--ink); font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .8rem 0; }
td, th { padding: .3rem 1rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:first-child, th:first-child { white-space: normal; min-width: 8rem; }
th { font-weight: 600; font-size: .9rem; color: var(--soft); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; } tr.first td { font-weight: 600; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(44%, 10.5rem), 1fr)); gap: .7rem; }
.gallery figure { margin: 0; } .gallery img { width: 100%; } .gallery figcaption { text-align: center; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; }
pre { background: var(--ground); border-radius: 6px; padding: .8rem; overflow: auto; font-size: .8rem; }
summary { cursor: pointer; font-weight: 600; padding: .2rem 0; }
@media (max-width: 40rem) { header { padding-top: 1.2rem; } section { padding: .9rem; border-radius: 8px; }
  h1 { font-size: 1.4rem; } .tile b { font-size: 1.15rem; } }
"""


@dataclass(frozen=True)
class Verdict:
    """One thing that a reader is told."""

    mood: Literal["good", "note", "bad"]
    claim: str
    """What is so, in a sentence."""
    detail: str = ""
    """What follows from it, or what to do."""


def escape(value: object) -> str:
    """Plain text, safe inside HTML."""
    return html.escape(str(value))


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """A whole page of finished parts."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><header><h1>{escape(title)}</h1>"
        f"<p class=lead>{escape(lead)}</p></header>\n<main>" + "\n".join(sections) + "\n</main></body></html>\n"
    )


def section(title: str, *parts: str, lead: str = "") -> str:
    """A heading, a sentence, and finished parts."""
    return f"<section><h2>{escape(title)}</h2>" + (f"<p class=lead>{escape(lead)}</p>" if lead else "") + "".join(parts) + "</section>"


def paragraph(text: str) -> str:
    """Plain text of its own."""
    return f"<p>{escape(text)}</p>"


def tiles(values: Mapping[str, str]) -> str:
    """Large numbers side by side, by label."""
    return "<div class=tiles>" + "".join(f"<div class=tile><b>{escape(v)}</b>{escape(k)}</div>" for k, v in values.items()) + "</div>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of a name and of numbers, ready for reading; the first row is set off."""
    kinds = ["", *[" class=number"] * (len(header) - 1)]
    lines = ["<tr>" + "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, header, strict=True)) + "</tr>"]
    for place, row in enumerate(rows):
        cells = (f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        lines.append(f"<tr{' class=first' if place == 0 else ''}>" + "".join(cells) + "</tr>")
    return "<div class=scroll><table>" + "".join(lines) + "</table></div>"


def verdicts(items: Sequence[Verdict]) -> str:
    """What a reader is told, each with what follows."""
    shown = (f"<li class={item.mood}><b>{escape(item.claim)}</b> {escape(item.detail)}</li>" for item in items)
    return "<ul class=verdicts>" + "".join(shown) + "</ul>"


def picture(image: UInt8[np.ndarray, "H W 3"], caption: str) -> str:
    """An RGB picture, as JPEG."""
    kind = " class=tall" if image.shape[0] > image.shape[1] else ""
    return f'<figure{kind}><img src="{_jpeg(image)}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'


def gallery(pictures: Mapping[str, UInt8[np.ndarray, "H W 3"]]) -> str:
    """Small pictures side by side, each with its label."""
    return "<div class=gallery>" + "".join(picture(image, label) for label, image in pictures.items()) + "</div>"


def clip(path: Path, caption: str) -> str:
    """A short MP4, playing by itself without sound."""
    source = f"data:video/mp4;base64,{_base64(path.read_bytes())}"
    video = f'<video src="{source}" autoplay loop muted playsinline controls></video>'
    return f"<figure>{video}<figcaption>{escape(caption)}</figcaption></figure>"


def charts(drawings: Sequence[str]) -> str:
    """Small charts in a grid; empty ones are left out."""
    return '<div class="charts">' + "".join(drawing for drawing in drawings if drawing) + "</div>"


def fold(summary: str, *parts: str) -> str:
    """Finished parts that one opens."""
    return f"<details><summary>{escape(summary)}</summary>" + "".join(parts) + "</details>"


def preformatted(text: str) -> str:
    """Plain text with its line breaks."""
    return f"<pre>{escape(text)}</pre>"


def _jpeg(image: UInt8[np.ndarray, "H W 3"]) -> str:
    encoded, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded
    return f"data:image/jpeg;base64,{_base64(data.tobytes())}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
