"""Reading of a run's metrics.json: the fields that the report uses, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deja_vu.core.errors import FormatError

SCORES = ("psnr", "ssim", "st_lpips")
"""Of every picture that was scored."""
SECONDS = ("avatar", "total", "track", "personalize", "teacher")
NUMBERS = ("frames", "frames_scored", "frames_held_out", "gaussians", "peak_mb", "landmark_error_px")
TEXTS = ("device", "commit", "video")


def check_metrics(metrics: Mapping[str, Any], where: str) -> None:
    """Refuse figures of another kind than the page shows.

    Args:
        metrics: content of the file.
        where: it lies, for the message.

    Raises:
        FormatError: a figure is missing, of another kind, or not finite; named by its place.
    """
    check = _Check(where)
    for name in NUMBERS:
        check.number(metrics, name, optional=True)
    for name in TEXTS:
        check.kind(metrics, name, str)
    for name in ("test", "fitted"):
        if name in metrics:
            _check_row(check, metrics, name)
    for name in ("person", "body"):
        if metrics.get(name) is not None:
            _check_row(check, metrics, name)
            others = check.mapping(check.mapping(metrics, name), "baselines")
            for other in others:
                _check_row(check, others, other)
    if "input_view" in metrics:
        check.number(check.mapping(metrics, "input_view"), "psnr")
    baselines = check.mapping(metrics, "baselines")
    for name in baselines:
        _check_row(check, baselines, name, like=metrics.get("test"))
    for name, interval in check.mapping(metrics, "intervals").items():
        if not isinstance(interval, dict) or not _is_range(interval.get("psnr", (0.0, 0.0))):
            check.refuse(f"intervals.{name}", interval, "the ends of intervals")
    seconds = check.mapping(metrics, "seconds")
    for name in SECONDS:
        check.number(seconds, name, optional=True)
    stages = check.mapping(metrics, "stages")
    for name in stages:
        check.number(stages, name)
    if stages:
        speed = check.mapping(metrics, "speed")
        for name in ("matmul_gflops", "threads", "raster_ms"):
            check.number(speed, name)


def _check_row(check: _Check, rows: Mapping[str, Any], name: str, like: Any = None) -> None:
    """Scores of one kind of pictures, and of the regions that the avatar was scored in."""
    row = check.mapping(rows, name)
    for score in SCORES:
        check.number(row, score)
    regions = check.mapping(row, "regions")
    wanted = like.get("regions", {}) if isinstance(like, dict) else regions
    for region in wanted:
        check.number(check.mapping(regions, region), "psnr")


class _Check:
    def __init__(self, where: str) -> None:
        self._where = where

    def refuse(self, name: str, value: object, expected: str) -> None:
        raise FormatError(
            f"{self._where} is damaged: {name} is {str(value)[:60]!r}, expected {expected}. Score the run again: deja-vu evaluate."
        )

    def number(self, values: Mapping[str, Any], name: str, *, optional: bool = False) -> None:
        value = values.get(name)
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e12:
            self.refuse(name, value, "a number")

    def kind(self, values: Mapping[str, Any], name: str, kind: type) -> None:
        if values.get(name) is not None and not isinstance(values[name], kind):
            self.refuse(name, values[name], f"a {kind.__name__}")

    def mapping(self, values: Mapping[str, Any], name: str) -> dict[str, Any]:
        value = values.get(name, {})
        if not isinstance(value, dict):
            self.refuse(name, value, "a mapping")
        return value


def _is_range(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(end, int | float) and math.isfinite(end) and abs(end) < 1e12 for end in value)
    )
