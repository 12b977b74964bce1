"""Exercises: what goes in belongs to what is asked for, and follows from the seed alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.avatars.prior.atlas import Atlas, load_atlas
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import Frame
from deja_vu.datasets.augment import LightChange, degrade
from deja_vu.datasets.config import AugmentConfig, PriorSamplerConfig
from deja_vu.datasets.prior_examples import PriorExample, PriorSampler
from deja_vu.datasets.shards import Sample, ShardInfo, ShardSet, begin_shards, write_shard
from deja_vu.render.base import rasterize

SIDE = 64
STILL = AugmentConfig(exposure=0, balance=0, gamma=0, blur=0, noise=0, compress=0, cut=0, glasses=0, strands=0)
ALL = AugmentConfig(blur=1, noise=1, compress=1, cut=1, glasses=1, strands=1)


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return load_atlas("toy", 64)


@pytest.fixture(scope="module")
def shards(atlas, tmp_path_factory) -> ShardSet:
    """Two portraits of ann, one of bob, who is green."""
    return paint_people(tmp_path_factory.mktemp("shards"), atlas, [("ann", (200, 60, 60)), ("ann", (200, 60, 60)), ("bob", (60, 180, 60))])


def paint_people(folder: Path, atlas: Atlas, colors: list[tuple[str, tuple[int, int, int]]]) -> ShardSet:
    """A portrait of one color for each name and color."""
    begin_shards(folder, ShardInfo("toy", SIDE, tuple(f"{number}" for number in range(len(colors))), len(colors)))
    samples = []
    for number, (name, color) in enumerate(colors):
        neutral = atlas.head.neutral((1,))
        pose = torch.eye(4)[None].clone()
        pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        pose[:, 2, 3] = 0.5
        params, camera = replace(neutral, world_from_head=pose), Camera.from_focal(100.0, SIDE, SIDE)
        rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        alpha = (((rows - 32) ** 2 + (columns - 32) ** 2) < 22**2).to(torch.uint8) * 255
        image = torch.tensor(color, dtype=torch.uint8).expand(SIDE, SIDE, 3).clone()
        frame = Frame(image, alpha, alpha, torch.zeros_like(alpha), torch.full_like(alpha, 255))
        samples.append(Sample(Portrait(f"k{number}", name, frame, params, camera), "set", "train"))
    write_shard(folder, 0, samples, {})
    return ShardSet([folder])


def find_eyes_mouth(params: HeadParams, camera: Camera, side: int) -> np.ndarray:
    return np.zeros((len(params), side, side), np.uint8)


def people(shards: ShardSet, atlas: Atlas, **changes: object) -> PriorSampler:
    return PriorSampler(shards, [0, 1, 2], atlas, find_eyes_mouth, PriorSamplerConfig(**changes), SIDE)


def same(a: PriorExample, b: PriorExample) -> bool:
    return torch.equal(a.photos.image, b.photos.image) and torch.equal(a.targets.image, b.targets.image)


def test_the_seed_decides(shards, atlas):
    source, again = people(shards, atlas), people(shards, atlas)
    drawn = [source.draw(2, np.random.default_rng([0, k])) for k in range(4)]
    assert all(same(a, again.draw(2, np.random.default_rng([0, k]))) for k, a in enumerate(drawn))
    assert not same(drawn[0], drawn[1])
    assert all(len(example.photos.params) == 2 for example in drawn)


def test_without_change_a_photo_is_its_own_answer(shards, atlas):
    source = people(shards, atlas, synthetic_share=0.0, pair_share=0.0, augment=STILL)
    example = source.draw(1, np.random.default_rng(3))
    assert torch.equal(example.photos.image, example.targets.image)
    assert example.photos.camera.intrinsics.shape == (1, 3, 3)


def test_what_is_to_be_made_is_never_among_the_photos(atlas, tmp_path):
    """Every portrait of ann has a color of its own; of bob, of whom there is one portrait, renders in other poses are shown and made."""
    colors = [("ann", (200, 60, 40 * number)) for number in range(4)] + [("bob", (60, 180, 60))]
    shards = paint_people(tmp_path, atlas, colors)
    source = PriorSampler(shards, [0, 1, 2, 3, 4], atlas, find_eyes_mouth, PriorSamplerConfig(synthetic_share=0.0, augment=STILL), SIDE)
    answers = set()
    for k in range(60):
        example = source.draw_unseen(2, np.random.default_rng(k))
        middle = [(255 * picture[32, 32]).round().int().tolist() for picture in (*example.photos.image, *example.targets.image)]
        photos, targets = middle[:2], middle[2:]
        if targets[0][0] > targets[0][1]:
            assert len(targets) == 1
            assert targets[0] not in photos
            answers.add(targets[0][2])
        else:
            poses = example.photos.params.world_from_head
            assert all(not torch.allclose(pose, poses[n], atol=1e-3) for pose in example.targets.params.world_from_head for n in range(2))
    assert len(answers) == 4, "every portrait of ann was asked for"


def test_pairs_show_the_same_person_in_the_same_light(shards, atlas):
    source = people(shards, atlas, synthetic_share=0.0, pair_share=1.0)
    for seed in range(6):
        example = source.draw(3, np.random.default_rng(seed))
        first, last = example.index, int(example.targets.positions[0])
        assert (first == last) == (first == 2), "bob has one portrait only"
        assert {first, last} <= {0, 1} or first == last == 2


def test_a_synthetic_pair_is_the_lifted_head_elsewhere(shards, atlas):
    source = people(shards, atlas, synthetic_share=1.0, augment=STILL, turn_noise=0.0, expression_noise=0.0)
    example = source.draw(2, np.random.default_rng(0))
    assert example.targets.image.shape == (2, SIDE, SIDE, 3)
    lifted = atlas.lift(source_batch(source, example.index))
    with torch.no_grad():
        views = rasterize(atlas.gaussians(lifted, None, example.photos.params), example.photos.camera, torch.ones(2, 3))
    shown = example.photos.image * example.photos.head + 1 - example.photos.head
    torch.testing.assert_close(shown, views.rgb.clamp(0, 1), rtol=0, atol=0.02)  # two roundings to 8 bits
    assert not torch.equal(example.targets.params.world_from_head[0], example.targets.params.world_from_head[1])


def source_batch(source: PriorSampler, number: int):
    from deja_vu.datasets.prior_examples import stack_portraits

    return stack_portraits([source.portrait(number)], number)


def test_worse_photos_keep_what_they_do_not_show_out(shards):
    frame = shards.read(0).frame
    for seed in range(8):
        worse = degrade(frame, np.array([[24.0, 30.0], [40.0, 30.0]]), ALL, np.random.default_rng(seed))
        lost = worse.valid == 0
        assert 0 < lost.sum() < 0.2 * lost.numel()
        assert not worse.head[lost].any()
        rows, columns = (np.flatnonzero(~lost.numpy().all(axis)) for axis in (1, 0))
        beyond = [(int(span[0]), SIDE - 1 - int(span[-1])) for span in (rows, columns)]
        known = worse.image.numpy()[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert np.array_equal(worse.image.numpy(), np.pad(known, (*beyond, (0, 0)), mode="edge")), "as a crop beyond a photo's border"
        assert worse.image.dtype == torch.uint8
        assert not torch.equal(worse.image[~lost], frame.image[~lost])
    assert torch.equal(degrade(frame, None, STILL, np.random.default_rng(0)).image, frame.image)


def test_light_is_monotonic_and_none_is_none(shards):
    frame = shards.read(0).frame
    assert torch.equal(LightChange(np.ones(3), 1.0).apply(frame).image, frame.image)
    assert (LightChange(np.full(3, 1.2), 1.0).apply(frame).image >= frame.image).all()
    assert (LightChange(np.ones(3), 1.3).apply(frame).image <= frame.image).all()
