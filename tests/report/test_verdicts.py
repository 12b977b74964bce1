from __future__ import annotations

from typing import Any

import pytest

from deja_vu.core.errors import FormatError
from deja_vu.report.metrics import check_metrics
from deja_vu.report.verdicts import duration, headline, judge_run, person_rows, score_rows

OURS = {"psnr": 40.0, "ssim": 0.97, "st_lpips": 0.03, "l1": 0.01}


def metrics(**changes: Any) -> dict[str, Any]:
    """A run that is better than a copy in everything."""
    nearest = {"psnr": 30.0, "ssim": 0.9, "st_lpips": 0.05, "l1": 0.02}
    whole = {
        "test": OURS,
        "baselines": {"nearest_frame": nearest, "global_only": OURS | {"psnr": 38.0}},
        "intervals": {"test": {"psnr": [39.0, 41.0]}},
        "frames_scored": 12,
        "seconds": {"track": 100.0, "personalize": 140.0, "total": 240.0},
        "peak_mb": 2400,
        "device": "two cores",
    }
    return whole | changes


def said(of: dict[str, Any]) -> str:
    return " ".join(f"[{verdict.mood}] {verdict.claim} {verdict.detail}" for verdict in judge_run(of))


def test_figures_become_sentences() -> None:
    text = said(metrics())
    assert "[good] On 12 frames that training never saw, the avatar reaches 40.0 dB." in text
    assert "typical error is 1.0 % of full brightness" in text  # 40 dB
    assert "between 39.0 and 41.0 dB" in text
    assert "10.0 dB closer than the most similar training frame" in text
    assert "gains +2.0 dB" in text
    assert "It took 4 min 0 s on two cores. Tracking 1 min 40 s, training 2 min 20 s; at most 2.4 GB of memory." in text
    assert "[bad]" not in text
    assert "better ST-LPIPS" not in text


def test_a_better_baseline_is_explained() -> None:
    nearest = metrics()["baselines"]["nearest_frame"]
    sharper = said(metrics(baselines={"nearest_frame": nearest | {"st_lpips": 0.0176}}))
    assert "[note] The most similar training frame has the better ST-LPIPS (0.0176 against 0.0300). It is a photograph" in sharper
    worse = said(metrics(baselines={"nearest_frame": nearest | {"psnr": 41.0}}))
    assert "[bad] The most similar training frame scores higher than the avatar (41.0 dB against 40.0)." in worse
    assert "[bad] Blending by expression and pose gains -1.0 dB" in said(metrics(baselines={"global_only": OURS | {"psnr": 41.0}}))


def test_a_photos_run_has_other_figures() -> None:
    photo = {"photo": "me.jpg", "input_view": OURS | {"psnr": 27.0}, "landmark_error_px": 2.13, "seconds": {"avatar": 5.2, "total": 9.0}}
    text = said(photo)
    assert "made from one photo" in text
    assert "[good] It matches its own photo with 27.0 dB." in text
    assert "fitted with an error of 2.1 pixels" in text
    assert "It took 5 s." in text
    assert headline(photo)["dB PSNR"] == "27.00"
    assert score_rows(photo) == []


def test_a_persons_torso_is_told_beside_one_that_stands_still() -> None:
    still = OURS | {"psnr": 24.8}
    person = metrics(person=OURS | {"baselines": {"still_torso": still}}, body=OURS | {"psnr": 31.0, "baselines": {"still_torso": still}})
    check_metrics(person, "metrics.json")
    assert person_rows(person) == [
        ["avatar", "40.00", "0.0300", "31.00", "0.0300"],
        ["avatar with a torso that stands still", "24.80", "0.0300", "24.80", "0.0300"],
    ]
    assert person_rows(metrics()) == []
    with pytest.raises(FormatError, match=r"person\.psnr|psnr is 'high'"):
        check_metrics(metrics(person=OURS | {"psnr": "high"}), "metrics.json")


def test_runs_of_older_versions_can_be_read() -> None:
    """They know neither how many frames were scored nor an interval; and one may not be scored at all."""
    old = {"test": OURS, "baselines": {}, "seconds": {"track": 0.0, "total": 5.0, "personalize": 5.0}}
    assert "On frames that training never saw" in said(old)
    assert score_rows(old) == [["avatar", "40.00", "", "0.9700", "0.0300"]]
    assert "has not been scored" in said({})
    assert headline({}) == {}


@pytest.mark.parametrize(("seconds", "expected"), [(5.4, "5 s"), (89, "89 s"), (267, "4 min 27 s"), (7500, "2 h 5 min")])
def test_times_are_said_as_people_do(seconds, expected) -> None:
    assert duration(seconds) == expected
