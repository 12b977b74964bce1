"""The figures of a run explained in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deja_vu.report.html import Verdict

MEANING = (
    "PSNR compares pixel by pixel, in decibels: 6 dB more is half the error. SSIM compares local structure, 1 being identical. ST-LPIPS is "
    "how different two pictures look to a network that forgives small shifts, 0 being identical. All three are measured on head and "
    "background; neck, torso and what was not filmed are left out."
)
"""Explanation of the figures for first-time readers."""
PERSON_HEADER = ["held-out frames", "person dB", "ST-LPIPS", "body dB", "ST-LPIPS"]
PERSON_MEANING = "Of a whole person: person covers all that was filmed, body covers neck, torso and clothes without the head."
"""Explanation of the figures that include the torso."""
NAMES = {
    "test": "avatar",
    "fitted": "avatar, its expression fitted to these very frames",
    "mean_image": "mean of all training frames",
    "nearest_frame": "most similar training frame",
    "global_only": "avatar before its blendmaps",
    "teacher": "teacher",
    "still_torso": "avatar with a torso that stands still",
}
"""Names of the rows of scores in the report."""


def judge_run(metrics: Mapping[str, Any]) -> list[Verdict]:
    """What metrics.json of a video's or photo's run says."""
    found = _judge_photo(metrics) if "input_view" in metrics else _judge_scores(metrics)
    return [*found, *_judge_cost(metrics)]


def _judge_scores(metrics: Mapping[str, Any]) -> list[Verdict]:
    if "test" not in metrics:
        return [Verdict("note", "This run has not been scored.", "Score it: deja-vu evaluate RUN --json metrics.json.")]
    ours, baselines = metrics["test"], metrics.get("baselines", {})
    error = 100 * 10 ** (-ours["psnr"] / 20)
    scored = f"On {metrics['frames_scored']} frames" if "frames_scored" in metrics else "On frames"
    detail = f"Its typical error is {error:.1f} % of full brightness."
    low, high = metrics.get("intervals", {}).get("test", {}).get("psnr", (0.0, 0.0))
    if high > low:
        detail += f" The 95 % interval of the mean is between {low:.1f} and {high:.1f} dB."
    nearest = baselines.get("nearest_frame")
    worse = nearest is not None and ours["psnr"] < nearest["psnr"]
    found = [Verdict("note" if worse else "good", f"{scored} that training never saw, the avatar reaches {ours['psnr']:.1f} dB.", detail)]
    if nearest is not None:
        found += _judge_against_copy(ours, nearest)
    if "global_only" in baselines:
        gain = ours["psnr"] - baselines["global_only"]["psnr"]
        claim = f"Blending by expression and pose gains {gain:+.1f} dB over one map for all frames."
        found.append(
            Verdict("good" if gain > 0 else "bad", claim, "" if gain > 0 else "It learned what does not occur again: film for longer.")
        )
    return found


def _judge_against_copy(ours: Mapping[str, float], nearest: Mapping[str, float]) -> list[Verdict]:
    """The avatar beside the training frame that is most similar to each frame."""
    gain = ours["psnr"] - nearest["psnr"]
    if gain < 0:
        claim = f"The most similar training frame scores higher than the avatar ({nearest['psnr']:.1f} dB against {ours['psnr']:.1f})."
        return [Verdict("bad", claim, "Hardly anything moves in this video, or tracking failed: look at overlay.mp4 in its track folder.")]
    claim = f"It is {gain:.1f} dB closer than the most similar training frame."
    found = [Verdict("good", claim, "That frame is picked by looking at the answer; the avatar gets pose and expression only.")]
    if nearest["st_lpips"] < ours["st_lpips"]:
        claim = f"The most similar training frame has the better ST-LPIPS ({nearest['st_lpips']:.4f} against {ours['st_lpips']:.4f})."
        detail = (
            "It is a photograph, and sharper than any render, but of another moment. ST-LPIPS forgives small shifts and sees sharpness; "
            "PSNR compares pixel by pixel, and sees that eyes and mouth are elsewhere."
        )
        found.append(Verdict("note", claim, detail))
    return found


def _judge_photo(metrics: Mapping[str, Any]) -> list[Verdict]:
    view = metrics["input_view"]
    found = [
        Verdict(
            "note",
            "This avatar was made from one photo. What the photo does not show is guessed.",
            "Sides, back, the inside of the mouth and how the skin moves come from other people's photos. A video of ten seconds shows "
            "them: deja-vu personalize.",
        ),
        Verdict(
            "good" if view["psnr"] >= 20 else "bad",
            f"It matches its own photo with {view['psnr']:.1f} dB.",
            "That is the view it was made from, which says nothing about other views. One photo leaves no frame to test on.",
        ),
    ]
    if "landmark_error_px" in metrics:
        found.append(Verdict("note", f"The face is fitted with an error of {metrics['landmark_error_px']:.1f} pixels."))
    return found


def _judge_cost(metrics: Mapping[str, Any]) -> list[Verdict]:
    seconds = metrics.get("seconds", {})
    total = seconds.get("avatar", seconds.get("total"))
    if total is None:
        return []
    claim = f"It took {duration(total)}" + (f" on {metrics['device']}." if "device" in metrics else ".")
    parts = {"tracking": seconds.get("track"), "training": seconds.get("personalize"), "its teacher": seconds.get("teacher")}
    detail = ", ".join(f"{name} {duration(value)}" for name, value in parts.items() if value is not None and value > 1)
    if "peak_mb" in metrics:
        detail += f"{'; ' if detail else ''}at most {metrics['peak_mb'] / 1000:.1f} GB of memory"
    return [Verdict("note", claim, f"{detail[:1].upper()}{detail[1:]}." if detail else "")]


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def headline(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The most important numbers, by name."""
    scores = metrics.get("test", metrics.get("input_view"))
    shown: dict[str, str] = {}
    if scores is not None:
        shown = {"dB PSNR": f"{scores['psnr']:.2f}", "SSIM": f"{scores['ssim']:.3f}", "ST-LPIPS": f"{scores['st_lpips']:.3f}"}
    seconds = metrics.get("seconds", {})
    total = seconds.get("avatar", seconds.get("total"))
    if total is not None:
        shown["from file to avatar"] = duration(total)
    if "gaussians" in metrics:
        shown["Gaussians"] = f"{metrics['gaussians']:,}"
    return shown


def score_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Rows of a table: name, PSNR with its interval, SSIM, ST-LPIPS, PSNR of every region that was scored; the avatar first."""
    rows = {"test": metrics["test"], **metrics.get("baselines", {})} if "test" in metrics else {}
    if "fitted" in metrics:
        rows = {"test": rows.pop("test"), "fitted": metrics["fitted"], **rows}
    regions = score_regions(metrics)
    table = []
    for name, row in rows.items():
        low, high = metrics.get("intervals", {}).get(name, {}).get("psnr", (0.0, 0.0))
        interval = f"{low:.1f} … {high:.1f}" if high > low else ""
        scores = [f"{row['psnr']:.2f}", interval, f"{row['ssim']:.4f}", f"{row['st_lpips']:.4f}"]
        table.append([NAMES.get(name, name), *scores, *(f"{row['regions'][region]['psnr']:.2f}" for region in regions)])
    return table


def person_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Rows of a table of what counts neck and torso, see `PERSON_HEADER`; the avatar first, none for a head alone."""
    person, body = metrics.get("person"), metrics.get("body")
    if person is None or body is None:
        return []
    rows = {"test": (person, body)}
    rows |= {name: (row, body["baselines"][name]) for name, row in person.get("baselines", {}).items() if name in body.get("baselines", {})}
    table = []
    for name, pair in rows.items():
        cells = [cell for row in pair for cell in (f"{row['psnr']:.2f}", f"{row['st_lpips']:.4f}")]
        table.append([NAMES.get(name, name), *cells])
    return table


def score_regions(metrics: Mapping[str, Any]) -> list[str]:
    """Parts of the face that were scored separately."""
    return list(metrics.get("test", {}).get("regions", {}))
