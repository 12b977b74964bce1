"""From a summed map and a posed surface to Gaussians in one step: natively for float32 on the CPU, by Triton's kernels on CUDA."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deja_vu import kernels, native
from deja_vu.core.gaussians import GAUSSIAN_AXES, NUM_CHANNELS, Gaussians, UVGaussianMap
from deja_vu.uv.attach import attach, to_gaussians
from deja_vu.uv.layout import TexelTable, UVLayout, resample_weights

PLAIN_TORCH = "texels follow the head with plain torch, ten times slower than the native pass"
"""Fallback where the native library cannot be loaded, as the warning says it."""


class Resample(nn.Module):
    """Bilinear resampling from the valid texels of a layout to those of another of the same chart."""

    index: Int[Tensor, "M 4"]
    weight: Float[Tensor, "M 4"]

    def __init__(self, coarse: UVLayout, fine: UVLayout) -> None:
        super().__init__()
        self._hold(*resample_weights(coarse, fine))

    def _hold(self, index: Tensor, weight: Tensor) -> None:
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("weight", weight, persistent=False)

    def join(self, other: Resample, coarse_count: int) -> Resample:
        """This resampling, and behind it another one whose coarse texels follow on this one's.

        Args:
            other: the one behind.
            coarse_count: coarse texels of this one.
        """
        joined = Resample.__new__(Resample)
        nn.Module.__init__(joined)
        joined._hold(torch.cat([self.index, other.index + coarse_count]), torch.cat([self.weight, other.weight]))
        return joined

    def part(self, fine: Int[Tensor, " m"], coarse: Int[Tensor, " c"]) -> Resample:
        """This resampling for some of the fine texels, from some of the coarse ones.

        Args:
            fine: texels that are wanted.
            coarse: texels that these are made from, ascending.
        """
        part = Resample.__new__(Resample)
        nn.Module.__init__(part)
        part._hold(torch.searchsorted(coarse, self.index[fine].contiguous()), self.weight[fine])
        return part

    def forward(self, values: Float[Tensor, "*b Mc C"]) -> Float[Tensor, "*b M C"]:
        taps = [values.index_select(-2, self.index[:, tap]) * self.weight[:, tap, None] for tap in range(4)]
        return (taps[0] + taps[1]) + (taps[2] + taps[3])


@dataclass(frozen=True)
class SummedMap:
    """A raw map as the terms of its sum, base + gains * (rectification + blend of the blendmaps), one for each of *b poses."""

    base: Float[Tensor, "M 13"]
    """Base of the sum, in the order of `CHANNELS`."""
    gains: Float[Tensor, "13"]
    """Raw change of each channel for one unit of the other terms; takes no gradient."""
    rectification: Float[Tensor, "M 13"]
    """Offset that all poses share."""
    weights: Float[Tensor, "*b K"]
    """Weight of each blendmap in each pose."""
    blendmaps: Float[Tensor, "K Mc 13"]
    """Maps that the weights blend, on the texels of `upsample`'s coarse layout or on the map's own."""
    upsample: Resample | None = None
    """Carries the blend to the map's texels; None where the blendmaps are as fine as the map."""

    def sum(self) -> Float[Tensor, "*b M 13"]:
        """The raw map of every pose, in the order of `CHANNELS`."""
        packed = (self.base + self.gains * self.rectification).expand(*self.weights.shape[:-1], -1, -1)
        if not len(self.blendmaps):
            return packed
        blend = (self.weights @ self.blendmaps.flatten(1)).unflatten(-1, (-1, NUM_CHANNELS))
        return packed + self.gains * (blend if self.upsample is None else self.upsample(blend))


@dataclass(frozen=True)
class SurfaceBinding:
    """A surface's texels with the tables that the fused passes read; made by `bind_texels`."""

    faces: Int[Tensor, "F 3"]
    """Triangles of the whole surface."""
    layout: TexelTable
    """Texel table of the same surface."""
    vertex_count: int
    """Vertices V of the surface."""
    upsample: Resample | None
    """The resampling that the tables were made for; a map posed with them has the same."""
    tables: dict[str, Tensor]
    """Contiguous int32 and float32 tables by their names in `native.Attach`."""

    def to(self, device: torch.device | str) -> SurfaceBinding:
        """The same, for surfaces on another device; `upsample` moves with the module that owns it."""
        tables = {name: table.to(device) for name, table in self.tables.items()}
        return replace(self, faces=self.faces.to(device), layout=self.layout.to(device), tables=tables)


def bind_texels(
    faces: Int[Tensor, "F 3"], vertex_count: int, layout: TexelTable, upsample: Resample | None, coarse_count: int
) -> SurfaceBinding:
    """Tables of what lies on what, and the lists by which gradients are gathered in a fixed order.

    Args:
        faces: triangles of the whole surface.
        vertex_count: vertices V of the surface.
        layout: texel table of the same surface.
        upsample: from the blendmaps' layout to this one, or None.
        coarse_count: valid texels of the blendmaps' layout.
    """
    gradients = layout.uv_gradient.new_zeros(len(faces), 2)
    gradients[layout.faces] = layout.uv_gradient
    tables = {"faces": faces, "texel_faces": layout.faces, "bary": layout.bary, "face_gradients": gradients}
    begin, rows, _ = _list_by_owner(faces, torch.ones(faces.shape), vertex_count)
    tables |= {"vertex_face_begin": begin, "vertex_faces": rows}
    begin, rows, weights = _list_by_owner(layout.corners, layout.bary, vertex_count)
    tables |= {"vertex_texel_begin": begin, "vertex_texels": rows, "vertex_weights": weights}
    if upsample is not None:
        begin, rows, weights = _list_by_owner(upsample.index, upsample.weight, coarse_count)
        tables |= {"taps": upsample.index, "tap_weights": upsample.weight}
        tables |= {"coarse_begin": begin, "coarse_texels": rows, "coarse_weights": weights}
    for name, table in tables.items():
        tables[name] = table.to(torch.float32 if table.is_floating_point() else torch.int32).contiguous()
    return SurfaceBinding(faces=faces, layout=layout, vertex_count=vertex_count, upsample=upsample, tables=tables)


def pose_gaussians(
    maps: SummedMap,
    vertices: Float[Tensor, "*b V 3"],
    binding: SurfaceBinding,
    rest_stretch: Float[Tensor, " M"],
    axes: Float[Tensor, "*b 3 3"] | None = None,
) -> Gaussians:
    """Sum the map, activate it and move it with the surface; the meaning of `attach` and `to_gaussians`.

    Gradients reach the map's terms but its gains, and the vertices through the texels' positions only. float32 takes a fused pass,
    native on the CPU, Triton's on CUDA, unless `axes` needs a gradient; everything else takes plain torch.

    Args:
        maps: raw map of every pose.
        vertices: posed surface in world space, meters, batched like the map's weights.
        binding: texels of the surface.
        rest_stretch: `SurfaceFrames.stretch` of the identity's neutral surface.
        axes: rotations that stand for the tangent frames of all texels of a pose, or None.

    Raises:
        ValueError: a tensor does not fit the binding.
    """
    _check(maps, vertices, binding, rest_stretch, axes)
    terms = (maps.base, maps.rectification, maps.weights, maps.blendmaps, vertices)
    tensors = (*terms, maps.gains, rest_stretch, *(() if axes is None else (axes,)))
    constants_need_gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors[len(terms) :])
    on_cpu = all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors)
    if not constants_need_gradients and vertices.numel() and kernels.can_fuse(*tensors):
        return _pose_by_kernel(maps, vertices, binding, rest_stretch, axes)
    if not on_cpu or constants_need_gradients or not vertices.numel() or not native.available(PLAIN_TORCH):
        surface = attach(vertices, binding.faces, binding.layout)
        if axes is not None:
            surface = replace(surface, frames=axes[..., None, :, :].expand_as(surface.frames))
        return to_gaussians(UVGaussianMap.unpack(maps.sum()), surface, rest_stretch)
    batch = vertices.shape[:-2]
    differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in terms)
    flat = (*terms[:2], maps.weights.reshape(batch.numel(), -1), maps.blendmaps, vertices.reshape(-1, *vertices.shape[-2:]))
    axes = None if axes is None else axes.detach().reshape(-1, 9).contiguous()
    constants = (maps.gains.detach().contiguous(), rest_stretch.detach().contiguous(), axes)
    outputs = _PoseGaussians.apply(binding, constants, differentiable, *flat)
    return Gaussians(**{name: output.view(*batch, *output.shape[1:]) for name, output in zip(GAUSSIAN_AXES, outputs, strict=True)})


def _pose_by_kernel(maps: SummedMap, vertices: Tensor, binding: SurfaceBinding, rest_stretch: Tensor, axes: Tensor | None) -> Gaussians:
    """By Triton's kernels; the blendmaps are blended by a matrix product before."""
    from deja_vu.kernels.pose import pose_map

    batch = vertices.shape[:-2]
    blend = None
    if len(maps.blendmaps):
        blend = (maps.weights.reshape(batch.numel(), -1) @ maps.blendmaps.flatten(1)).unflatten(-1, (-1, NUM_CHANNELS))
    outputs = pose_map(
        base=maps.base,
        gains=maps.gains,
        rectification=maps.rectification,
        blend=blend,
        vertices=vertices.reshape(-1, *vertices.shape[-2:]),
        rest_stretch=rest_stretch,
        axes=None if axes is None else axes.reshape(-1, 3, 3),
        tables=binding.tables,
    )
    return Gaussians(**{name: output.view(*batch, *output.shape[1:]) for name, output in zip(GAUSSIAN_AXES, outputs, strict=True)})


def _list_by_owner(owners: Int[Tensor, "M n"], weights: Float[Tensor, "M n"], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where each of `count` owners' list begins, the rows that name the owner, ascending, and their weights; zero weights are left out."""
    rows = torch.arange(len(owners), device=owners.device)[:, None].expand_as(owners)
    used = weights != 0
    owners, rows, weights = owners[used], rows[used], weights[used]
    order = owners.argsort(stable=True)
    begin = torch.zeros(count + 1, dtype=torch.long, device=owners.device)
    begin[1:] = torch.bincount(owners, minlength=count).cumsum(0)
    return begin, rows[order], weights[order]


def _check(maps: SummedMap, vertices: Tensor, binding: SurfaceBinding, rest_stretch: Tensor, axes: Tensor | None) -> None:
    """Refuse what does not fit, naming the argument."""
    if maps.upsample is not binding.upsample:
        raise ValueError("maps.upsample is not the resampling that the texels were bound with; bind them with it")
    count, batch = len(binding.layout), tuple(vertices.shape[:-2])
    coarse = count if binding.upsample is None else len(binding.tables["coarse_begin"]) - 1
    expected = {
        "vertices": (vertices, (*batch, binding.vertex_count, 3)),
        "maps.base": (maps.base, (count, NUM_CHANNELS)),
        "maps.gains": (maps.gains, (NUM_CHANNELS,)),
        "maps.rectification": (maps.rectification, (count, NUM_CHANNELS)),
        "maps.weights": (maps.weights, (*batch, len(maps.blendmaps))),
        "maps.blendmaps": (maps.blendmaps, (len(maps.blendmaps), coarse, NUM_CHANNELS)),
        "rest_stretch": (rest_stretch, (count,)),
        "axes": (axes, (*batch, 3, 3)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}")


class _PoseGaussians(torch.autograd.Function):
    """Terms of the map [.., 13], weights [B, K], blendmaps and vertices [B, V, 3] to the five tensors of `Gaussians`."""

    @staticmethod
    def forward(ctx, binding: SurfaceBinding, constants: tuple[Tensor, Tensor, Tensor | None], differentiable: bool, *terms: Tensor):
        gains, rest_stretch, axes = constants
        base, rectification, weights, blendmaps, vertices = (term.detach().contiguous() for term in terms)
        sizes = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "colors": (1, 3)}
        outputs = {name: base.new_empty(len(vertices), len(base), *size) for name, size in sizes.items()}
        frames = torch.empty_like(outputs["quats"]) if differentiable else None
        inputs = {"base": base, "rectification": rectification, "vertices": vertices, "gains": gains, "rest_stretch": rest_stretch}
        optional = {name: tensor for name, tensor in (("axes", axes), ("frames", frames)) if tensor is not None}
        _call("forward", binding, weights, blendmaps, inputs | optional | outputs)
        if differentiable:
            kept = (outputs[name] for name in ("quats", "scales", "opacities"))
            ctx.binding = binding
            ctx.save_for_backward(gains, weights, blendmaps, frames, *kept)
        return tuple(outputs.values())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *v_outputs: Tensor):
        binding: SurfaceBinding = ctx.binding
        gains, weights, blendmaps, frames, quats, scales, opacities = ctx.saved_tensors
        shapes = {
            "v_base": (len(binding.layout), NUM_CHANNELS),
            "v_rectification": (len(binding.layout), NUM_CHANNELS),
            "v_weights": weights.shape,
            "v_blendmaps": blendmaps.shape,
            "v_vertices": (len(weights), binding.vertex_count, 3),
        }
        needed = zip(shapes.items(), ctx.needs_input_grad[3:], strict=True)
        grads = {name: quats.new_empty(shape) for (name, shape), need in needed if need}
        names = ("v_means", "v_quats", "v_scales", "v_opacities", "v_colors")
        inputs = {name: v.contiguous() for name, v in zip(names, v_outputs, strict=True)}
        inputs |= {"gains": gains, "frames": frames, "quats": quats, "scales": scales, "opacities": opacities}
        _call("backward", binding, weights, blendmaps, inputs | grads)
        return None, None, None, *(grads.get(name) for name in shapes)


def _call(direction: str, binding: SurfaceBinding, weights: Tensor, blendmaps: Tensor, tensors: dict[str, Tensor]) -> None:
    named = binding.tables | {"weights": weights, "blendmaps": blendmaps} | tensors
    pointers = {name: tensor.data_ptr() for name, tensor in named.items()}
    size = {"images": len(weights), "maps": len(blendmaps), "coarse_count": blendmaps.shape[1], "count": len(binding.layout)}
    size |= {"vertex_count": binding.vertex_count, "face_count": len(binding.faces), "threads": torch.get_num_threads()}
    arguments = native.Attach(**pointers, **size)
    native.call(f"attach_{direction}", arguments, f"pose {len(binding.layout)} texels in {len(weights)} poses")
