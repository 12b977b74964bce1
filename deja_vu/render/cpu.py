"""The native CPU rasterizer: same answer as `reference` in float32, some thousand times faster (sources in `native/csrc`)."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu import native
from deja_vu.core.camera import Camera
from deja_vu.core.errors import MissingAssetError
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.image import RenderOutput
from deja_vu.render.checks import arguments, check_finite

BLOCK = 16
"""Pixels that the kernel composites at once."""
_NOT_FINITE = 2


def rasterize(gaussians: Gaussians, camera: Camera, background: Float[Tensor, "b 3"], depth: bool = True) -> RenderOutput:
    """Render a batch; see `deja_vu.render.base.rasterize`, which checks the arguments.

    Args:
        gaussians: batch of b, float32.
        camera: batch of b.
        background: color behind each image.
        depth: give it too.

    Raises:
        ValueError: the tensors are not float32 on the CPU, or not finite.
        MissingAssetError: the native library is neither installed nor can it be compiled.
    """
    if gaussians.means.dtype != torch.float32 or not gaussians.means.is_cpu:
        raise ValueError(f"the cpu rasterizer draws float32 on the CPU, not {gaussians.means.dtype} on {gaussians.means.device}")
    try:
        native.load()
    except native.NativeError as error:
        raise MissingAssetError(f"The cpu rasterizer needs its native library: {error}") from error
    inputs = arguments(gaussians, camera, background)
    differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs.values())
    rgb, alpha, distance = _Rasterize.apply(camera.width, camera.height, differentiable, tuple(inputs), *inputs.values())
    return RenderOutput(rgb, alpha, distance if depth else None)


class _State:
    """State kept for the backward pass: native memory, and a workspace that holds the projected Gaussians."""

    def __init__(self, address: ctypes.c_void_p, workspace: Tensor) -> None:
        self.address, self.workspace = address, workspace
        self._free = native.load().deja_vu_raster_free  # bound here, as globals may be gone when the interpreter ends

    def __del__(self) -> None:
        self._free(self.address)


def work(gaussians: Gaussians, camera: Camera) -> dict[str, int]:
    """Count the work of drawing one picture; see DejaVuRasterWork in `native/csrc/api.h`.

    Args:
        gaussians: of one image, float32.
        camera: one view.
    """
    tensors = arguments(gaussians, camera, gaussians.means.new_zeros(3))
    inputs = {name: _images_contiguous(tensor[None]) for name, tensor in tensors.items()}
    state, _ = _draw(inputs, camera.width, camera.height)
    counted = native.RasterWork()
    native.load().deja_vu_raster_work(state.address, ctypes.byref(counted))
    return {name: getattr(counted, name) for name, _ in native.RasterWork._fields_}


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, width: int, height: int, differentiable: bool, names: tuple[str, ...], *tensors: Tensor):
        inputs = {name: _images_contiguous(tensor) for name, tensor in zip(names, tensors, strict=True)}
        state, pictures = _draw(inputs, width, height)
        if differentiable:
            ctx.state, ctx.names = state, names
            ctx.save_for_backward(*inputs.values(), *pictures)
            ctx.set_materialize_grads(False)
        return pictures

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_rgb: Tensor | None, v_alpha: Tensor | None, v_depth: Tensor | None):
        *tensors, rgb, alpha, depth = ctx.saved_tensors
        inputs = dict(zip(ctx.names, tensors, strict=True))
        images, height, width, _ = rgb.shape
        v_rgb = torch.zeros_like(rgb) if v_rgb is None else v_rgb.contiguous()
        v_alpha, v_depth = (None if v is None else v.contiguous() for v in (v_alpha, v_depth))
        # A second pass through the same picture draws it again: the first left gradients where the projected Gaussians were.
        state, ctx.state = ctx.state or _draw(inputs, width, height)[0], None
        shapes = {name: tensor.shape for name, tensor in inputs.items() if name.startswith("gaussians.")}
        parts = state.workspace.split([shape.numel() for shape in shapes.values()])
        grads = {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        grads["camera.camera_from_world"] = rgb.new_empty(images, 4, 4)
        if ctx.needs_input_grad[-1]:
            grads["background"] = rgb.new_empty(images, 3)
        given = _raster_input(inputs, width, height)
        targets = native.RasterGradients(**{_field(name): grad.data_ptr() for name, grad in grads.items()})
        outputs, v_outputs = _raster_output(rgb, alpha, depth), _raster_output(v_rgb, v_alpha, v_depth)
        failed = native.load().deja_vu_raster_backward(
            state.address, *(ctypes.byref(struct) for struct in (given, outputs, v_outputs, targets))
        )
        if failed:
            raise MemoryError(
                f"no memory for the gradient of {images} images of {inputs['gaussians.means'].shape[1]} Gaussians at {width}x{height}"
            )
        return None, None, None, None, *(grads.get(name) for name in ctx.names)


def _draw(inputs: dict[str, Tensor], width: int, height: int) -> tuple[_State, tuple[Tensor, Tensor, Tensor]]:
    """Draw; returns the state for the gradient, and color, coverage and depth."""
    means, sh = inputs["gaussians.means"], inputs["gaussians.sh"]
    images, count, coefficients = sh.shape[:3]
    rgb, alpha, depth = (means.new_empty(images, height, width, channels) for channels in (3, 1, 1))
    workspace = means.new_empty(images * count * max(native.RASTER_WORKSPACE, 11 + 3 * coefficients))  # the gradients fit in too
    given, outputs = _raster_input(inputs, width, height), _raster_output(rgb, alpha, depth)
    address = ctypes.c_void_p()
    failed = native.load().deja_vu_raster_forward(ctypes.byref(given), ctypes.byref(outputs), workspace.data_ptr(), ctypes.byref(address))
    if failed == _NOT_FINITE:
        check_finite({name: value[:1] if value.stride(0) == 0 else value for name, value in inputs.items()})
    if failed:
        raise MemoryError(f"no memory to rasterize {images} images of {count} Gaussians at {width}x{height}")
    return _State(address, workspace), (rgb, alpha, depth)


def _images_contiguous(tensor: Tensor) -> Tensor:
    """The same values with each image's data in one piece; images that share their data (stride 0) go on sharing it."""
    tensor = tensor.detach()
    return tensor if tensor.shape[0] and tensor[0].is_contiguous() else tensor.contiguous()


def _field(name: str) -> str:
    """Name of an argument in the native structs."""
    return name.rpartition(".")[2]


def _raster_input(inputs: dict[str, Tensor], width: int, height: int) -> native.RasterInput:
    fields: dict[str, int] = {}
    for name, tensor in inputs.items():
        fields[_field(name)], fields[f"{_field(name)}_step"] = tensor.data_ptr(), tensor.stride(0)
    images, count, coefficients = inputs["gaussians.sh"].shape[:3]
    size = {"images": images, "count": count, "coefficients": coefficients, "width": width, "height": height}
    return native.RasterInput(**fields, **size, threads=torch.get_num_threads())


def _raster_output(rgb: Tensor | None, alpha: Tensor | None, depth: Tensor | None) -> native.RasterOutput:
    return native.RasterOutput(*(None if tensor is None else tensor.data_ptr() for tensor in (rgb, alpha, depth)))
