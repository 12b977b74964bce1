"""The report of a finished generalize stage: provenance of the network, and its scores on held-out people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from deja_vu.avatars.nerf import NerfAvatar
from deja_vu.avatars.prior.network import HeadPrior
from deja_vu.bench.metrics import METRICS
from deja_vu.bench.prior_scores import PriorScores, head_makers
from deja_vu.core.sampling import evenly_spaced
from deja_vu.datasets.shards import ShardSet
from deja_vu.io.files import write_json
from deja_vu.io.provenance import commit, machine
from deja_vu.pipelines.configs import GeneralizeConfig
from deja_vu.pipelines.evaluate_prior import score_photos
from deja_vu.report.prior_report import prior_table
from deja_vu.training.logging import log_hparams


def origin(config: GeneralizeConfig) -> dict[str, str]:
    """What the file of a network says of its origin."""
    return {"commit": commit(), "machine": machine(), "seed": str(config.seed if config.path == "gaussian" else config.nerf.seed)}


def spread(numbers: Sequence[int], most: int) -> list[int]:
    """Some of the entries, evenly spread."""
    return [numbers[place] for place in evenly_spaced(min(most, len(numbers)), len(numbers)).tolist()]


def report_scores(
    shards: ShardSet, prior: HeadPrior | NerfAvatar, folder: Path, config: GeneralizeConfig, facts: Mapping[str, str], device: torch.device
) -> None:
    """Score a network on the people held out, write metrics.json and print the table."""
    scores = PriorScores(head_makers({"network": prior}, device), device)
    phases = config.phases if config.path == "gaussian" else config.nerf.phases
    score_photos(scores, shards, shards.part("test"), phases[-1].resolution)
    size = sum(parameter.numel() for parameter in prior.parameters())
    write_json(folder / "metrics.json", {"parameters": size, **facts, "test": scores.rows(), "config": asdict(config)})
    final = {f"{row['set']}/{row['task']}/{row['method']}/{name}": row[name] for row in scores.rows() for name in METRICS if name in row}
    log_hparams(folder, config, final)
    print(prior_table(scores.rows()))
