from __future__ import annotations

import torch

from deja_vu.core.camera import Camera
from deja_vu.heads.regions import region_faces, region_window
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
    bare, wide = (region_window(vertices, head.topology.faces, eye, camera, margin) for margin in (0.0, 0.5))
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
    rows, columns = region_window(vertices, head.topology.faces, head.topology.regions["eye_left"], camera)
    assert (rows, columns) == (slice(79, 80), slice(95, 96))


def test_faces_of_several_regions_are_those_of_any() -> None:
    topology = load().topology
    eyes = region_faces(topology, ("eye_left", "eye_right", "no_such_region"))
    assert torch.equal(eyes, topology.regions["eye_left"] | topology.regions["eye_right"])
