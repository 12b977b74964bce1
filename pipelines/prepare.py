"""From folders of photos to shards: find, crop, matte and fit every head; report what was refused and why."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from deja_vu.core.documents import read_json
from deja_vu.core.errors import ConfigError, FormatError, InputError, OutputError
from deja_vu.core.portrait import Portrait
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import Frame, TrackedSequence
from deja_vu.datasets.shards import DESCRIPTION, Sample, ShardInfo, ShardSet, Split, begin_shards, write_shard
from deja_vu.datasets.synthetic import SyntheticSubject
from deja_vu.heads import load_head
from deja_vu.io.files import write_json
from deja_vu.io.images import read_picture
from deja_vu.io.names import distinct_names
from deja_vu.pipelines.configs import PrepareConfig
from deja_vu.pipelines.identity import source_facts
from deja_vu.pipelines.own_files import read_record
from deja_vu.pipelines.run_folder import Run, open_run
from deja_vu.tracking.crop import crop_frame, find_crop
from deja_vu.tracking.masks import HeadMasks, head_alpha
from deja_vu.tracking.photo import PhotoFitter
from deja_vu.training.checkpoint import fingerprint
from deja_vu.training.devices import pick_device

SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .mpo .png .webp .tif .tiff .bmp .gif .jp2 .heic .heif .hif .avif".split())
"""Of files that are taken for photos."""
UNFORESEEN = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, cv2.error)
"""What libraries raise over numbers and pictures: one photo's failure is its own, among thousands that are not to be begun again."""
SYNTHETIC = "synthetic"
"""Set of the made-up people; a source `synthetic:7` is the person of seed 7."""
CLIP = "clip"
"""Set of the tracked videos; a source `clip:NAME` is the tracked folder of that name."""
LONGEST_NAME = 64
"""Letters of a source's name in a portrait's key: with all that is added, fewer than the hundred that a tar file takes."""
ACTED_FRAMES = 150
"""Length of the clip from which a made-up person's portraits are taken."""
MADE_UP_SIDE = 1.5
"""Side of a made-up person's picture, in sides of the portraits that are cut from it."""


def prepare(
    data: Sequence[Path], out: Path, config: PrepareConfig, *, resume: bool = False, overwrite: bool = False, device: str = "cpu"
) -> ShardSet:
    """Prepare photos.

    Args:
        data: folders of photos, searched with all their subfolders, and tracked folders.
        out: folder for the shards; gets report.json too.
        config: recipe.
        resume: go on where a preparation of the same photos stopped; whole shards are kept.
        overwrite: replace the shards in the folder.
        device: where heads are fitted to photos, see `pick_device`.

    Raises:
        InputError: a folder does not exist, there is no photo, or not one could be used.
        OutputError: `out` holds what no preparation wrote, shards of other photos, or shards and neither flag is given; it is in use, or
            cannot be written.
    """
    with open_run(out, "prepare", inputs=data, resume=resume, overwrite=overwrite) as run:
        fill(data, run, config, pick_device(device, gaussians=False))
    return ShardSet([out])


def fill(data: Sequence[Path], run: Run, config: PrepareConfig, device: torch.device) -> None:
    """Write the shards that are missing in an open folder; see `prepare`."""
    out = run.folder
    photos, clips = find_sources(data)
    photos = spread_photos(photos, config)
    sources = (*photos, *clips, *(f"{SYNTHETIC}:{seed}" for seed in range(1, config.made_up + 1)))
    if not sources:
        places = ", ".join(map(str, data)) or "No folder is given"
        raise InputError(f"{places}: no photo was found. Expected files ending in {', '.join(sorted(SUFFIXES))}.")
    contents = fingerprint([(source, photos[source].path.stat().st_size) if source in photos else source for source in sources])
    clip_prints = fingerprint(*(source_facts(folder)["source_sha256"] for folder in clips.values()))
    facts = {"source_sha256": fingerprint(contents, clip_prints), "recipe_sha256": fingerprint(config)}
    begun = read_record(out)
    if not run.fresh and any(begun.get(name, value) != value for name, value in facts.items()):
        raise OutputError(f"{out} holds shards of other photos or of another recipe. Choose another --out.")
    run.note(source=" ".join(map(str, data)), **facts)
    missing = begin_shards(out, ShardInfo(config.head, config.photo.resolution, sources, config.per_shard))
    head = load_head(config.head)
    with ExitStack() as stack, tqdm(total=len(missing) * config.per_shard, desc="prepare", unit="photo") as bar:
        fitter = stack.enter_context(PhotoFitter(head, config.photo, device)) if missing and photos else None
        for number in missing:
            samples: list[Sample] = []
            refused: dict[str, str] = {}
            for source in sources[number * config.per_shard : (number + 1) * config.per_shard]:
                try:
                    if source in photos:
                        assert fitter is not None
                        samples.append(_prepare_photo(source, photos[source], fitter, config))
                    elif source in clips:
                        samples += _prepare_clip(source.partition(":")[2], clips[source], config)
                    else:
                        samples += _make_up(int(source.partition(":")[2]), config)
                except (InputError, FormatError) as error:
                    refused[source] = str(error)
                except UNFORESEEN as error:
                    refused[source] = f"{source} ended in an error that nobody foresaw ({type(error).__name__}: {str(error)[:200]})."
                bar.update()
            write_shard(out, number, samples, refused)
    _refuse_nothing(run, sources)
    report(ShardSet([out]), out, run.place(out / "report.json"), count_others(data))


def _refuse_nothing(run: Run, sources: Sequence[str]) -> None:
    """Refuse shards without a portrait, and leave nothing of them: whoever goes on with them would find the same.

    Raises:
        InputError: no source could be used.
    """
    refused = _refused(run.folder)
    if len(refused) < len(sources):
        return
    for path in run.folder.glob("[0-9]*.*"):
        path.unlink()
    (run.folder / DESCRIPTION).unlink()
    reason = next(iter(refused.values()))[:300]
    raise InputError(f"None of {len(sources)} could be prepared. The first: {reason}")


def _refused(folder: Path) -> dict[str, str]:
    """Why sources were refused, by source."""
    return {source: reason for path in sorted(folder.glob("[0-9]*.json")) for source, reason in read_json(path)["refused"].items()}


@dataclass(frozen=True)
class Photo:
    """A photo to be prepared."""

    path: Path
    below: str
    """Path below its data folder, which a set's rule must match."""


def find_sources(data: Sequence[Path]) -> tuple[dict[str, Photo], dict[str, Path]]:
    """Photos and tracked folders by source, which is the name that no other has.

    A photo is called by its path below its data folder. Where two folders hold photos of one name, all are called by their folder too.

    Args:
        data: folders of photos, and tracked folders.

    Raises:
        InputError: there is no such folder, or one is given twice.
    """
    names = distinct_names(data)
    clips = {f"{CLIP}:{name}": folder for name, folder in zip(names, data, strict=True) if (folder / "track.json").is_file()}
    found = [
        (name, Photo(path, path.relative_to(folder).as_posix()))
        for name, folder in zip(names, data, strict=True)
        if folder not in clips.values()
        for path in find_photos(folder)
    ]
    alike = len({photo.below for _, photo in found}) < len(found)
    return {f"{name}/{photo.below}" if alike else photo.below: photo for name, photo in found}, clips


def spread_photos(photos: Mapping[str, Photo], config: PrepareConfig) -> dict[str, Photo]:
    """At most as many photos of each identity as the recipe wants, evenly spread over the order of their names."""
    if not config.each:
        return dict(photos)
    people: dict[str, list[str]] = {}
    for source, photo in photos.items():
        people.setdefault(identify(source, config, photo.below)[0], []).append(source)
    kept = {names[place] for names in people.values() for place in evenly_spaced(config.each, len(names)).tolist()}
    return {source: photo for source, photo in photos.items() if source in kept}


def find_photos(folder: Path) -> list[Path]:
    """Photos in a folder and below, in a fixed order.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Expected a folder of photos.")
    return sorted(path for path in _visible(folder) if path.suffix.lower() in SUFFIXES)


def count_others(data: Sequence[Path]) -> Counter[str]:
    """Files among the photos that are not taken for photos, by suffix; tracked folders hold no such files."""
    folders = [folder for folder in data if not (folder / "track.json").is_file()]
    others = (path for folder in folders for path in _visible(folder) if path.suffix.lower() not in SUFFIXES)
    return Counter(path.suffix.lower() or "without a suffix" for path in others)


def _visible(folder: Path) -> Iterator[Path]:
    """Files in a folder and below; those that systems hide beside photos begin with a dot."""
    return (path for path in folder.rglob("*") if not path.name.startswith(".") and path.is_file())


def _prepare_photo(source: str, photo: Photo, fitter: PhotoFitter, config: PrepareConfig) -> Sample:
    identity, split = identify(source, config, photo.below)
    key = f"{_plain_name(source.rsplit('.', 1)[0].replace('/', '-'))}-{_digest(source)[:6]}"
    fitted = fitter.fit(read_picture(photo.path), key, identity)
    set_name = source.split("/")[0] if "/" in source else photo.path.parent.name
    return Sample(fitted.portrait, set_name, split)


def identify(source: str, config: PrepareConfig, below: str | None = None) -> tuple[str, Split]:
    """Who a source shows, and on which side of the split that person stands.

    Args:
        source: its name, which is the person's where no rule says otherwise.
        config: holds the rules.
        below: what a rule must match; None for the source itself.

    Raises:
        ConfigError: a rule is no regular expression.
    """
    identity = source
    try:
        for rule in config.sets:
            if found := re.fullmatch(rule.match, source if below is None else below):
                identity = found.expand(rule.identity)
                if rule.test is not None:
                    return identity, "test" if re.fullmatch(rule.test, identity) else "train"
                break
    except re.error as error:
        raise ConfigError(f"A set's rule is not a regular expression: {error}.") from error
    return identity, "test" if int(_digest(identity)[:8], 16) / 16**8 < config.test_share else "train"


def _plain_name(name: str) -> str:
    """A name that every archive takes: its last letters, plain ones, with _ for others."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[-LONGEST_NAME:]


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def _prepare_clip(name: str, folder: Path, config: PrepareConfig) -> list[Sample]:
    """Frames of a tracked video, spread over it."""
    sequence = TrackedSequence.load(folder)
    if sequence.info.head_name != config.head or sequence.info.resolution != config.photo.resolution:
        raise InputError(
            f"{folder} was tracked with head '{sequence.info.head_name}' at {sequence.info.resolution} pixels; "
            f"expected '{config.head}' at {config.photo.resolution}. Track the video again."
        )
    identity, split = identify(f"{CLIP}/{name}", config)
    called = _plain_name(name)
    if called != name:  # another name may come out alike
        called += f"-{_digest(name)[:6]}"
    samples = []
    for place in evenly_spaced(config.clip_frames, len(sequence)).tolist():
        key = f"{CLIP}-{called}-{place:06d}"
        portrait = Portrait(key, identity, sequence.frame(place), sequence.params[place : place + 1], sequence.camera)
        samples.append(Sample(portrait, CLIP, split))
    return samples


def _make_up(seed: int, config: PrepareConfig) -> list[Sample]:
    """Portraits of one made-up person, cropped as photos are, with the true fit."""
    side = config.photo.resolution
    subject = SyntheticSubject(ACTED_FRAMES, round(MADE_UP_SIDE * side), seed, random_style=True)
    masks, marks = HeadMasks(subject.head), subject.head.topology.landmarks["mediapipe"]
    points = subject.head.at_points(marks.faces, marks.bary)
    identity, split = identify(f"{SYNTHETIC}/{seed:04d}", config)
    samples = []
    for index in np.linspace(0, ACTED_FRAMES - 1, config.made_up_frames).round().astype(int):
        drawn, params = subject.render(int(index)), subject.params[int(index) : int(index) + 1]
        pixels, depth = subject.camera.project(points(params))
        crop = find_crop(torch.cat([pixels, depth[..., None]], -1).numpy(), subject.size, subject.size)
        camera = subject.camera.crop(crop.x0, crop.y0, crop.size, crop.size).resize(side, side)
        weight, eyes_mouth = masks.render(params, camera, side)
        masked = np.stack([drawn.foreground, np.full_like(drawn.foreground, 255), drawn.foreground], -1)
        image, (foreground, valid) = crop_frame(drawn.image, crop, side), np.moveaxis(crop_frame(masked, crop, side, border=0), -1, 0)[:2]
        above = head_alpha(foreground, weight[0])
        frame = Frame(*(torch.from_numpy(np.ascontiguousarray(plane)) for plane in (image, foreground, above, eyes_mouth[0], valid)))
        key = f"{SYNTHETIC}-{seed:04d}-{index:03d}"
        samples.append(Sample(Portrait(key, identity, frame, params, camera), SYNTHETIC, split))
    return samples


def report(shards: ShardSet, folder: Path, shown: Path, others: Mapping[str, int]) -> None:
    """Write report.json and say in a few lines what was prepared and what was refused.

    Args:
        shards: what was prepared.
        folder: where they are now.
        shown: where the user will find report.json.
        others: files that were passed over, by suffix.
    """
    refused = _refused(folder)
    counts: dict[str, Counter[str]] = {}
    for entry in shards.entries:
        counts.setdefault(entry.set_name, Counter())[entry.split] += 1
    people = Counter(shards.entries[numbers[0]].split for numbers in shards.people.values())
    portraits = {name: dict(count) for name, count in counts.items()}
    facts = {"portraits": portraits, "people": dict(people), "refused": refused, "passed_over": dict(others)}
    write_json(folder / "report.json", facts)
    for name, count in sorted(counts.items()):
        print(f"{name:>16}  {count['train']:5d} to train on, {count['test']:4d} held out")
    print(f"{'people':>16}  {people['train']:5d} to train on, {people['test']:4d} held out; {len(refused)} photos refused")
    if others:
        print(f"{'passed over':>16}  {', '.join(f'{count} {suffix}' for suffix, count in sorted(others.items()))}: not taken for photos")
    for source, reason in list(refused.items())[:10]:
        print(f"  {source}: {reason}")
    if len(refused) > 10:
        print(f"  ... all of them in {shown}")
