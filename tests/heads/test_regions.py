from __future__ import annotations

import torch

from deja_vu.core.camera import Camera
from deja_vu.heads import load_head
from deja_vu.heads.regions import followed_parts, points_box, region_box, region_faces
from deja_vu.heads.toy import load


def test_the_window_holds_the_part_and_its_margin() -> None:
    head = load()
    pose = torch.eye(4)
    pose[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pose[2, 3] = 0.5
    vertices = head(head.neutral()) @ pose[:3, :3].T + pose[:3, 3]
    camera = Camera.from_focal(150.0, 96, 80)
    eye = head.topology.regions["eye_left"]
    pixels, _ = camera.project(vertices[head.topology.faces[eye].unique()])
    bare, wide = (region_box(vertices, head.topology.faces, eye, camera, margin) for margin in (0.0, 0.5))
    for axis, (a, b) in enumerate(zip(bare[::-1], wide[::-1], strict=True)):
        low, high = pixels[:, axis].min(), pixels[:, axis].max()
        assert a.start <= low < a.start + 1
        assert a.stop - 1 < high <= a.stop
        assert abs((low - b.start) - 0.5 * (high - low)) < 1
        assert abs((b.stop - high) - 0.5 * (high - low)) < 1


def test_a_part_beyond_the_picture_leaves_one_pixel() -> None:
    head = load()
    vertices = head(head.neutral()) + torch.tensor([5.0, 5.0, 1.0])
    camera = Camera.from_focal(150.0, 96, 80)
    rows, columns = region_box(vertices, head.topology.faces, head.topology.regions["eye_left"], camera)
    assert (rows, columns) == (slice(79, 80), slice(95, 96))


def test_faces_of_several_regions_are_those_of_any() -> None:
    topology = load().topology
    eyes = region_faces(topology, ("eye_left", "eye_right", "no_such_region"))
    assert torch.equal(eyes, topology.regions["eye_left"] | topology.regions["eye_right"])


def test_a_small_part_gets_as_many_pixels_as_are_asked_for() -> None:
    """Around the part where there is room, and moved inwards at the picture's border; never more than the picture has."""
    camera = Camera.from_focal(150.0, 96, 80)
    middle, corner = torch.tensor([[0.0, 0.0, 0.5]]), torch.tensor([[-0.5, -0.5, 0.5]])
    assert points_box(middle, camera, 0.2, least=24) == (slice(28, 52), slice(36, 60))
    assert points_box(corner, camera, 0.2, least=24) == (slice(0, 24), slice(0, 24))
    assert points_box(middle, camera, 0.2, least=90) == (slice(0, 80), slice(3, 93))


def test_each_brow_lies_above_its_own_eye_and_moves_with_its_own_expression() -> None:
    """Of the default head: the left brow is nearer to the left eye than to the right, higher, and browOuterUpLeft lifts it alone."""
    head = load_head("anny")
    parts = followed_parts(head.topology)
    assert set(parts) == {"lips", "eyes", "brows", "face"}
    neutral = head.neutral((1,))
    lifted = head.neutral((1,))
    lifted.expression[0, head.spec.expression_names.index("browOuterUpLeft")] = 1.0
    rest, up = head(neutral)[0], head(lifted)[0]
    eyes, brows = ([rest[side].mean(0) for side in parts[name]] for name in ("eyes", "brows"))
    for own, other in ((0, 1), (1, 0)):
        assert (brows[own] - eyes[own]).norm() < (brows[own] - eyes[other]).norm()
        assert brows[own][1] > eyes[own][1]
    left, right = ((up - rest)[side, 1].mean() for side in parts["brows"])
    assert left > 5 * right.abs()
    assert left > 1e-3
    assert "brows" not in followed_parts(load().topology)
