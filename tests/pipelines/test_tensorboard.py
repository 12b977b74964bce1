"""The real TensorBoard, asked over HTTP for everything that a run promises to show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import Request, urlopen

import pytest

from deja_vu.io.assets import find
from deja_vu.pipelines.personalize import learn, personalize
from deja_vu.pipelines.recipes import Recipe, shipped_recipe
from deja_vu.training.config import TrainConfig, ValidationConfig
from deja_vu.training.nelf_config import NelfPhase
from deja_vu.training.nerf_config import NerfPhase
from deja_vu.training.objective import term_weights

needs_perceptual = pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")
Answer = TypeVar("Answer")
PATIENCE = 120
"""Seconds in which a server on a busy machine must answer."""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Any]:
    """A server on the runs of a folder: called with a path below its address, it answers with JSON."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path / "runs"), "--host", "127.0.0.1", "--port", "0"]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen([*command, "--load_fast", "false", "--reload_interval", "1"], stdout=log, stderr=subprocess.STDOUT)

    def ask(path: str, **body: Any) -> Any:
        until = time.monotonic() + PATIENCE
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/", (tmp_path / "server.log").read_text())):
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < until, "no server"
            time.sleep(0.2)
        data = json.dumps(body).encode() if body else None
        with urlopen(Request(found[0] + path, data=data, headers={"Content-Type": "application/json"}), timeout=PATIENCE) as answer:
            return json.load(answer)

    yield ask
    server.terminate()
    server.wait(timeout=30)


def wait_for(read: Callable[[], Answer], enough: Callable[[Answer], bool]) -> Answer:
    """What the server answers as soon as it has read enough of the run; after `PATIENCE`, what it answers then."""
    until = time.monotonic() + PATIENCE
    while not enough(found := read()) and time.monotonic() < until:
        time.sleep(0.5)
    return found


def tags(ask: Any, kind: str, run: str, wanted: set[str]) -> set[str]:
    """Tags of a run, as soon as the server has read those that are wanted."""
    return wait_for(lambda: set(ask(f"data/plugin/{kind}/tags").get(run, {})), wanted.issubset)


def promised(config: TrainConfig, groups: set[str], left_out: set[str]) -> set[str]:
    """Curves of a run: each term that has a weight, unweighted and as it acts, the total, rates by group, scores, speed."""
    terms = {name for name, weight in term_weights(config.loss, config.regularizers).items() if weight} - left_out
    curves = {f"{kind}/{name}" for name in terms for kind in ("loss", "weighted")} | {f"lr/{name}" for name in groups}
    watched = {"validation/psnr", *(f"validation/psnr_{region}" for region in ("lips", "eyes", "face"))}  # the toy head has no brows
    return curves | watched | {"loss/total", "metric/psnr", "time/it_per_s", "time/images_per_s"}


@needs_perceptual
def test_everything_that_a_personalization_promises_is_shown(tracked, small_recipe: Recipe, tmp_path: Path, board) -> None:
    phases = tuple(replace(phase, perceptual_every=4) for phase in small_recipe.gaussian.phases)
    config = replace(small_recipe.gaussian, phases=phases, log_every=14, picture_every=14, validation=ValidationConfig(share=0.2))
    recipe, out = replace(small_recipe, gaussian=config), tmp_path / "runs" / "me"
    personalize(tracked.folder, out, recipe, resume=False, overwrite=False)

    groups = {"rectification", "blendmaps", "code", "correction"}
    curves = promised(config, groups, left_out={"person"})  # a head alone
    assert {"loss/perceptual", "weighted/novel_views"} <= curves, "rare terms have curves too"
    assert curves <= tags(board, "scalars", "me", curves)
    pictures = {"train/target_render_error", "validation/target_render_error"}
    assert pictures <= tags(board, "images", "me", pictures)
    texts = {"config/text_summary", "commit/text_summary"}
    assert texts <= tags(board, "text", "me", texts)

    def values(name: str, steps: set[int]) -> dict[int, float]:
        def read() -> dict[int, float]:
            return {int(step): value for _, step, value in board(f"data/plugin/scalars/scalars?run=me&tag={name}")}

        return wait_for(read, lambda curve: steps <= set(curve))

    total = values("loss/total", {14, 28})
    assert sorted(total) == [14, 28]
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    parts = [values(name, {row["step"] for row in logged if name in row}) for name in sorted(curves) if name.startswith("weighted/")]
    for step, value in total.items():
        assert sum(part.get(step, 0.0) for part in parts) == pytest.approx(value, rel=1e-5), "what acts adds up to what is minimized"

    test = json.loads((out / "metrics.json").read_text())["test"]
    regions = test.pop("regions")
    test |= {f"regions.{region}.{name}": value for region, scores in regions.items() for name, value in scores.items()}
    group = wait_for(lambda: session(board), lambda group: len(group.get("metricValues", [])) >= len(test))
    shown = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
    assert {name: shown[f"test/{name}"] for name in test} == pytest.approx(test, rel=1e-6)
    assert group["hparams"]["gaussian.phases.0.steps"] == asdict(recipe)["gaussian"]["phases"][0]["steps"]


def session(ask: Any) -> dict[str, Any]:
    """Hyperparameters and final scores of the only run there is, in whatever state; empty until the server has read it."""
    states = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    body = {"experimentName": "", "colParams": [], "startIndex": 0, "sliceSize": 9, "allowedStatuses": states}
    return next(iter(ask("data/plugin/hparams/session_groups", **body).get("sessionGroups", [])), {})


@needs_perceptual
@pytest.mark.parametrize("path", ["nerf", "nelf"])
def test_everything_that_a_field_promises_is_shown(tracked, painted, tmp_path: Path, board, path: str) -> None:
    sizes = {"steps": 8, "resolution": 96, "learning_rate": 0.003, "perceptual_every": 4}
    watched, tiny = ValidationConfig(share=0.2), shipped_recipe("tiny")
    nerf = replace(tiny.nerf, phases=(NerfPhase(**sizes),), log_every=4, picture_every=4, validation=watched)
    nelf = replace(tiny.nelf, phases=(NelfPhase(**sizes),), log_every=4, picture_every=4, validation=watched)
    recipe = replace(tiny, path=path, nerf=nerf, nelf=nelf)
    learn(tracked.train_part(), recipe, tmp_path / "runs" / path, resume=False, teacher=painted)
    config, groups = {
        "nerf": (nerf, {"planes", "points", "networks", "upscale", "code"}),
        "nelf": (nelf, {"rays", "upscale", "warp"}),
    }[path]
    curves = promised(config, groups, left_out=set())
    assert curves <= tags(board, "scalars", path, curves)
    pictures = {"train/target_render_error", "validation/target_render_error"}
    assert pictures <= tags(board, "images", path, pictures)
