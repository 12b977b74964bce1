from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from deja_vu.core.camera import Camera
from deja_vu.core.errors import OutputError
from deja_vu.core.head import HeadParams
from deja_vu.heads import load_head
from deja_vu.io.video import read_frames
from deja_vu.pipelines.sample import write_sample


def test_a_sample_is_a_video_with_the_truth_beside_it(tmp_path):
    path = tmp_path / "new" / "person.mp4"
    subject = write_sample(path, 4, size=96)
    images = [image for _, _, image in read_frames(path)]
    assert len(images) == 4
    assert images[0].shape == (96, 96, 3)
    drawn = torch.from_numpy(subject.render(3).image).float()
    assert (torch.from_numpy(images[3]).float() - drawn).abs().mean() < 6  # the codec halves the colors' resolution and smooths the noise

    truth = load_file(path.with_name("person.truth.safetensors"))
    params = HeadParams(truth["shape"].expand(4, -1), truth["expression"], truth["joints"], truth["world_from_head"])
    head = load_head("anny")
    vertices = head(params)
    camera = Camera(torch.eye(4), truth["intrinsics"], 96, 96)
    assert torch.allclose(camera.project(vertices)[0], subject.camera.project(subject.head(subject.params))[0], atol=1e-3)
    nearest = (truth["pupils"][:, :, None] - vertices[:, None]).norm(dim=-1).amin(-1)
    assert nearest.max() < 4e-3  # the pupils lie on the eyeballs, whose triangles are 5 mm wide

    neck = head.spec.joint_names.index("neck")
    crown = head.topology.faces[head.topology.regions["scalp"]].flatten()
    crown = crown[head.template[crown, 1].argmax()]
    rest = head(HeadParams(params.shape, params.expression, torch.zeros_like(params.joints), torch.eye(4).expand(4, 4, 4)))[:, crown]
    moved = (truth["world_from_skull"][:, :3, :3] @ rest[..., None])[..., 0] + truth["world_from_skull"][:, :3, 3]
    assert head.skin_weights[crown, neck + 1] > 0.99
    assert (moved - vertices[:, crown]).norm(dim=1).max() < 5e-4  # the crown follows the skull
    assert torch.equal(truth["torso"], subject.params.torso)
    torch.testing.assert_close(truth["world_from_torso"], truth["world_from_head"] @ truth["torso"])


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        write_sample(tmp_path / "file" / "person.mp4", 2, size=64)
