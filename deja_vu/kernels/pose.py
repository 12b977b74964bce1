"""From a map's terms and posed vertices to Gaussians in two kernels, and back in two; `deja_vu.uv.binding` holds the twin.

Nothing is added up by atomics: gradients are gathered by lists of who lies on what, so every run adds in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

BLOCK = 128
"""Texels, vertices or numbers of a program."""
CHANNELS = 13
"""Of a raw map, in the order of `deja_vu.core.gaussians.CHANNELS`."""


def pose_map(
    base: Float[Tensor, "M 13"],
    gains: Float[Tensor, "13"],
    rectification: Float[Tensor, "M 13"],
    blend: Float[Tensor, "B Mc 13"] | None,
    vertices: Float[Tensor, "B V 3"],
    rest_stretch: Float[Tensor, " M"],
    axes: Float[Tensor, "B 3 3"] | None,
    tables: Mapping[str, Tensor],
) -> tuple[Tensor, ...]:
    """The five tensors of `Gaussians`; gradients reach base, rectification, blend, and vertices through the texels' positions alone.

    Args:
        base: of the sum.
        gains: of all that is added to it; takes no gradient.
        rectification: offset that all poses share.
        blend: of the blendmaps, for every pose, on the coarse texels where there are taps; None without blendmaps.
        vertices: posed surface.
        rest_stretch: of the neutral surface.
        axes: rotations in place of the tangent frames, or None.
        tables: of `SurfaceBinding`, on the same device.
    """
    return _PoseMap.apply(tables, gains, rest_stretch, axes, base, rectification, blend, vertices)


class _PoseMap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        tables: Mapping[str, Tensor],
        gains: Tensor,
        rest_stretch: Tensor,
        axes: Tensor | None,
        base: Tensor,
        rectification: Tensor,
        blend: Tensor | None,
        vertices: Tensor,
    ):
        gains, rest_stretch, base, rectification, vertices = (
            tensor.detach().contiguous() for tensor in (gains, rest_stretch, base, rectification, vertices)
        )
        added = base if blend is None else blend.detach().contiguous()
        poses, count = len(vertices), len(base)
        sizes = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh": (1, 3)}
        means, quats, scales, opacities, sh = (base.new_empty(poses, count, *size) for size in sizes.values())
        frames, normals = base.new_empty(poses, count, 9), torch.empty_like(vertices)
        if axes is None:
            faces = (tables["faces"], tables["vertex_face_begin"], tables["vertex_faces"])
            _normals[(triton.cdiv(vertices.shape[1], BLOCK), poses)](vertices, *faces, normals, vertices.shape[1], BLOCK=BLOCK)
        upsampled = "taps" in tables
        surface = (tables["faces"], tables["texel_faces"], tables["bary"], tables["face_gradients"], rest_stretch)
        taps = (tables["taps"], tables["tap_weights"]) if upsampled else (tables["faces"], tables["bary"])
        given = gains if axes is None else axes.detach().contiguous()
        maps = (base, gains, rectification, added)
        _pose[(triton.cdiv(count, BLOCK), poses)](
            *(vertices, normals, *surface, given, *maps, *taps, means, quats, scales, opacities, sh, frames),
            *(count, vertices.shape[1], added.shape[-2]),
            GIVEN=axes is not None,
            BLENDED=blend is not None,
            UPSAMPLED=upsampled,
            BLOCK=BLOCK,
        )
        ctx.tables = tables
        ctx.save_for_backward(gains, frames, quats, scales, opacities)
        return means, quats, scales, opacities, sh

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *v_outputs: Tensor):
        gains, frames, quats, scales, opacities = ctx.saved_tensors
        v_means, v_quats, v_scales, v_opacities, v_sh = (v.contiguous() for v in v_outputs)
        poses, count = opacities.shape
        raw, tables = frames.new_empty(poses, count, CHANNELS), ctx.tables
        upstream = (v_means, v_quats, v_scales, v_opacities, v_sh)
        _pull[(triton.cdiv(count, BLOCK), poses)](*upstream, frames, quats, scales, opacities, raw, count, BLOCK=BLOCK)
        needs_base, needs_rectification, needs_blend, needs_vertices = ctx.needs_input_grad[4:]
        v_base = raw.sum(0) if needs_base or needs_rectification else None
        v_rectification = gains * v_base if needs_rectification else None
        v_blend = v_vertices = None
        if needs_blend:
            v_blend = gains * (gather(raw, tables, "coarse_begin", "coarse_texels", "coarse_weights") if "taps" in tables else raw)
        if needs_vertices:
            v_vertices = gather(v_means, tables, "vertex_texel_begin", "vertex_texels", "vertex_weights")
        return None, None, None, None, v_base if needs_base else None, v_rectification, v_blend, v_vertices


def gather(values: Float[Tensor, "B M C"], tables: Mapping[str, Tensor], begin: str, rows: str, weights: str) -> Float[Tensor, "B n C"]:
    """Weighted sums of the rows on each owner's list, in the list's order."""
    owners, channels = len(tables[begin]) - 1, values.shape[2]
    out = values.new_empty(len(values), owners, channels)
    lists = (tables[begin], tables[rows], tables[weights])
    _gather[(triton.cdiv(owners * channels, BLOCK), len(values))](
        values, *lists, out, owners, values.shape[1], CHANNELS=channels, BLOCK=BLOCK
    )
    return out


@triton.jit
def _cross(ax, ay, az, bx, by, bz):
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@triton.jit
def _unit(x, y, z):
    scale = 1 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
    return x * scale, y * scale, z * scale


@triton.jit
def _project(x, y, z, nx, ny, nz):
    """Into the plane of a unit normal, to unit length."""
    slope = x * nx + y * ny + z * nz
    return _unit(x - slope * nx, y - slope * ny, z - slope * nz)


@triton.jit
def _load3(ptr, row, valid):
    return tl.load(ptr + 3 * row, valid, 0), tl.load(ptr + 3 * row + 1, valid, 0), tl.load(ptr + 3 * row + 2, valid, 0)


@triton.jit
def _store3(ptr, row, x, y, z, valid):
    tl.store(ptr + 3 * row, x, valid)
    tl.store(ptr + 3 * row + 1, y, valid)
    tl.store(ptr + 3 * row + 2, z, valid)


@triton.jit
def _load4(ptr, row, valid):
    at = ptr + 4 * row
    return tl.load(at, valid, 0), tl.load(at + 1, valid, 0), tl.load(at + 2, valid, 0), tl.load(at + 3, valid, 0)


@triton.jit
def _store4(ptr, row, w, x, y, z, valid):
    tl.store(ptr + 4 * row, w, valid)
    _store3(ptr + 4 * row + 1, 0, x, y, z, valid)


@triton.jit
def _normals(vertices_ptr, faces_ptr, begin_ptr, list_ptr, normals_ptr, vertex_count, BLOCK: tl.constexpr):
    """Unit normals of vertices, weighted by the areas of their faces."""
    vertex, first_row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1).to(tl.int64) * vertex_count
    inside = vertex < vertex_count
    begin, end = tl.load(begin_ptr + vertex, inside, 0), tl.load(begin_ptr + vertex + 1, inside, 0)
    x = tl.zeros((BLOCK,), vertices_ptr.dtype.element_ty)
    y, z = x, x
    for step in range(0, tl.max(end - begin)):
        used = begin + step < end
        a, b, c = _load3(faces_ptr, tl.load(list_ptr + begin + step, used, 0), used)
        ax, ay, az = _load3(vertices_ptr, first_row + a, used)
        bx, by, bz = _load3(vertices_ptr, first_row + b, used)
        cx, cy, cz = _load3(vertices_ptr, first_row + c, used)
        nx, ny, nz = _cross(bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az)
        x, y, z = x + nx, y + ny, z + nz
    x, y, z = _unit(x, y, z)
    _store3(normals_ptr, first_row + vertex, x, y, z, inside)


@triton.jit
def _quaternion(m00, m01, m02, m10, m11, m12, m20, m21, m22):
    """Of a rotation, by its largest component."""
    s0, s1, s2, s3 = 1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22
    is0 = (s0 >= s1) & (s0 >= s2) & (s0 >= s3)
    is1, is2 = (s1 >= s2) & (s1 >= s3), s2 >= s3
    w = tl.where(is0, s0, tl.where(is1, m21 - m12, tl.where(is2, m02 - m20, m10 - m01)))
    x = tl.where(is0, m21 - m12, tl.where(is1, s1, tl.where(is2, m10 + m01, m02 + m20)))
    y = tl.where(is0, m02 - m20, tl.where(is1, m10 + m01, tl.where(is2, s2, m21 + m12)))
    z = tl.where(is0, m10 - m01, tl.where(is1, m02 + m20, tl.where(is2, m21 + m12, s3)))
    scale = 1 / tl.sqrt(w * w + x * x + y * y + z * z)
    return w * scale, x * scale, y * scale, z * scale


@triton.jit
def _multiply(aw, ax, ay, az, bw, bx, by, bz):
    """Of quaternions: the rotation b followed by a."""
    w, x = aw * bw - ax * bx - ay * by - az * bz, aw * bx + ax * bw + ay * bz - az * by
    return w, x, aw * by - ax * bz + ay * bw + az * bx, aw * bz + ax * by - ay * bx + az * bw


@triton.jit
def _raw(
    base_ptr, gains_ptr, rectification_ptr, blend_ptr, taps_ptr, weights_ptr, texel, coarse, valid, channel,
    BLENDED: tl.constexpr, UPSAMPLED: tl.constexpr,
):  # fmt: skip
    """One channel of the map's sum."""
    added = tl.load(rectification_ptr + 13 * texel + channel, valid, 0)
    if BLENDED:
        if UPSAMPLED:
            for tap in tl.static_range(4):
                from_ = coarse + tl.load(taps_ptr + 4 * texel + tap, valid, 0)
                added += tl.load(weights_ptr + 4 * texel + tap, valid, 0) * tl.load(blend_ptr + 13 * from_ + channel, valid, 0)
        else:
            added += tl.load(blend_ptr + 13 * (coarse + texel) + channel, valid, 0)
    return tl.load(base_ptr + 13 * texel + channel, valid, 0) + tl.load(gains_ptr + channel) * added


@triton.jit
def _pose(
    vertices_ptr, normals_ptr, faces_ptr, texel_faces_ptr, bary_ptr, gradients_ptr, rest_ptr, axes_ptr,
    base_ptr, gains_ptr, rectification_ptr, blend_ptr, taps_ptr, weights_ptr,
    means_ptr, quats_ptr, scales_ptr, opacities_ptr, sh_ptr, frames_ptr,
    count, vertex_count, coarse_count,
    GIVEN: tl.constexpr, BLENDED: tl.constexpr, UPSAMPLED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The texels' frames, and the Gaussians that lie in them."""
    texel, pose = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1).to(tl.int64)
    valid, row, corner = texel < count, pose * count + texel, pose * vertex_count
    face = tl.load(texel_faces_ptr + texel, valid, 0)
    a, b, c = _load3(faces_ptr, face, valid)
    ax, ay, az = _load3(vertices_ptr, corner + a, valid)
    bx, by, bz = _load3(vertices_ptr, corner + b, valid)
    cx, cy, cz = _load3(vertices_ptr, corner + c, valid)
    wa, wb, wc = _load3(bary_ptr, texel, valid)
    px, py, pz = wa * ax + wb * bx + wc * cx, wa * ay + wb * by + wc * cy, wa * az + wb * bz + wc * cz
    bx, by, bz, cx, cy, cz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az  # edges from the first corner
    nx, ny, nz = _cross(bx, by, bz, cx, cy, cz)
    stretch = tl.sqrt(tl.sqrt(nx * nx + ny * ny + nz * nz))
    ratio = tl.minimum(tl.maximum(stretch / tl.load(rest_ptr + texel, valid, 1), 0.5), 2.0)
    if GIVEN:
        tx, ux, nx = _load3(axes_ptr, 3 * pose + 0 * texel, valid)
        ty, uy, ny = _load3(axes_ptr, 3 * pose + 0 * texel + 1, valid)
        tz, uz, nz = _load3(axes_ptr, 3 * pose + 0 * texel + 2, valid)
    else:
        ax, ay, az = _load3(normals_ptr, corner + a, valid)
        mx, my, mz = _load3(normals_ptr, corner + b, valid)
        nx, ny, nz = _load3(normals_ptr, corner + c, valid)
        nx, ny, nz = _unit(wa * ax + wb * mx + wc * nx, wa * ay + wb * my + wc * ny, wa * az + wb * mz + wc * nz)
        along, across = tl.load(gradients_ptr + 2 * face, valid, 0), tl.load(gradients_ptr + 2 * face + 1, valid, 0)
        tx, ty, tz = _project(bx * along + cx * across, by * along + cy * across, bz * along + cz * across, nx, ny, nz)
        ux, uy, uz = _cross(nx, ny, nz, tx, ty, tz)
    _store3(frames_ptr, 3 * row, tx, ux, nx, valid)
    _store3(frames_ptr, 3 * row + 1, ty, uy, ny, valid)
    _store3(frames_ptr, 3 * row + 2, tz, uz, nz, valid)
    fw, fx, fy, fz = _quaternion(tx, ux, nx, ty, uy, ny, tz, uz, nz)

    first = pose * coarse_count
    channels = (base_ptr, gains_ptr, rectification_ptr, blend_ptr, taps_ptr, weights_ptr, texel, first, valid)
    x, y, z = _raw(*channels, 0, BLENDED, UPSAMPLED), _raw(*channels, 1, BLENDED, UPSAMPLED), _raw(*channels, 2, BLENDED, UPSAMPLED)
    _store3(means_ptr, row, px + tx * x + ux * y + nx * z, py + ty * x + uy * y + ny * z, pz + tz * x + uz * y + nz * z, valid)
    x, y, z = _raw(*channels, 3, BLENDED, UPSAMPLED), _raw(*channels, 4, BLENDED, UPSAMPLED), _raw(*channels, 5, BLENDED, UPSAMPLED)
    _store3(scales_ptr, row, tl.exp(x) * ratio, tl.exp(y) * ratio, tl.exp(z), valid)
    x, y, z = _raw(*channels, 6, BLENDED, UPSAMPLED), _raw(*channels, 7, BLENDED, UPSAMPLED), _raw(*channels, 8, BLENDED, UPSAMPLED)
    w = 1 / tl.sqrt(1 + x * x + y * y + z * z)
    w, x, y, z = _multiply(fw, fx, fy, fz, w, w * x, w * y, w * z)
    _store4(quats_ptr, row, w, x, y, z, valid)
    tl.store(opacities_ptr + row, 1 / (1 + tl.exp(-_raw(*channels, 9, BLENDED, UPSAMPLED))), valid)
    x, y, z = _raw(*channels, 10, BLENDED, UPSAMPLED), _raw(*channels, 11, BLENDED, UPSAMPLED), _raw(*channels, 12, BLENDED, UPSAMPLED)
    _store3(sh_ptr, row, x, y, z, valid)


@triton.jit
def _pull(
    v_means_ptr, v_quats_ptr, v_scales_ptr, v_opacities_ptr, v_sh_ptr, frames_ptr, quats_ptr, scales_ptr, opacities_ptr, raw_ptr,
    count, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of the sum's channels, for every pose."""
    texel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid, row = texel < count, tl.program_id(1).to(tl.int64) * count + texel
    out = raw_ptr + 13 * row
    tx, ux, nx = _load3(frames_ptr, 3 * row, valid)
    ty, uy, ny = _load3(frames_ptr, 3 * row + 1, valid)
    tz, uz, nz = _load3(frames_ptr, 3 * row + 2, valid)
    x, y, z = _load3(v_means_ptr, row, valid)
    _store3(out, 0, tx * x + ty * y + tz * z, ux * x + uy * y + uz * z, nx * x + ny * y + nz * z, valid)
    sx, sy, sz = _load3(scales_ptr, row, valid)
    x, y, z = _load3(v_scales_ptr, row, valid)
    _store3(out, 1, sx * x, sy * y, sz * z, valid)

    fw, fx, fy, fz = _quaternion(tx, ux, nx, ty, uy, ny, tz, uz, nz)
    w, x, y, z = _load4(v_quats_ptr, row, valid)
    w, x, y, z = _multiply(fw, -fx, -fy, -fz, w, x, y, z)  # to the frame: a unit quaternion's product is a rotation
    qw, qx, qy, qz = _load4(quats_ptr, row, valid)
    qw, qx, qy, qz = _multiply(fw, -fx, -fy, -fz, qw, qx, qy, qz)  # (1, x, y, z) over its length, whose inverse is the first component
    along = qw * w + qx * x + qy * y + qz * z
    _store3(out, 2, qw * (x - along * qx), qw * (y - along * qy), qw * (z - along * qz), valid)

    opacity = tl.load(opacities_ptr + row, valid, 0)
    tl.store(out + 9, tl.load(v_opacities_ptr + row, valid, 0) * opacity * (1 - opacity), valid)
    x, y, z = _load3(v_sh_ptr, row, valid)
    _store3(out + 10, 0, x, y, z, valid)


@triton.jit
def _gather(values_ptr, begin_ptr, rows_ptr, weights_ptr, out_ptr, owners, rows, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    number, pose = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1).to(tl.int64)
    inside, owner = number < owners * CHANNELS, number // CHANNELS
    begin, end = tl.load(begin_ptr + owner, inside, 0), tl.load(begin_ptr + owner + 1, inside, 0)
    total = tl.zeros((BLOCK,), values_ptr.dtype.element_ty)
    for step in range(0, tl.max(end - begin)):
        used = begin + step < end
        row = pose * rows + tl.load(rows_ptr + begin + step, used, 0)
        total += tl.load(weights_ptr + begin + step, used, 0) * tl.load(values_ptr + row * CHANNELS + number % CHANNELS, used, 0)
    tl.store(out_ptr + pose * owners * CHANNELS + number, total, inside)
