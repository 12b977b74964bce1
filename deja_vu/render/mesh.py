"""Z-buffer of triangle meshes: which triangle each pixel sees. Not differentiable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu import native
from deja_vu.core.camera import Camera
from deja_vu.core.errors import MissingAssetError


@dataclass(frozen=True)
class MeshFragments:
    """The nearest triangle behind each pixel's center."""

    face_id: Int[Tensor, "*b H W"]
    """Index of the triangle, -1 where there is none."""
    bary: Float[Tensor, "*b H W 3"]
    """Barycentric coordinates of the surface point (perspective correct), 0 where there is none."""
    depth: Float[Tensor, "*b H W"]
    """Meters along the optical axis, 0 where there is none."""


def rasterize_mesh(vertices: Float[Tensor, "*b V 3"], faces: Int[Tensor, "F 3"], camera: Camera) -> MeshFragments:
    """Draw a mesh, both sides of its triangles; a triangle with a corner nearer than 1 cm is left out.

    Runs on the CPU in float32 whatever the tensors' device; the result lies on the vertices' device.

    Args:
        vertices: world space, meters; one mesh or a batch [b].
        faces: vertex indices.
        camera: one view, or one for each mesh of the batch.

    Raises:
        ValueError: a shape does not fit, an index is out of range, or a value is not finite.
        MissingAssetError: the native library is neither installed nor can it be compiled.
    """
    _check(vertices, faces, camera)
    batch = torch.broadcast_shapes(vertices.shape[:-2], camera.camera_from_world.shape[:-2], camera.intrinsics.shape[:-2])
    images = batch[0] if batch else 1
    points = vertices.detach().to("cpu", torch.float32).expand(images, -1, -1).contiguous()
    triangles = faces.to("cpu", torch.int32).contiguous()
    views = [matrix.detach().to("cpu", torch.float32).contiguous() for matrix in (camera.camera_from_world, camera.intrinsics)]
    face_id = torch.empty(images, camera.height, camera.width, dtype=torch.int32)
    bary, depth = torch.empty(*face_id.shape, 3), torch.empty(face_id.shape)
    named = {"vertices": points, "camera_from_world": views[0], "intrinsics": views[1]}
    named |= {"faces": triangles, "face_id": face_id, "bary": bary, "depth": depth}
    arguments = native.Mesh(
        **{name: tensor.data_ptr() for name, tensor in named.items()},
        camera_from_world_step=16 if views[0].dim() == 3 else 0,
        intrinsics_step=9 if views[1].dim() == 3 else 0,
        images=images,
        vertex_count=points.shape[1],
        face_count=triangles.shape[0],
        width=camera.width,
        height=camera.height,
        threads=torch.get_num_threads(),
    )
    try:
        native.call("mesh", arguments, f"draw {images} meshes of {points.shape[1]} vertices")
    except native.NativeError as error:
        raise MissingAssetError(f"Drawing a mesh needs the native library: {error}") from error
    results = (face_id.long(), bary, depth)
    return MeshFragments(*(tensor.to(vertices.device).reshape(*batch, *tensor.shape[1:]) for tensor in results))


def _check(vertices: Tensor, faces: Tensor, camera: Camera) -> None:
    if vertices.dim() not in (2, 3) or vertices.shape[-1] != 3 or not vertices.is_floating_point():
        raise ValueError(f"vertices are {vertices.dtype} {tuple(vertices.shape)}; expected floating point [V, 3] or [b, V, 3]")
    if faces.dim() != 2 or faces.shape[-1] != 3 or faces.is_floating_point():
        raise ValueError(f"faces are {faces.dtype} {tuple(faces.shape)}; expected integers [F, 3]")
    if faces.numel() and (faces.min() < 0 or faces.max() >= vertices.shape[-2]):
        raise ValueError(f"faces name vertices {faces.min().item()} to {faces.max().item()}; there are {vertices.shape[-2]}")
    batches = {vertices.shape[:-2], camera.camera_from_world.shape[:-2], camera.intrinsics.shape[:-2]} - {()}
    if len(batches) > 1 or any(len(batch) > 1 for batch in batches):
        raise ValueError(f"vertices {tuple(vertices.shape)} and camera {tuple(camera.camera_from_world.shape)} do not share one batch axis")
    for name, tensor in (("vertices", vertices), ("camera_from_world", camera.camera_from_world), ("intrinsics", camera.intrinsics)):
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds values that are not finite")
