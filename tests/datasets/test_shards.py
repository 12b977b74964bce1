"""Portraits in shards: what goes in comes out, and what is half written does not count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.core.batch import stack_frames
from deja_vu.core.camera import Camera
from deja_vu.core.errors import FormatError, InputError, OutputError
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import Frame
from deja_vu.datasets.shards import Sample, ShardInfo, ShardSet, begin_shards, write_shard
from deja_vu.heads.toy import load as load_toy

SIDE = 32
INFO = ShardInfo("toy", SIDE, tuple(f"p{n}.jpg" for n in range(5)), 2)


def sample(number: int, identity: str, split: str = "train") -> Sample:
    neutral = load_toy().neutral((1,))
    params = replace(neutral, expression=torch.rand_like(neutral.expression), shape=torch.rand_like(neutral.shape))
    params = replace(params, torso=torch.rand(1, 4, 4))
    smooth = torch.linspace(0, 255, SIDE).to(torch.uint8).expand(SIDE, SIDE)
    planes = [torch.full((SIDE, SIDE), 40 * k + number, dtype=torch.uint8) for k in range(4)]
    frame = Frame(torch.stack([smooth, smooth, smooth], -1), *planes)
    return Sample(Portrait(f"key-{number}", identity, frame, params, Camera.from_focal(40.0 + number, SIDE, SIDE)), "set", split)


def test_round_trip(tmp_path):
    samples = [sample(0, "ann"), sample(1, "bob", "test"), sample(2, "ann")]
    assert begin_shards(tmp_path, INFO) == [0, 1, 2]
    write_shard(tmp_path, 0, samples[:2], {})
    write_shard(tmp_path, 2, samples[2:], {"p3.jpg": "no face"})
    assert begin_shards(tmp_path, INFO) == [1], "complete shards are kept"
    shards = ShardSet([tmp_path])
    assert len(shards) == 3
    assert shards.people == {"ann": [0, 2], "bob": [1]}
    assert (shards.part("train"), shards.part("test")) == ([0, 2], [1])
    assert shards.watch(0.0) == ([0, 2], [])
    assert shards.watch(1.0) == ([0, 2], []), "somebody has to be learned from"
    for number, written in enumerate(samples):
        read, portrait = shards.read(number), written.portrait
        assert (read.key, read.identity) == (portrait.key, portrait.identity)
        for name in ("shape", "expression", "joints", "world_from_head", "torso"):
            torch.testing.assert_close(getattr(read.params, name), getattr(portrait.params, name), rtol=0, atol=0)
        torch.testing.assert_close(read.camera.intrinsics, portrait.camera.intrinsics, rtol=0, atol=0)
        for name in ("foreground", "head", "eyes_mouth", "valid"):
            assert torch.equal(getattr(read.frame, name), getattr(portrait.frame, name))
        assert (read.frame.image.int() - portrait.frame.image.int()).abs().max() <= 3, "JPEG"


def test_a_reduced_portrait_is_the_same_view(tmp_path):
    small = sample(0, "ann").portrait.resize(16)
    assert small.frame.image.shape == (16, 16, 3)
    assert float(small.camera.intrinsics[0, 0]) == 20.0
    batch = stack_frames([small.frame], torch.zeros(1, dtype=torch.long), small.params, small.camera)
    assert batch.image.shape == (1, 16, 16, 3)


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="holds no shards"):
        ShardSet([tmp_path])
    begin_shards(tmp_path, INFO)
    with pytest.raises(InputError, match="not one complete shard"):
        ShardSet([tmp_path])
    with pytest.raises(OutputError, match="other photos"):
        begin_shards(tmp_path, replace(INFO, sources=("other.jpg",)))
    write_shard(tmp_path, 0, [sample(0, "ann")], {})
    broken = tmp_path / "000001.tar"
    broken.write_bytes((tmp_path / "000000.tar").read_bytes()[:700])
    with pytest.raises(FormatError, match="damaged"):
        ShardSet([tmp_path])
    broken.unlink()
    (tmp_path / "shards.json").write_text("{}")
    with pytest.raises(FormatError, match="shard format None"):
        ShardSet([tmp_path])
