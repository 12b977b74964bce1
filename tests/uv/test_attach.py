from __future__ import annotations

from dataclasses import replace

import torch

from deja_vu.core.gaussians import UVGaussianMap
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.uv.attach import attach, matrix_to_quaternion, quaternion_multiply, to_gaussians, vertex_normals
from deja_vu.uv.layout import build_layout


def quaternion_to_matrix(q: torch.Tensor) -> torch.Tensor:
    """Textbook formula, as an oracle."""
    w, x, y, z = q.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def test_quaternions_and_matrices_agree() -> None:
    vectors = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * 2
    a, b = axis_angle_to_matrix(vectors[:100]), axis_angle_to_matrix(vectors[100:])
    qa, qb = matrix_to_quaternion(a), matrix_to_quaternion(b)
    torch.testing.assert_close(quaternion_to_matrix(qa), a, rtol=0, atol=1e-5)
    torch.testing.assert_close(quaternion_to_matrix(quaternion_multiply(qa, qb)), a @ b, rtol=0, atol=1e-5)


def test_frames_are_orthonormal_and_normals_point_outside() -> None:
    head = load_toy()
    layout = build_layout(head.topology, 64)
    surface = attach(head(head.neutral((1,))), head.topology.faces, layout)
    gram = surface.frames.transpose(-1, -2) @ surface.frames
    torch.testing.assert_close(gram, torch.eye(3).expand_as(gram), rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.linalg.det(surface.frames), torch.ones(1, len(layout)), rtol=0, atol=1e-4)
    skin = head.topology.regions["face"][layout.faces]
    outward = (surface.frames[0, :, :, 2] * surface.points[0]).sum(-1)[skin]
    assert (outward > 0).float().mean() > 0.99


def test_gaussians_follow_a_rigid_motion_of_the_head() -> None:
    head = load_toy()
    layout = build_layout(head.topology, 64)
    count = len(layout)
    generator = torch.Generator().manual_seed(1)
    maps = UVGaussianMap.unpack(torch.randn(1, count, 13, generator=generator) * 0.01)
    still = head.neutral((1,))
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = axis_angle_to_matrix(torch.tensor([0.3, -0.7, 0.2])), torch.tensor([0.1, 0.2, 0.9])
    moved = replace(still, world_from_head=pose[None])
    before, after = (attach(head(params), head.topology.faces, layout) for params in (still, moved))
    here, there = to_gaussians(maps, before, before.stretch[0]), to_gaussians(maps, after, before.stretch[0])
    torch.testing.assert_close(there.means, here.means @ pose[:3, :3].T + pose[:3, 3], rtol=0, atol=1e-5)
    turned = quaternion_to_matrix(there.quats)
    torch.testing.assert_close(turned, pose[:3, :3] @ quaternion_to_matrix(here.quats), rtol=0, atol=1e-4)
    torch.testing.assert_close(there.scales, here.scales, rtol=1e-3, atol=0)


def test_vertex_normals_of_a_tetrahedron() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    normals = vertex_normals(vertices, faces)
    torch.testing.assert_close(normals[0], -torch.ones(3) / 3**0.5)
    assert (normals * (vertices - vertices.mean(0))).sum(-1).min() > 0


def test_positions_carry_gradients_to_the_head() -> None:
    head = load_toy()
    layout = build_layout(head.topology, 64)
    params = head.neutral((1,))
    expression = params.expression.clone().requires_grad_()
    attach(head(replace(params, expression=expression)), head.topology.faces, layout).points.square().sum().backward()
    assert expression.grad.abs().max() > 0
