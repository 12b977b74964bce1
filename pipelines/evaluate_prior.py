"""How good networks of the generalize stage are on people they never saw, beside each other and beside lifting alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deja_vu.avatars.prior.network import load_prior
from deja_vu.core.errors import InputError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.datasets.shards import ShardSet
from deja_vu.io.files import write_json
from deja_vu.pipelines.generalize_report import Scores, makers, score_clip, score_photos, table
from deja_vu.pipelines.own_files import claim
from deja_vu.pipelines.provenance import commit, machine
from deja_vu.pipelines.run_folder import find_track

SIDE = 256
"""Side of the pictures on which heads are made and measured, pixels."""


def evaluate_prior(
    shards: Sequence[Path],
    clips: Sequence[Path],
    out: Path,
    priors: Sequence[Path] = (),
    *,
    frames: int = 40,
    photos: int = 1000,
    overwrite: bool = False,
) -> str:
    """Score networks on the held-out part of shards and on tracked videos, and write the figures.

    Args:
        shards: folders made by `deja-vu prepare`; may be none.
        clips: tracked folders, or runs that hold one; one frame of each makes the head that its other frames are compared with.
        out: JSON file.
        priors: networks, named by the folders or files they lie in; none takes the one that ships.
        frames: of each clip that are measured.
        photos: most held-out photos, evenly spread.
        overwrite: replace the JSON file if it is there.

    Returns:
        The figures as a Markdown table.

    Raises:
        InputError: nothing to measure on is given.
        OutputError: the JSON file is there already, or is another's.
    """
    claim(out, overwrite=overwrite, inputs=priors)
    if not shards and not clips:
        raise InputError("Nothing to measure on: give --shards (from `deja-vu prepare`) or --clips (tracked folders).")
    named = {path.parent.name if path.stem == "prior" else path.stem: load_prior(path) for path in priors} or {"network": load_prior()}
    scores = Scores(makers(named))
    if shards:
        collection = ShardSet(shards)
        held_out = collection.part("test")
        score_photos(scores, collection, held_out[:: max(1, -(-len(held_out) // photos))], SIDE)
    for clip in clips:
        sequence = TrackedSequence.load(find_track(clip))
        score_clip(scores, clip.name, sequence, SIDE, frames)
    rows = scores.rows()
    parameters = {name: sum(parameter.numel() for parameter in prior.parameters()) for name, prior in named.items()}
    write_json(out, {"device": machine(), "commit": commit(), "side": SIDE, "parameters": parameters, "scores": rows})
    return table(rows)
