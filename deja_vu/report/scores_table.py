"""Scores of several clips, with baselines and other systems, as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deja_vu.report.markdown import markdown_table

COLUMNS = {"global_only": "global map only", "nearest_frame": "nearest training frame", "mean_image": "mean image"}
"""Rows of `baselines` in metrics.json that have a column; the others are other systems."""


def scores_table(rows: Sequence[tuple[str, Mapping[str, Any]]], *, best_only: bool = False) -> str:
    """A row for each clip: times, memory, PSNR dB / SSIM / ST-LPIPS of the avatar and of what it is compared with, and its regions' PSNR.

    Args:
        rows: name of a clip, and what metrics.json of its run says.
        best_only: of the other systems, name the one of the best PSNR and the one of the best ST-LPIPS.
    """
    header = ["clip", "frames", "track + personalize s", "peak MB", "avatar"]
    header += [f"{name} dB" for name in _regions(rows)]
    header += COLUMNS.values()
    header.append("best other system" if best_only else "other systems")
    return markdown_table(header, [_cells(name, metrics, _regions(rows), best_only) for name, metrics in rows])


def explain_better_baselines(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Why a training frame may beat the avatar in ST-LPIPS, if one does; empty if none does."""
    clips = [name for name, row in rows if row["baselines"].get("nearest_frame", row["test"])["st_lpips"] < row["test"]["st_lpips"]]
    if not clips:
        return ""
    return (
        f"On {', '.join(clips)} the nearest training frame has the better ST-LPIPS: it is a photograph and sharper than any render, but of "
        "another moment, which PSNR and SSIM see. It is picked by looking at the answer.\n"
    )


def _regions(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Regions that were scored in some clip."""
    return list(dict.fromkeys(name for _, metrics in rows for name in metrics["test"].get("regions", {})))


def _cells(name: str, metrics: Mapping[str, Any], regions: Sequence[str], best_only: bool) -> list[str]:
    baselines, seconds = metrics["baselines"], metrics["seconds"]
    learned = seconds.get("personalize", seconds.get("personalize_one_thread"))
    others = {key: row for key, row in baselines.items() if key not in COLUMNS}
    if best_only and others:
        best = [max(others, key=lambda key: others[key]["psnr"]), min(others, key=lambda key: others[key]["st_lpips"])]
        others = {key: others[key] for key in dict.fromkeys(best)}
    return [
        name,
        str(metrics["frames"]),
        f"{seconds['track']:.0f} + {learned:.0f}",
        str(metrics["peak_mb"]),
        f"**{_scores(metrics['test'])}**",
        *(
            f"{metrics['test']['regions'][region]['psnr']:.2f}" if region in metrics["test"].get("regions", {}) else ""
            for region in regions
        ),
        *(_scores(baselines[key]) if key in baselines else "" for key in COLUMNS),
        "; ".join(f"{key} {_scores(row)}" for key, row in others.items()),
    ]


def _scores(row: Mapping[str, float]) -> str:
    return f"{row['psnr']:.2f} / {row['ssim']:.3f} / {row['st_lpips']:.3f}"
