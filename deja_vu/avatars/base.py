"""The interface of every representation, so that trainer, viewer and benchmark need not know which one they hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.core.image import RenderOutput
from deja_vu.heads.base import HeadModel

Draw: TypeAlias = Callable[[Float[Tensor, "*b 3"]], RenderOutput]
"""Draws a posed avatar over a background color in [0, 1]."""


class Avatar(nn.Module, ABC):
    """One identity that can be posed and seen."""

    config: Any
    """Dataclass of its sizes, written into its file."""
    head: HeadModel
    """Names the parameters that drive the avatar, and its parts."""
    capabilities: frozenset[str] = frozenset()
    """Optional abilities; `gaussians` where the avatar can be read out as 3D Gaussians."""
    _left_on_host: tuple[HeadModel, ...] = ()
    """The head as it was before the avatar was moved off the CPU; in a tuple, where it is none of the module's parts."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Avatar:
        if self.head.template.is_cpu:
            self._left_on_host = (self.head.copy(),)
        super()._apply(fn, recurse)
        return self

    @property
    def device(self) -> torch.device:
        """Where the avatar is, and draws."""
        return self.head.template.device

    @property
    def host_head(self) -> HeadModel:
        """The head model on the CPU, wherever the avatar is: motion, and boxes in pictures, are computed there."""
        return self.head if self.head.template.is_cpu else self._left_on_host[0]

    @property
    def shows_person(self) -> bool:
        """Whether neck and torso are drawn too; else the head alone."""
        return False

    @property
    def shows_neck(self) -> bool:
        """Whether the head goes on below the jaw, with a neck of its own or the whole person's."""
        return self.shows_person

    def subject(self, batch: Batch) -> Batch:
        """Frames with what this avatar draws as their subject: the whole person, the head on a neck, or the head."""
        if self.shows_person:
            return batch.whole_person()
        return batch.with_neck() if self.shows_neck else batch

    @abstractmethod
    def render(self, params: HeadParams, camera: Camera, background: Float[Tensor, "*b 3"]) -> RenderOutput:
        """Pictures of B poses by one camera (or one each), over a background color in [0, 1]."""

    def prepare(self, params: HeadParams, camera: Camera) -> Draw:
        """Pose B heads once; what is returned draws them as `render` does, as often as it is called.

        Its time is that of drawing alone: rasterizing Gaussians, marching rays, evaluating a light field.
        """
        return lambda background: self.render(params, camera, background)

    def render_head(self, params: HeadParams, camera: Camera, background: Float[Tensor, "*b 3"]) -> RenderOutput:
        """As `render`, without neck and torso where an avatar draws them."""
        return self.render(params, camera, background)

    def count_work(self, params: HeadParams, camera: Camera) -> dict[str, int]:
        """Count the work of drawing besides matrix products and convolutions, by name; none unless a kind overrides it."""
        return {}

    @abstractmethod
    def regularizers(self) -> dict[str, Tensor]:
        """Named scalar penalties of the present state, unweighted."""

    @abstractmethod
    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by name; the recipe gives each name a learning rate."""

    def gaussians(self, params: HeadParams) -> Gaussians:
        """World-space Gaussians of B poses; only where `gaussians` is among the capabilities."""
        raise TypeError(f"{type(self).__name__} has no Gaussians")
