"""Fit expression and joints of a frame to its pixels through the avatar, which shows what the tracker could not see.

Every part of the face is looked at in a window of the frame at full resolution, and moved by what moves it: how its pixels change with each
expression is measured by drawing the part alone once more for each. From these differences follows a Gauss-Newton step over all parts at
once, held to the tracked values as by springs. Pose and identity stay as tracked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import CodeFitConfig
from deja_vu.avatars.gaussian.face_code import FaceCode, FaceView, fitted_parts
from deja_vu.avatars.gaussian.part import AvatarPart, find_texels
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.image import WHITE
from deja_vu.render.base import rasterize

SHORTER = (1.0, 0.4)
"""Shares of a step that are tried, the first that helps is taken."""
ANGLE_TRIAL = 0.2
"""Turn of a joint by which it is found out what it moves, radians."""
AROUND = 0.1
"""Share of a part's width or height around it in which skin belongs to it."""


@dataclass(frozen=True)
class FittedCode:
    """What a fit came to."""

    tracked: Float[Tensor, " D"]
    """Code from which it began."""
    code: Float[Tensor, " D"]
    view: FaceView
    differences: list[Float[Tensor, "_ _ _ 3"]]
    """How the picture of every part changes with each of the values that move it, per unit, where the last step began."""


class CodeFitter:
    """Fits codes of one person's frames; a snapshot of the avatar, to be made anew when that has been trained on."""

    def __init__(self, avatar: GaussianAvatar, config: CodeFitConfig = CodeFitConfig()) -> None:
        """Prepare the parts.

        Args:
            avatar: in evaluation mode.
            config: recipe.
        """
        self._avatar, self._config, self.code = avatar, config, FaceCode.of(avatar.head.spec)
        angle = self.code.is_angle()
        self._deviation = torch.where(angle, config.angle_deviation, config.expression_deviation)
        self._probe = torch.where(angle, config.angle_probe, config.probe)
        self._largest = torch.where(angle, config.largest_turn, config.largest_step)
        self.parts = fitted_parts(avatar.head.topology)
        self.columns = [self._movers(vertices) for vertices in self.parts]
        self._drawn = [AvatarPart(avatar, vertices) for vertices in self.parts]

    @torch.no_grad()
    def fit(self, batch: Batch) -> HeadParams:
        """Parameters of one frame with its expression and joints fitted; all else as it is.

        Args:
            batch: one frame with its tracked parameters, at the resolution at which it is stored.
        """
        return self.code.put(self.fit_code(batch).code[None], batch.params)

    @torch.no_grad()
    def fit_code(self, batch: Batch) -> FittedCode:
        """The fitted code of one frame, with what was seen on the way; see `fit`."""
        view, tracked = self.view(batch), self.code.pack(batch.params)[0]
        low, high = self.code.bounds(tracked)
        code, shown, differences = tracked, self.draw(view, batch.params, tracked), []
        cost = self._cost(view, shown, torch.zeros_like(tracked))
        for _ in range(self._config.steps):
            differences = [self.differences(part, camera, batch.params, code) for part, camera in enumerate(view.cameras)]
            step, before = self._step(view, shown, differences, code, tracked), cost
            for share in SHORTER:
                tried = (code + share * step).clamp(low, high)
                drawn = self.draw(view, batch.params, tried)
                if (found := self._cost(view, drawn, tried - tracked)) < cost:
                    code, shown, cost = tried, drawn, found
                    break
            if cost > before * (1 - self._config.least_gain):
                break
        return FittedCode(tracked, code, view, differences)

    def view(self, batch: Batch) -> FaceView:
        """The windows of a frame."""
        vertices = self._avatar.head(self._avatar.correct_params(batch.params))[0]
        return FaceView.of(self._avatar.subject(batch), vertices, self.parts)

    def draw(self, view: FaceView, params: HeadParams, code: Float[Tensor, " D"]) -> list[Float[Tensor, "_ _ 3"]]:
        """What the avatar shows with a code in every window."""
        return view.draw(self._avatar.gaussians(self.code.put(code[None], params)))

    def differences(self, part: int, camera: Camera, params: HeadParams, code: Float[Tensor, " D"]) -> Float[Tensor, "c h w 3"]:
        """How a part's picture changes with each of the values that move it, per unit.

        Args:
            part: number.
            camera: of its window.
            params: the frame's.
            code: at which it is measured; values that would leave their bounds are probed downwards.
        """
        columns = self.columns[part]
        upper = self.code.bounds(self.code.pack(params)[0])[1]
        probe = torch.where(code + self._probe > upper, -self._probe, self._probe)[columns]
        tried = code.repeat(len(columns) + 1, 1)
        tried[torch.arange(len(columns)), columns] += probe
        pictures = rasterize(self._drawn[part].gaussians(self.code.put(tried, params)), camera, WHITE).rgb
        return (pictures[:-1] - pictures[-1:]) / probe[:, None, None, None]

    def _movers(self, vertices: Int[Tensor, " n"]) -> Int[Tensor, " c"]:
        """Values of the code that move a part, or the skin around it such as lids, by more than is neglected."""
        head, count = self._avatar.head, len(self.code)
        vertices = self._avatar.charts.head.corners[find_texels(self._avatar, vertices, AROUND)].unique()
        neutral = replace(head.neutral((1,)), shape=self._avatar.shape[None])
        changes = torch.diag(torch.where(self.code.is_angle(), ANGLE_TRIAL, 1.0))
        moved = head(self.code.put(torch.cat([torch.zeros(1, count), changes]), neutral))[:, vertices]
        reach = (moved[1:] - moved[:1]).norm(dim=-1).amax(1)
        return (reach > self._config.least_motion).nonzero()[:, 0]

    def _cost(self, view: FaceView, shown: list[Tensor], moved: Float[Tensor, " D"]) -> float:
        """What is minimized: pixels' differences, squares where small and straight where large, and the springs."""
        total = 0.0
        for picture, target, mask in zip(shown, view.targets, view.masks, strict=True):
            distance = (picture - target).norm(dim=-1, keepdim=True) / self._config.pixel_deviation
            total += float(((distance - torch.log1p(distance)) * mask).sum())
        return 2 * self._config.pixel_share * total + float((moved / self._deviation).square().sum())

    def _step(
        self, view: FaceView, shown: list[Tensor], differences: list[Tensor], code: Float[Tensor, " D"], tracked: Float[Tensor, " D"]
    ) -> Float[Tensor, " D"]:
        """A Gauss-Newton step; values at a bound that would go beyond it stay."""
        config, precision = self._config, self._deviation.square().reciprocal()
        system, gradient = torch.diag(precision), precision * (code - tracked)
        for part, (picture, changes) in enumerate(zip(shown, differences, strict=True)):
            columns = self.columns[part]
            residual = picture - view.targets[part]
            distance = residual.norm(dim=-1, keepdim=True) / config.pixel_deviation
            weight = config.pixel_share * view.masks[part] / (1 + distance) / config.pixel_deviation**2
            weighted = (changes * weight).flatten(1)
            system[columns[:, None], columns] += weighted @ changes.flatten(1).T
            gradient[columns] += weighted @ residual.flatten()
        low, high = self.code.bounds(tracked)
        free = ~(((code <= low) & (gradient > 0)) | ((code >= high) & (gradient < 0)))
        step = torch.zeros_like(code)
        step[free] = -torch.linalg.solve(system[free][:, free], gradient[free])
        return step.clamp(-self._largest, self._largest)


def can_fit_codes(avatar: GaussianAvatar) -> bool:
    """Whether an avatar's codes can be fitted: its head has lips and eyes, and its maps lie in tangent frames."""
    return avatar.config.axes == "tangent" and len(fitted_parts(avatar.head.topology)) > 0
