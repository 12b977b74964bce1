"""Training examples for the prior: photos of a person as input, other views of that person as targets.

Two kinds, both drawn from prepared portraits:
  photos      a degraded portrait, and itself as the target; or another portrait of the same person, where there is one
  synthetic   renders of the portrait's lifted head, completed by symmetry, in random poses and expressions: input and targets are exact
The synthetic people of `deja-vu prepare` are portraits with many views each.
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
from deja_vu.datasets.augment import LightChange, degrade
from deja_vu.datasets.config import PriorSamplerConfig
from deja_vu.datasets.shards import ShardSet
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.render.base import rasterize

MaskFunction = Callable[[HeadParams, Camera, int], UInt8[np.ndarray, "B H W"]]
"""Masks of eyes and mouth in B frames of a side, from their parameters and camera."""


@dataclass(frozen=True)
class PriorExample:
    """Photos of one person, and target views of the head made from them."""

    index: int
    """Of the portrait it was made from, in the shard set."""
    photos: Batch
    targets: Batch


class PriorSampler:
    """Draws examples from some of the portraits of a shard set, at one resolution."""

    def __init__(
        self,
        shards: ShardSet,
        indices: list[int],
        atlas: Atlas,
        find_eyes_mouth: MaskFunction,
        config: PriorSamplerConfig,
        resolution: int,
        room: int = 1 << 30,
    ) -> None:
        """Draw from some portraits.

        Args:
            shards: prepared portraits.
            indices: entries to draw from.
            atlas: of the head.
            find_eyes_mouth: finds eyes and mouth.
            config: shares and ranges.
            resolution: side of photos and targets, pixels.
            room: bytes of decoded portraits that are kept in memory.
        """
        self.shards, self.indices, self.atlas, self.find_eyes_mouth, self.config, self.resolution = (
            shards,
            indices,
            atlas,
            find_eyes_mouth,
            config,
            resolution,
        )
        self._cache: dict[int, Portrait] = {}
        self._cache_size = room // (7 * resolution * resolution)
        chosen = set(indices)
        self._people = {name: [index for index in group if index in chosen] for name, group in shards.people.items()}
        self._expressions = torch.cat([shards.entries[index].params.expression for index in indices])
        regions, faces = atlas.head.topology.regions, atlas.head.topology.faces
        self._pupils = [faces[regions[f"eye_{side}"]].unique() for side in ("right", "left")]

    def portrait(self, index: int) -> Portrait:
        """One portrait at this resolution."""
        portrait = self._cache.get(index)
        if portrait is None:
            portrait = self.shards.read(index).resize(self.resolution)
            if len(self._cache) < self._cache_size:
                self._cache[index] = portrait
        return portrait

    def draw(self, photos: int, rng: np.random.Generator) -> PriorExample:
        """Draw one example.

        Args:
            photos: how many photos it has.
            rng: all of its randomness.
        """
        index = int(rng.choice(self.indices))
        if rng.random() < self.config.synthetic_share:
            return self._draw_synthetic(index, photos, rng)
        same = self._people[self.shards.entries[index].identity]
        light = LightChange.draw(self.config.augment, rng)
        target = index
        if len(same) > 1 and rng.random() < self.config.pair_share:
            target = int(rng.choice([other for other in same if other != index]))
        shown = [index] + [int(rng.choice(same)) for _ in range(photos - 1)]
        return self._degrade(shown, target, light, rng)

    def draw_unseen(self, photos: int, rng: np.random.Generator) -> PriorExample:
        """Draw one example whose target is none of its photos: another portrait of the person, or a render where there is no other.

        Args:
            photos: how many photos it has; each is drawn on its own.
            rng: all of its randomness.
        """
        target = int(rng.choice(self.indices))
        others = [other for other in self._people[self.shards.entries[target].identity] if other != target]
        if not others or rng.random() < self.config.synthetic_share:
            return self._draw_synthetic(target, photos, rng)
        light = LightChange.draw(self.config.augment, rng)
        return self._degrade([int(rng.choice(others)) for _ in range(photos)], target, light, rng)

    def _degrade(self, shown: list[int], target: int, light: LightChange, rng: np.random.Generator) -> PriorExample:
        """Some portraits as degraded photos, and one as their target, all in one light."""
        index = shown[0]
        lit = [replace(self.portrait(place), frame=light.apply(self.portrait(place).frame)) for place in shown]
        degraded = [replace(p, frame=degrade(p.frame, self._find_pupils(p.params, p.camera), self.config.augment, rng)) for p in lit]
        answer = replace(self.portrait(target), frame=light.apply(self.portrait(target).frame))
        return PriorExample(index, stack_portraits(degraded, index), stack_portraits([answer], target))

    @torch.no_grad()
    def _draw_synthetic(self, index: int, photos: int, rng: np.random.Generator) -> PriorExample:
        config, portrait = self.config, self.portrait(index)
        portrait = replace(portrait, frame=LightChange.draw(config.augment, rng).apply(portrait.frame))
        lifted = self.atlas.lift(stack_portraits([portrait], index))
        count = photos + config.targets
        params = self._draw_poses(portrait.params, count, rng)
        out = rasterize(self.atlas.gaussians(lifted, None, params), portrait.camera, torch.zeros(3))
        colors = (out.rgb / out.alpha.clamp_min(1 / 255)).clamp(0, 1)
        eyes_mouth = torch.from_numpy(self.find_eyes_mouth(params, portrait.camera, self.resolution))
        frames = []
        for place in range(count):
            alpha = (255 * out.alpha[place, ..., 0]).round().to(torch.uint8)
            image = (255 * colors[place]).round().to(torch.uint8)
            frame = Frame(image, alpha, alpha, eyes_mouth[place], torch.full_like(alpha, 255))
            eyes = self._find_pupils(params[place : place + 1], portrait.camera)
            frames.append(degrade(frame, eyes, config.augment, rng) if place < photos else frame)
        positions = torch.full((count,), index)
        inputs = stack_frames(
            frames[:photos], positions[:photos], self._add_fit_noise(params[:photos], rng), _repeat_camera(portrait.camera, photos)
        )
        targets = stack_frames(frames[photos:], positions[photos:], params[photos:], _repeat_camera(portrait.camera, config.targets))
        return PriorExample(index, inputs, targets)

    def _draw_poses(self, like: HeadParams, count: int, rng: np.random.Generator) -> HeadParams:
        """A person in random poses, with expressions that people of the set have."""
        config = self.config
        most = np.radians([config.pitch, config.yaw, config.roll])
        turn = torch.from_numpy(rng.uniform(-most, most, (count, 3))).float()
        pose = like.world_from_head.expand(count, 4, 4).clone()
        pose[:, :3, :3] = FACING_CAMERA @ axis_angle_to_matrix(turn)
        expression = self._expressions[torch.from_numpy(rng.integers(len(self._expressions), size=count))]
        strength = torch.from_numpy(rng.uniform(0.5, 1.3, (count, 1))).float()
        joints, torso = like.joints.expand(count, -1, -1), like.torso.expand(count, 4, 4)
        return HeadParams(like.shape.expand(count, -1), expression * strength, joints, pose, torso)

    def _add_fit_noise(self, params: HeadParams, rng: np.random.Generator) -> HeadParams:
        """The same parameters with the noise of a fit."""
        pose = params.world_from_head.clone()
        wrong = torch.from_numpy(rng.normal(0, self.config.turn_noise, (len(params), 3))).float()
        pose[:, :3, :3] = axis_angle_to_matrix(wrong) @ pose[:, :3, :3]
        noise = torch.from_numpy(rng.normal(0, self.config.expression_noise, tuple(params.expression.shape))).float()
        return replace(params, expression=params.expression + noise, world_from_head=pose)

    def _find_pupils(self, params: HeadParams, camera: Camera) -> np.ndarray | None:
        """Pixels of the two eyes, the left one in the picture first; None where the head is turned away or they lie outside."""
        if float(-params.world_from_head[0, 2, 2]) < 0.75:
            return None
        vertices = self.atlas.head(params)[0]
        pixels = torch.stack([camera.project(vertices[eye].mean(0, keepdim=True))[0][0] for eye in self._pupils])
        return pixels.numpy() if bool(((pixels > 0) & (pixels < self.resolution)).all()) else None


def stack_portraits(portraits: list[Portrait], index: int) -> Batch:
    """Portraits of one size as a batch with a camera each.

    Args:
        portraits: B portraits.
        index: what messages call them.
    """
    params = HeadParams.cat([portrait.params for portrait in portraits])
    first = portraits[0].camera
    intrinsics = torch.stack([portrait.camera.intrinsics for portrait in portraits])
    camera = Camera(first.camera_from_world.expand(len(portraits), 4, 4), intrinsics, first.width, first.height)
    positions: Int[Tensor, " B"] = torch.full((len(portraits),), index)
    return stack_frames([portrait.frame for portrait in portraits], positions, params, camera)


def _repeat_camera(camera: Camera, count: int) -> Camera:
    return replace(camera, camera_from_world=camera.camera_from_world.expand(count, 4, 4), intrinsics=camera.intrinsics.expand(count, 3, 3))
