"""Blend weights as published in Gaussian Deja-vu: a softmax of the code, fixed once it is fitted."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from deja_vu.avatars.gaussian.blend_weights import JOINT_SCALE
from deja_vu.avatars.gaussian.config import CodeNetworkConfig
from deja_vu.core.head import HeadParams, HeadSpec

JAW = "jaw"
"""Joint that belongs to the face's code, on heads that have it."""


class SoftmaxCode(nn.Module):
    """The paper's weights: softmax of the first K expression coefficients, which on FLAME are the strongest (Gaussian Deja-vu, 3.2)."""

    noise: float = 0.0

    def __init__(self, num_maps: int) -> None:
        super().__init__()
        self.num_maps = num_maps

    def fit(self, params: HeadParams) -> None:
        """Nothing to fit."""

    def rarity(self, params: HeadParams) -> Float[Tensor, "*b"]:
        """Distance of the expression from none."""
        return params.expression.norm(dim=-1)

    def forward(self, params: HeadParams) -> Float[Tensor, "*b K"]:
        return params.expression[..., : self.num_maps].softmax(-1)


class FaceSoftmax(nn.Module):
    """Softmax of what frozen layers, with ReLUs between them, make of expression and jaw."""

    noise: float = 0.0

    def __init__(self, spec: HeadSpec, widths: tuple[int, ...]) -> None:
        """Lay out the layers; `fit` gives them values.

        Args:
            spec: of the head.
            widths: outputs of every layer; the last one's are the blendmaps.
        """
        super().__init__()
        self.jaw = spec.joint_names.index(JAW) if JAW in spec.joint_names else None
        inputs = spec.num_expression + (0 if self.jaw is None else 3)
        self.depth = len(widths)
        for number, (before, after) in enumerate(itertools.pairwise((inputs, *widths))):
            self.register_buffer(f"weight_{number}", torch.zeros(after, before))
            self.register_buffer(f"bias_{number}", torch.zeros(after))

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of every layer, the first one first."""
        return [(self.get_buffer(f"weight_{number}"), self.get_buffer(f"bias_{number}")) for number in range(self.depth)]

    def features(self, params: HeadParams) -> Float[Tensor, "*b D"]:
        """Expression coefficients, and the jaw's rotation where the head has one, radians."""
        return params.expression if self.jaw is None else torch.cat([params.expression, params.joints[..., self.jaw, :]], -1)

    def rarity(self, params: HeadParams) -> Float[Tensor, "*b"]:
        """Distance of the expression from none."""
        return params.expression.norm(dim=-1)

    def forward(self, params: HeadParams) -> Float[Tensor, "*b K"]:
        return through(self.layers(), self.features(params)).softmax(-1)


class ComponentCode(FaceSoftmax):
    """Softmax of the strongest components of the clip's own expressions and jaw: what FLAME's first coefficients are, on any head."""

    def __init__(self, spec: HeadSpec, num_maps: int) -> None:
        super().__init__(spec, (num_maps,))

    @torch.no_grad()
    def fit(self, params: HeadParams) -> None:
        """Take the principal components of training frames by their variance, the strongest first, in deviations from the mean.

        The sign of a component, which its definition leaves open, is that of its larger excursions. Components beyond the frames' rank
        are zero.
        """
        scale = torch.ones(self.get_buffer("weight_0").shape[1])
        if self.jaw is not None:
            scale[-3:] = JOINT_SCALE
        features = self.features(params) * scale
        mean = features.mean(0)
        _, spread, axes = torch.linalg.svd(features - mean, full_matrices=False)
        deviation = spread / max(len(features) - 1, 1) ** 0.5
        count = min(int((deviation > 1e-5).sum()), len(self.get_buffer("bias_0")))
        axes = axes[:count] * torch.where(((features - mean) @ axes[:count].T).pow(3).sum(0) < 0, -1.0, 1.0)[:, None]
        weight = torch.zeros_like(self.get_buffer("weight_0"))
        weight[:count] = axes / deviation[:count, None]
        self.get_buffer("weight_0").copy_(weight * scale)
        self.get_buffer("bias_0").copy_(-weight @ mean)


class NetworkCode(FaceSoftmax):
    """The later release's weights: the encoder of a small auto-encoder of expression and jaw, frozen before the maps are trained."""

    def __init__(self, spec: HeadSpec, num_maps: int, config: CodeNetworkConfig) -> None:
        super().__init__(spec, (config.width, config.width, num_maps))
        self.config = config

    @torch.enable_grad()
    def fit(self, params: HeadParams) -> None:
        """Train encoder and decoder on frames by the mean squared error of their code; the same frames give the same encoder."""
        config, features = self.config, self.features(params)
        generator = torch.Generator().manual_seed(0)
        sizes = [weight.shape for weight, _ in self.layers()]
        encoder = [draw_layer(inputs, outputs, generator) for outputs, inputs in sizes]
        decoder = [draw_layer(outputs, inputs, generator) for outputs, inputs in reversed(sizes)]
        optimizer = torch.optim.Adam([tensor for layer in encoder + decoder for tensor in layer], lr=config.learning_rate)
        decay = torch.optim.lr_scheduler.StepLR(optimizer, config.decay_every, config.decay)
        for _ in range(config.steps):
            drawn = features[torch.randint(len(features), (config.batch,), generator=generator)]
            loss = (through(decoder, through(encoder, drawn).softmax(-1)) - drawn).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            decay.step()
        for (weight, bias), (learned_weight, learned_bias) in zip(self.layers(), encoder, strict=True):
            weight.copy_(learned_weight.detach())
            bias.copy_(learned_bias.detach())


def through(layers: list[tuple[Tensor, Tensor]], values: Float[Tensor, "*b D"]) -> Float[Tensor, "*b K"]:
    """What linear layers, with ReLUs between them, make of some values."""
    for number, (weight, bias) in enumerate(layers):
        values = functional.linear(values if number == 0 else functional.relu(values), weight, bias)
    return values


def draw_layer(inputs: int, outputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear layer, drawn as torch's own are."""
    reach = inputs**-0.5
    weight, bias = ((2 * torch.rand(size, generator=generator) - 1).mul(reach).requires_grad_() for size in ((outputs, inputs), (outputs,)))
    return weight, bias
