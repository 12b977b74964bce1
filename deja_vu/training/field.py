"""What the training of a radiance field has in common for one person and for many: how pictures are compared."""

from __future__ import annotations

from typing import Generic

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deja_vu.avatars.nerf import NerfAvatar
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.image import RenderOutput
from deja_vu.heads.regions import region_box
from deja_vu.losses.perceptual import MIN_SIZE
from deja_vu.losses.photometric import absolute_difference
from deja_vu.losses.picture import psnr
from deja_vu.training.nerf_config import NerfPhase, NerfTrainConfig
from deja_vu.training.objective import ImageObjective, compensate, head_window, is_due, load_perceptual, term_weights
from deja_vu.training.trainer import AnyBatch, StepResult, Task


class FieldTask(Task[NerfPhase, AnyBatch], Generic[AnyBatch]):
    """A radiance field with its terms; who is drawn in a step is for its subclasses to say."""

    def __init__(self, avatar: NerfAvatar, config: NerfTrainConfig) -> None:
        self.model = self.avatar = avatar
        self.config, self.device = config, avatar.shape.device
        self.rates = config.learning_rates
        own = config.regularizers
        dear = [config.loss.perceptual, own.face_perceptual, own.low_perceptual]
        self.objective = ImageObjective(config.loss, load_perceptual(dear, config.phases, self.device))
        self.weights = term_weights(config.loss, own)

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return self.avatar.param_groups()

    def compare(self, batch: Batch, step: int, background: Float[Tensor, "3"], generator: torch.Generator) -> StepResult:
        """March a window's rays and enlarge the picture; compare the pictures before and after that.

        Args:
            batch: one person's frames; parameters and camera may lie on the host.
            step: number of the step.
            background: color behind render and target.
            generator: of the draws of windows.
        """
        config, avatar, phase, weights = self.config, self.avatar, self.phase, self.weights
        params, camera, batch = batch.params, batch.camera, batch.to(self.device)  # the first two still on the host
        if phase.window:
            batch = batch.crop(*head_window(batch.head, phase.window, generator))
        out = avatar.render_all(batch.params, batch.camera, background, enlarge=phase.enlarge)
        low = batch.resize(out.fine.rgb.shape[2], out.fine.rgb.shape[1])
        terms = {"fine": absolute_difference(out.fine, low, background, config.loss.neck)}
        terms["coarse"] = absolute_difference(out.coarse, low, background, config.loss.neck)
        terms |= avatar.penalties(out.planes) | {"opacity": out.opacity}
        terms = {name: value for name, value in terms.items() if weights[name]}
        if out.full is None:
            return StepResult(terms, weights, psnr(out.fine, low, background).mean(), len(batch.positions))
        perceptual = is_due(phase.perceptual_every, step)
        window = head_window(batch.head, config.perceptual_window, generator) if perceptual else None
        terms |= self.objective.terms(out.full, batch, background, window=window)
        if weights["low_perceptual"] and perceptual:
            terms["low_perceptual"] = self.perceptual(out.fine, low, background) + self.perceptual(out.coarse, low, background)
        if weights["face"] or weights["face_perceptual"]:
            renders = [(out.coarse, low), (out.fine, low), (out.full, batch)]
            camera = batch.camera.to("cpu") if phase.window else camera  # where a window was drawn, the host has to wait for it
            terms |= self.face_terms(renders, self.face_boxes(params, camera), background, perceptual=perceptual)
        rare = dict.fromkeys(("perceptual", "low_perceptual", "face_perceptual"), phase.perceptual_every)
        return StepResult(terms, compensate(weights, rare), psnr(out.full, batch, background).mean(), len(batch.positions))

    def perceptual(self, out: RenderOutput, batch: Batch, background: Float[Tensor, "3"]) -> Float[Tensor, ""]:
        """Mean perceptual distance of some frames."""
        assert self.objective.perceptual is not None
        return self.objective.perceptual(out.rgb, self.objective.target(batch, background)).mean()

    def face_boxes(self, params: HeadParams, camera: Camera) -> list[tuple[slice, slice]]:
        """Rows and columns of each frame's face; parameters and camera lie on the host, where boxes are numbers."""
        head = self.avatar.host_head
        faces, face = head.topology.faces, head.topology.regions["face"]
        return [region_box(vertices, faces, face, camera.view(place)) for place, vertices in enumerate(head(params))]

    def face_terms(
        self,
        renders: list[tuple[RenderOutput, Batch]],
        boxes: list[tuple[slice, slice]],
        background: Float[Tensor, "3"],
        *,
        perceptual: bool,
    ) -> dict[str, Float[Tensor, ""]]:
        """Terms on the face's box: sums over the pictures, each on its own grid, of the mean over frames.

        Args:
            renders: pictures and their targets; the full ones last.
            boxes: for each frame, on the full pictures' grid.
            background: color.
            perceptual: measure the perceptual distance too, where the box is large enough.
        """
        full = renders[-1][1].image.shape[2]
        sums: dict[str, list[Tensor]] = {"face": [], "face_perceptual": []}
        for out, batch in renders:
            share = batch.image.shape[2] / full
            for number, box in enumerate(boxes):
                rows, columns = (slice(int(s.start * share), max(int(s.stop * share), int(s.start * share) + 1)) for s in box)
                target = batch.frame(number).crop(rows, columns)
                shown = RenderOutput(out.rgb[number : number + 1, rows, columns], out.alpha[number : number + 1, rows, columns])
                if self.weights["face"]:
                    sums["face"].append(absolute_difference(shown, target, background, self.config.loss.neck))
                if self.weights["face_perceptual"] and perceptual and min(target.image.shape[1:3]) >= MIN_SIZE:
                    sums["face_perceptual"].append(self.perceptual(shown, target, background))
        return {name: torch.stack(values).sum() / len(boxes) for name, values in sums.items() if values}
