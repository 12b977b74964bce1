"""How good networks of the generalize stage are on people they never saw, beside each other and beside lifting alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from deja_vu.bench.prior_scores import LIFTED, PriorScores, head_makers
from deja_vu.core.errors import InputError
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.datasets.prior_examples import stack_portraits
from deja_vu.datasets.shards import ShardSet
from deja_vu.io.files import write_json
from deja_vu.io.frames import FrameSource
from deja_vu.io.names import distinct_names
from deja_vu.io.provenance import commit
from deja_vu.pipelines.networks import load_network
from deja_vu.pipelines.own_files import claimed
from deja_vu.pipelines.run_folder import find_track
from deja_vu.report.prior_report import prior_table
from deja_vu.training.devices import device_name, pick_device

SIDE = 256
"""Side of the pictures on which heads are made and measured, pixels."""
ALL = "all"
"""Set of all photos."""
ALL_CLIPS = "all clips"
"""Set of all clips."""


def evaluate_prior(
    shards: Sequence[Path],
    clips: Sequence[Path],
    out: Path,
    priors: Sequence[Path] = (),
    *,
    frames: int = 40,
    photos: int = 1000,
    overwrite: bool = False,
    device: str = "cpu",
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
        device: where networks run and heads are drawn, see `pick_device`.

    Returns:
        The figures as a Markdown table.

    Raises:
        InputError: nothing to measure on is given, or something twice.
        OutputError: the JSON file is there already, or is another's.
    """
    with claimed(out, overwrite=overwrite, inputs=priors):
        if not shards and not clips:
            raise InputError("Nothing to measure on: give --shards (from `deja-vu prepare`) or --clips (tracked folders).")
        clip_names = distinct_names(clips, taken=[ALL, ALL_CLIPS])
        names = distinct_names([path.parent if path.stem == "prior" else path for path in priors], taken=[LIFTED])
        named = {name: load_network(path) for name, path in zip(names, priors, strict=True)} or {"network": load_network(None)}
        where = pick_device(device)
        scores = PriorScores(head_makers({name: prior.to(where) for name, prior in named.items()}, where), where)
        if shards:
            collection = ShardSet(shards)
            held_out = collection.part("test")
            score_photos(scores, collection, held_out[:: max(1, -(-len(held_out) // photos))], SIDE)
        for name, clip in zip(clip_names, clips, strict=True):
            score_clip(scores, name, TrackedSequence.load(find_track(clip)), SIDE, frames)
        rows = scores.rows()
        parameters = {name: sum(parameter.numel() for parameter in prior.parameters()) for name, prior in named.items()}
        write_json(out, {"device": device_name(where), "commit": commit(), "side": SIDE, "parameters": parameters, "scores": rows})
    return prior_table(rows)


def score_photos(scores: PriorScores, shards: ShardSet, numbers: Sequence[int], side: int) -> None:
    """Held-out portraits: `input` is the photo itself, `other` another photo of the same person.

    Args:
        scores: to add to.
        shards: prepared portraits.
        numbers: entries to measure on.
        side: of the pictures, pixels.
    """
    chosen = set(numbers)
    for number in tqdm(numbers, desc="photos", unit="photo"):
        entry = shards.entries[number]
        photo = stack_portraits([shards.read(number).resize(side)], number)
        targets = {"input": photo}
        others = [other for other in shards.people[entry.identity] if other != number and other in chosen]
        if others:
            targets["other"] = stack_portraits([shards.read(others[0]).resize(side)], others[0])
        scores.add(photo, targets, (entry.set_name, ALL))


def score_clip(scores: PriorScores, name: str, sequence: TrackedSequence, side: int, frames: int) -> None:
    """A tracked video: `rest` are some of its frames, of a head made from the one that faces the camera most squarely.

    Args:
        scores: to add to.
        name: of the clip.
        sequence: its frames.
        side: of the pictures, pixels.
        frames: how many are measured, evenly spread.
    """
    source = FrameSource(sequence, side)
    frontal = int((-sequence.params.world_from_head[:, 2, 2]).argmax())
    places = [place for place in evenly_spaced(frames, len(sequence)).tolist() if place != frontal]
    targets = {f"rest {place}": source.batch(torch.tensor([place])) for place in places}
    scores.add(source.batch(torch.tensor([frontal])), targets, (name, ALL_CLIPS))
