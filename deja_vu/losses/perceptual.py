"""ST-LPIPS: a perceptual image distance that forgives small shifts (Ghildyal and Liu, ECCV 2022), AlexNet trunk.

Only the forward pass of the published weights is built here: five convolutions, anti-aliased by a binomial blur wherever the
grid gets coarser, and one learned weight for each feature channel.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deja_vu.core.errors import FormatError
from deja_vu.io.assets import locate

ASSET = "stlpips_alex"
CONVOLUTIONS = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
"""Names of the trunk's convolutions in the published file."""
KERNELS = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
"""Output channels, input channels and kernel size of each convolution."""
PADDING = (2, 2, 1, 1, 1)
COARSER = (False, True, True, False, False)
"""Whether a max-pool and a blur by two stand before the convolution; the first is blurred by two after it."""
BINOMIAL = torch.tensor([0.25, 0.5, 0.25])
MIN_SIZE = 24
"""Smallest image side in pixels for which the coarsest grid can still be reflected at its border."""


class PerceptualDistance(nn.Module):
    """ST-LPIPS of two images; differentiable in the images, its own weights are fixed buffers and enter no checkpoint.

    As a loss it may run as `.bfloat16()`, which is 1.5 times as fast on a CPU with AVX-512 BF16; as a metric it stays in float32.
    """

    weight_0: Tensor
    bias_0: Tensor
    shift: Tensor
    scale: Tensor
    binomial: Tensor
    first_inner: Tensor
    first_bottom: Tensor
    first_right: Tensor
    first_corner: Tensor

    def __init__(self, weights: list[Tensor], biases: list[Tensor], channel_weights: list[Tensor]) -> None:
        """Build the metric from its numbers.

        Args:
            weights: kernels [out in k k] of the five convolutions, of the sizes in `KERNELS`.
            biases: one value for each output channel.
            channel_weights: importance of each channel [out], not negative.
        """
        super().__init__()
        for layer, (weight, bias, importance) in enumerate(zip(weights, biases, channel_weights, strict=True)):
            channels, inputs, size = KERNELS[layer]
            assert weight.shape == (channels, inputs, size, size), (layer, weight.shape)
            assert bias.shape == importance.shape == (channels,), (layer, bias.shape, importance.shape)
            self.register_buffer(f"weight_{layer}", weight.detach(), persistent=False)
            self.register_buffer(f"bias_{layer}", bias.detach(), persistent=False)
            self.register_buffer(f"importance_{layer}", importance.detach().sqrt()[None, :, None, None], persistent=False)
        # The trunk was trained on images normalized so; the values belong to its first layer.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)
        self.register_buffer("binomial", BINOMIAL.outer(BINOMIAL), persistent=False)
        self._fuse_first_layer()

    @staticmethod
    def load(path: Path | None = None) -> PerceptualDistance:
        """The published metric.

        Args:
            path: weight file `alex_shift_tolerant.pth` of stlpips-pytorch; found or fetched as asset `stlpips_alex` when None.

        Raises:
            MissingAssetError: no path is given, and the asset is neither here nor to be had.
            FormatError: the file is not the weight file of ST-LPIPS with AlexNet.
        """
        path = Path(locate(ASSET) if path is None else path)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            weights = [state[f"net.{name}.weight"] for name in CONVOLUTIONS]
            biases = [state[f"net.{name}.bias"] for name in CONVOLUTIONS]
            channel_weights = [state[f"lin{layer}.model.1.weight"].flatten() for layer in range(len(CONVOLUTIONS))]
        except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as error:
            raise FormatError(
                f"{path} is not the weight file of ST-LPIPS with AlexNet ({error}). Expected `alex_shift_tolerant.pth` from the "
                "stlpips-pytorch 0.0.2 package; delete the file to have it fetched again."
            ) from error
        return PerceptualDistance(weights, biases, channel_weights)

    def forward(self, a: Float[Tensor, "B H W 3"], b: Float[Tensor, "B H W 3"]) -> Float[Tensor, " B"]:
        """Distance of each pair of images, 0 for equal ones.

        Args:
            a: images in [0, 1].
            b: images in [0, 1] of the same size, at least `MIN_SIZE` pixels a side.
        """
        return self.distance(self.encode(a), self.encode(b))

    def encode(self, images: Float[Tensor, "B H W 3"]) -> list[Float[Tensor, "B c h w"]]:
        """Features of five layers, scaled so that squared differences add up to the distance.

        Args:
            images: in [0, 1]. Features of a picture that stays the same can be kept and handed to `distance` again and again.
        """
        assert images.shape[1:] == (*images.shape[1:3], 3), images.shape
        assert min(images.shape[1:3]) >= MIN_SIZE, images.shape
        x = ((2 * images.movedim(-1, 1) - 1 - self.shift) / self.scale).to(self.weight_0.dtype)
        features = []
        for layer, padding in enumerate(PADDING):
            if layer == 0:
                x = self._first_layer(x)
            else:
                x = self._blur_by_two(F.max_pool2d(x, kernel_size=3, stride=1)) if COARSER[layer] else x
                x = F.conv2d(x, getattr(self, f"weight_{layer}"), getattr(self, f"bias_{layer}"), padding=padding)
            x = F.relu(x)
            norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=images.dtype)  # gradient 0, not NaN, where all of x is 0
            features.append(x * (getattr(self, f"importance_{layer}") / (norm + 1e-10)))
        return features

    @staticmethod
    def distance(features_a: list[Tensor], features_b: list[Tensor]) -> Float[Tensor, " B"]:
        """Distance of encoded images: squared feature differences, summed over channels and layers, averaged over pixels."""
        terms = [(a - b).square().sum(1).mean((1, 2)) for a, b in zip(features_a, features_b, strict=True)]
        return torch.stack(terms).sum(0)

    def _fuse_first_layer(self) -> None:
        """Compose the first convolution (11 x 11, stride 1) with the blur by two that follows it: both are linear.

        At a border the blur sees reflected pixels. Since its kernel is symmetric, the first output (and the last one, where the
        size is odd) repeats its neighbor; the last one of an even size is the mean of the last two pixels.
        """
        last = torch.tensor([0.5, 0.5])
        for name, vertical, horizontal in (
            ("inner", BINOMIAL, BINOMIAL),
            ("bottom", last, BINOMIAL),
            ("right", BINOMIAL, last),
            ("corner", last, last),
        ):
            kernels = self.weight_0.flatten(0, 1)[:, None]
            fused = F.conv_transpose2d(kernels, vertical.outer(horizontal).to(kernels)[None, None])
            fused = fused.unflatten(0, self.weight_0.shape[:2])[:, :, 0]
            if name == "inner":  # stride 2 over 3 channels becomes stride 1 over 12, which runs several times as fast, backward above all
                fused = F.pixel_unshuffle(F.pad(fused, (0, 1, 0, 1)), 2)
            self.register_buffer(f"first_{name}", fused, persistent=False)

    def _first_layer(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 64 h w"]:
        """`blur_by_two(convolution(x))` in one go (see `_fuse_first_layer`)."""
        odd_height, odd_width = x.shape[2] % 2, x.shape[3] % 2
        x = F.pad(x, (2, 2 + odd_width, 2, 2 + odd_height))
        out = F.conv2d(F.pixel_unshuffle(x, 2), self.first_inner, self.bias_0)
        if not odd_width:
            right = F.conv2d(x[..., -12:], self.first_right, self.bias_0, stride=(2, 1))[:, :, : out.shape[2]]
            out = torch.cat([out, right], dim=3)
        if not odd_height:
            bottom = F.conv2d(x[..., -12:, :], self.first_bottom, self.bias_0, stride=(1, 2))
            if not odd_width:
                bottom = torch.cat([bottom, F.conv2d(x[..., -12:, -12:], self.first_corner, self.bias_0)], dim=3)
            out = torch.cat([out, bottom[..., : out.shape[3]]], dim=2)
        return F.pad(out, (1, odd_width, 1, odd_height), mode="replicate")

    def _blur_by_two(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h2 w2"]:
        """Binomial blur of every second pixel, two reflected pixels at each border."""
        kernel = self.binomial.expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])
