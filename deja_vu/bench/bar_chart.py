"""A bar chart of the rasterizers' times, written as SVG by hand: no plotting package is needed for rectangles."""

from __future__ import annotations

BAR = 16
"""Height of a bar, pixels."""
GAP = 12
"""Between bars, pixels."""
LEFT = 230
"""Room for the names, pixels."""
SCALE_WIDTH = 520
"""Length of the scale, pixels."""
COLORS = {"forward": "#4878a8", "both": "#a8c4de"}


def bar_chart(rows: list[dict[str, float | int | str]]) -> str:
    """Horizontal bars: minimal wall time forward inside of that forward and backward, one bar a row.

    Args:
        rows: as `time_scene` gives them.
    """
    most = max(float(row["both_min"]) for row in rows)
    height = (BAR + GAP) * len(rows) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + SCALE_WIDTH + 130}" height="{height}"',
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20">Milliseconds a picture: forward (dark), forward and backward (light); minima</text>',
    ]
    for index, row in enumerate(rows):
        y = 36 + index * (BAR + GAP)
        label = f"{row['scene']}, {int(row['count']):,}, {row['threads']} thr., {row['backend']}"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{label}</text>')
        for name in ("both", "forward"):
            width = SCALE_WIDTH * float(row[f"{name}_min"]) / most
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{COLORS[name]}"/>')
        end = LEFT + SCALE_WIDTH * float(row["both_min"]) / most + 6
        parts.append(f'<text x="{end:.1f}" y="{y + 12}">{row["forward_min"]:.1f} / {row["both_min"]:.1f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
