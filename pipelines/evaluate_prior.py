"""Score networks of the generalize stage on people they never saw, compared with each other and with lifting alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from deja_vu.bench.prior_scores import LIFTED, PriorScores, head_makers
from deja_vu.core.errors import InputError
from deja_vu.core.image import WHITE, over
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.datasets.prior_examples import stack_portraits
from deja_vu.datasets.shards import ShardSet
from deja_vu.io.files import write_json
from deja_vu.io.frames import FrameSource
from deja_vu.io.names import distinct_names
from deja_vu.io.provenance import commit
from deja_vu.pipelines.networks import load_network
from deja_vu.pipelines.own_files import hold_output
from deja_vu.pipelines.run_folder import find_track
from deja_vu.report.prior_report import prior_table
from deja_vu.training.devices import device_name, pick_device

SIDE = 256
"""Side of the pictures on which heads are made and measured, pixels."""
ALL = "all"
"""Set of all photos."""
ALL_CLIPS = "all clips"
"""Set of all clips."""
MEAN_IMAGE = "mean image"
"""Name of a clip's mean, which costs nothing."""
MOST_TURN = math.radians(40)
"""Turn from the camera up to which a frame of a clip is taken for a photo."""


def evaluate_prior(
    shards: Sequence[Path],
    clips: Sequence[Path],
    out: Path,
    priors: Sequence[Path] = (),
    *,
    frames: int = 40,
    photos: int = 1000,
    counts: Sequence[int] = (1,),
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
        counts: from how many frames of a clip a head is made, for every head.
        overwrite: replace the JSON file if it is there.
        device: where networks run and heads are drawn, see `pick_device`.

    Returns:
        The figures as a Markdown table.

    Raises:
        InputError: nothing to measure on is given, or something twice.
        OutputError: the JSON file is there already, or is another's.
    """
    with hold_output(out, overwrite=overwrite, inputs=priors):
        if not shards and not clips:
            raise InputError("Nothing to measure on: give --shards (from `deja-vu prepare`) or --clips (tracked folders).")
        clip_names = distinct_names(clips, taken=[ALL, ALL_CLIPS])
        names = distinct_names([path.parent if path.stem == "prior" else path for path in priors], taken=[LIFTED, MEAN_IMAGE])
        named = {name: load_network(path) for name, path in zip(names, priors, strict=True)} or {"network": load_network(None)}
        where = pick_device(device)
        scores = PriorScores(head_makers({name: prior.to(where) for name, prior in named.items()}, where), where)
        if shards:
            collection = ShardSet(shards)
            held_out = collection.part("test")
            score_photos(scores, collection, held_out[:: max(1, -(-len(held_out) // photos))], SIDE)
        for name, clip in zip(clip_names, clips, strict=True):
            score_clip(scores, name, TrackedSequence.load(find_track(clip)), SIDE, frames, counts)
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


def score_clip(scores: PriorScores, name: str, sequence: TrackedSequence, side: int, frames: int, counts: Sequence[int] = (1,)) -> None:
    """A tracked video: `rest` are some of its frames, of heads made from a few others; beside them the mean of its training frames.

    Args:
        scores: to add to.
        name: of the clip.
        sequence: its frames.
        side: of the pictures, pixels.
        frames: how many are measured, evenly spread.
        counts: from how many frames a head is made, of every head; none of any head's is measured.
    """
    source, shown = FrameSource(sequence, side), {count: photo_places(sequence, count) for count in counts}
    seen = {place for places in shown.values() for place in places}
    rest = [place for place in evenly_spaced(frames, len(sequence)).tolist() if place not in seen]
    targets = {f"rest {place}": source.batch(torch.tensor([place])) for place in rest}
    mean = mean_picture(sequence.train_part(), side)
    for number, (count, places) in enumerate(shown.items()):
        label = f", {count} photo{'s' if count > 1 else ''}" if len(shown) > 1 else ""
        others = {MEAN_IMAGE: lambda target: mean} if number == 0 else {}
        scores.add(source.batch(torch.tensor(places)), targets, (name, ALL_CLIPS), label=label, others=others)


def photo_places(sequence: TrackedSequence, count: int) -> list[int]:
    """Frames that a head is made from: the one that faces the camera most squarely, and others from the leftmost to the rightmost turn.

    Args:
        sequence: tracked video; frames turned away by more than `MOST_TURN` are not taken.
        count: how many, or fewer where there are not so many.
    """
    ahead = sequence.params.world_from_head[:, :3, 2]
    facing = (-ahead[:, 2]).clamp(-1, 1)
    frontal = int(facing.argmax())
    usable = [place for place in torch.atan2(ahead[:, 0], -ahead[:, 2]).argsort().tolist() if facing[place] > math.cos(MOST_TURN)]
    others = [place for place in usable if place != frontal]
    return [frontal, *(others[place] for place in evenly_spaced(count - 1, len(others)).tolist())]


def mean_picture(sequence: TrackedSequence, side: int) -> Float[Tensor, "1 H W 3"]:
    """Mean of a video's heads over white."""
    source, total = FrameSource(sequence, side, cache_bytes=0), torch.zeros(1, side, side, 3)
    for batch in source.stream(iter(torch.arange(len(sequence))[:, None])):
        total += over(batch.image, batch.head, WHITE)
    return total / len(sequence)
