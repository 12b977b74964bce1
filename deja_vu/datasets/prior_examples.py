"""Exercises for a network that makes heads from photos: photos of a person in, another view of that person as the answer.

Three kinds, all drawn from prepared portraits:
  photo     a portrait, worsened, and itself as the answer; or another portrait of the same person, where there is one
  twin      the portrait's lifted head, completed by symmetry, seen in random poses and expressions: both sides of any pair are known
The made-up people of the synthetic set are portraits with many views each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from deja_vu.avatars.prior.atlas import Atlas
from deja_vu.core.batch import Batch, stack_frames
from deja_vu.core.camera import Camera
from deja_vu.core.conventions import FACING_CAMERA
from deja_vu.core.head import HeadParams
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import Frame
from deja_vu.datasets.augment import Light, degrade
from deja_vu.datasets.config import PeopleConfig
from deja_vu.datasets.shards import ShardSet
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.render.base import rasterize

Watch = Callable[[HeadParams, Camera, int], UInt8[np.ndarray, "B H W"]]
"""Where eyes and mouth are in B frames of a side."""


@dataclass(frozen=True)
class Exercise:
    """Photos of one person, and views that the head made from them should give."""

    entry: int
    """Number of the portrait it was made from."""
    photos: Batch
    targets: Batch


class People:
    """Draws exercises from some of the portraits of a shard set, at one resolution."""

    def __init__(
        self, shards: ShardSet, numbers: list[int], atlas: Atlas, watch: Watch, config: PeopleConfig, resolution: int, room: int = 1 << 30
    ) -> None:
        """Draw from some portraits.

        Args:
            shards: prepared portraits.
            numbers: entries to draw from.
            atlas: of the head.
            watch: finds eyes and mouth.
            config: how exercises are drawn.
            resolution: side of photos and answers, pixels.
            room: bytes of decoded portraits that are kept in memory.
        """
        self.shards, self.numbers, self.atlas, self.watch, self.config, self.resolution = shards, numbers, atlas, watch, config, resolution
        self._kept: dict[int, Portrait] = {}
        self._most = room // (7 * resolution * resolution)
        chosen = set(numbers)
        self._people = {name: [number for number in group if number in chosen] for name, group in shards.people.items()}
        self._expressions = torch.cat([shards.entries[number].params.expression for number in numbers])
        regions, faces = atlas.head.topology.regions, atlas.head.topology.faces
        self._pupils = [faces[regions[f"eye_{side}"]].unique() for side in ("right", "left")]

    def portrait(self, number: int) -> Portrait:
        """One portrait at this resolution."""
        portrait = self._kept.get(number)
        if portrait is None:
            portrait = self.shards.read(number).resized(self.resolution)
            if len(self._kept) < self._most:
                self._kept[number] = portrait
        return portrait

    def exercise(self, photos: int, rng: np.random.Generator) -> Exercise:
        """Draw one.

        Args:
            photos: how many photos it gives.
            rng: all of its randomness.
        """
        number = int(rng.choice(self.numbers))
        if rng.random() < self.config.twin_share:
            return self._twin(number, photos, rng)
        same = self._people[self.shards.entries[number].identity]
        light = Light.draw(self.config.augment, rng)
        target = number
        if len(same) > 1 and rng.random() < self.config.pair_share:
            target = int(rng.choice([other for other in same if other != number]))
        shown = [number] + [int(rng.choice(same)) for _ in range(photos - 1)]
        lit = [replace(self.portrait(place), frame=light.apply(self.portrait(place).frame)) for place in shown]
        worse = [replace(p, frame=degrade(p.frame, self._eyes(p.params, p.camera), self.config.augment, rng)) for p in lit]
        answer = replace(self.portrait(target), frame=light.apply(self.portrait(target).frame))
        return Exercise(number, stack_portraits(worse, number), stack_portraits([answer], target))

    @torch.no_grad()
    def _twin(self, number: int, photos: int, rng: np.random.Generator) -> Exercise:
        config, portrait = self.config, self.portrait(number)
        portrait = replace(portrait, frame=Light.draw(config.augment, rng).apply(portrait.frame))
        lifted = self.atlas.lift(stack_portraits([portrait], number))
        count = photos + config.targets
        params = self._acted(portrait.params, count, rng)
        out = rasterize(self.atlas.gaussians(lifted, None, params), portrait.camera, torch.zeros(3))
        colors = (out.rgb / out.alpha.clamp_min(1 / 255)).clamp(0, 1)
        eyes_mouth = torch.from_numpy(self.watch(params, portrait.camera, self.resolution))
        frames = []
        for place in range(count):
            alpha = (255 * out.alpha[place, ..., 0]).round().to(torch.uint8)
            image = (255 * colors[place]).round().to(torch.uint8)
            frame = Frame(image, alpha, alpha, eyes_mouth[place], torch.full_like(alpha, 255))
            eyes = self._eyes(params[place : place + 1], portrait.camera)
            frames.append(degrade(frame, eyes, config.augment, rng) if place < photos else frame)
        positions = torch.full((count,), number)
        inputs = stack_frames(frames[:photos], positions[:photos], self._misfitted(params[:photos], rng), _views(portrait.camera, photos))
        targets = stack_frames(frames[photos:], positions[photos:], params[photos:], _views(portrait.camera, config.targets))
        return Exercise(number, inputs, targets)

    def _acted(self, like: HeadParams, count: int, rng: np.random.Generator) -> HeadParams:
        """A person in poses and expressions that people of the set have."""
        config = self.config
        most = np.radians([config.pitch, config.yaw, config.roll])
        turn = torch.from_numpy(rng.uniform(-most, most, (count, 3))).float()
        pose = like.world_from_head.expand(count, 4, 4).clone()
        pose[:, :3, :3] = FACING_CAMERA @ axis_angle_to_matrix(turn)
        expression = self._expressions[torch.from_numpy(rng.integers(len(self._expressions), size=count))]
        strength = torch.from_numpy(rng.uniform(0.5, 1.3, (count, 1))).float()
        return HeadParams(like.shape.expand(count, -1), expression * strength, like.joints.expand(count, -1, -1), pose)

    def _misfitted(self, params: HeadParams, rng: np.random.Generator) -> HeadParams:
        """The same parameters, as exact as a fit is."""
        pose = params.world_from_head.clone()
        wrong = torch.from_numpy(rng.normal(0, self.config.turn_noise, (len(params), 3))).float()
        pose[:, :3, :3] = axis_angle_to_matrix(wrong) @ pose[:, :3, :3]
        noise = torch.from_numpy(rng.normal(0, self.config.expression_noise, tuple(params.expression.shape))).float()
        return replace(params, expression=params.expression + noise, world_from_head=pose)

    def _eyes(self, params: HeadParams, camera: Camera) -> np.ndarray | None:
        """Pixels of the two eyes, the left one in the picture first; None where the head is turned away or they lie outside."""
        if float(-params.world_from_head[0, 2, 2]) < 0.75:
            return None
        vertices = self.atlas.head(params)[0]
        pixels = torch.stack([camera.project(vertices[eye].mean(0, keepdim=True))[0][0] for eye in self._pupils])
        return pixels.numpy() if bool(((pixels > 0) & (pixels < self.resolution)).all()) else None


def stack_portraits(portraits: list[Portrait], number: int) -> Batch:
    """Portraits of one size as a batch with a camera each.

    Args:
        portraits: B portraits.
        number: what messages call them.
    """
    params = HeadParams.cat([portrait.params for portrait in portraits])
    first = portraits[0].camera
    intrinsics = torch.stack([portrait.camera.intrinsics for portrait in portraits])
    camera = Camera(first.camera_from_world.expand(len(portraits), 4, 4), intrinsics, first.width, first.height)
    positions: Int[Tensor, " B"] = torch.full((len(portraits),), number)
    return stack_frames([portrait.frame for portrait in portraits], positions, params, camera)


def _views(camera: Camera, count: int) -> Camera:
    return replace(camera, camera_from_world=camera.camera_from_world.expand(count, 4, 4), intrinsics=camera.intrinsics.expand(count, 3, 3))
