"""Views that no frame shows, in which a Gaussian avatar is kept close to its base map, which is solid and has one color per place."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.transfer import move
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.losses.photometric import huber
from deja_vu.training.gaussian_config import NovelViewConfig


class NovelViewLoss:
    """Distance of an avatar to its base map, seen from the side.

    A video that hardly turns leaves Gaussians free to be anything whose sum looks right from the front: seen from the side they are
    colored noise, and translucent at the rim.
    """

    def __init__(self, avatar: GaussianAvatar, video: HeadParams, config: NovelViewConfig) -> None:
        """Keep the avatar without all it learned.

        Args:
            avatar: at any point of its training; its base map never changes.
            video: parameters of the training frames.
            config: views.
        """
        self.config, self.video = config, video
        self.base = deepcopy(avatar).requires_grad_(False).eval()
        self.base.rectification.zero_()
        self.base.blendmaps.zero_()
        self.base.correction = None

    def __call__(self, avatar: GaussianAvatar, params: HeadParams, camera: Camera, generator: torch.Generator) -> Float[Tensor, ""]:
        """Huber distance of premultiplied color and coverage between avatar and base map, both turned away from the frames' poses.

        Args:
            avatar: in training.
            params: of B frames.
            camera: theirs.
            generator: of the turns.
        """
        turned = turn_aside(params, self.video, self.config, generator)
        small = camera.resize(self.config.resolution, self.config.resolution)
        black = torch.zeros(3, device=params.expression.device)
        shown = avatar.render(turned, small, black)
        with torch.no_grad():
            wanted = self.base.render(avatar.correct_params(turned), small, black)
        return huber(torch.cat([shown.rgb, shown.alpha], -1), torch.cat([wanted.rgb, wanted.alpha], -1), delta=self.config.huber_threshold)


def turn_aside(params: HeadParams, video: HeadParams, config: NovelViewConfig, generator: torch.Generator) -> HeadParams:
    """Heads turned about their own upright axis, to either side, by an angle from `min_yaw` to `max_yaw`; faces as a driver might set them.

    Every face is that of another frame with some expressions set to values up to `max_expression`.

    Args:
        params: of B frames, whose poses are turned.
        video: whose faces are drawn.
        config: how far.
        generator: of the draws.
    """
    count = len(params)
    turn = config.min_yaw + (config.max_yaw - config.min_yaw) * torch.rand(count, generator=generator)
    turn = torch.where(torch.rand(count, generator=generator) < 0.5, turn, -turn)
    pose = params.world_from_head.clone()
    pose[:, :3, :3] = pose[:, :3, :3] @ move(axis_angle_to_matrix(turn[:, None] * torch.tensor([0.0, 1.0, 0.0])), pose.device)
    others = video[torch.randint(len(video), (count,), generator=generator)].to(pose.device)
    shape = others.expression.shape
    chosen = move(torch.rand(shape, generator=generator) < config.random_expression_share, pose.device)
    drawn = move(config.max_expression * torch.rand(shape, generator=generator), pose.device)
    expression = torch.where(chosen, drawn, others.expression)
    return replace(params, expression=expression, joints=others.joints, world_from_head=pose)
