"""Codes fitted through an avatar, and read by it, against frames whose codes are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.code_fit import CodeFitter, can_fit_codes
from deja_vu.avatars.gaussian.code_reader import GRIDS, CodeReader, learn_reader
from deja_vu.avatars.gaussian.config import CodeFitConfig, GaussianConfig, ReaderConfig
from deja_vu.avatars.gaussian.face_code import FaceCode, fitted_parts
from deja_vu.avatars.gaussian.face_reader import FaceReader, codes_reader
from deja_vu.avatars.gaussian.part import AvatarPart, find_texels
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import CHANNELS, rgb_to_sh
from deja_vu.core.head import HeadParams
from deja_vu.heads.toy import load as load_toy

CAMERA = Camera.from_focal(300.0, 160, 160)
CODE = FaceCode.of(load_toy().spec)


@pytest.fixture(scope="module")
def painted() -> GaussianAvatar:
    """Skin in waves of three colors, dark irises, and a reader that has learned nothing yet."""
    head = load_toy()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), GaussianConfig(uv_size=96, blendmaps=2, reader=True))
    points = avatar.rest_surface().points[0]
    waves = torch.stack([torch.sin(160 * points[:, 0] + 0.5), torch.sin(170 * points[:, 1]), torch.cos(150 * points[:, 0])], -1)
    color = 0.5 + 0.3 * waves
    eyes = head.topology.regions["eye_left"] | head.topology.regions["eye_right"]
    color[eyes[avatar.layout.faces]] = 0.9
    for side in ("eye_left", "eye_right"):
        ball = head.topology.regions[side][avatar.layout.faces]
        front = points[ball][points[ball, 2].argmax()]
        color[ball & ((points - front).norm(dim=1) < 0.006)] = 0.1
    avatar.base[:, CHANNELS["color"]] = rgb_to_sh(color)
    return avatar.eval().requires_grad_(False)


def posed(expressions: torch.Tensor) -> HeadParams:
    """Faces half a meter before the camera, turned a little."""
    still = load_toy().neutral((len(expressions),))
    pose = torch.eye(4).repeat(len(expressions), 1, 1)
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pose[:, 2, 3] = 0.4
    return replace(still, expression=expressions, world_from_head=pose)


def filmed(avatar: GaussianAvatar, truth: HeadParams, tracked: HeadParams) -> Batch:
    """What the avatar shows with the true parameters, tracked with others."""
    out = avatar.render(truth, CAMERA, torch.ones(3))
    ones = torch.ones(1, 160, 160, 1)
    image = ((out.rgb - 1 + out.alpha) / out.alpha.clamp_min(0.02)).clamp(0, 1)
    return Batch(torch.tensor([0]), image, out.alpha, out.alpha, ones, ones, ones, tracked, CAMERA)


def drawn_faces(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Expressions of some faces, and how far tracking is off."""
    torch.manual_seed(3)
    truths, errors = 0.25 + 0.5 * torch.rand(count, 6), 0.15 * torch.randn(count, len(CODE))
    errors[:, 6:] = 0
    return truths, errors


def tracked_wrong(avatar: GaussianAvatar, truths: torch.Tensor, errors: torch.Tensor) -> list[Batch]:
    """Their frames."""
    return [filmed(avatar, posed(truth[None]), posed((truth - error[:6])[None])) for truth, error in zip(truths, errors, strict=True)]


def teach(avatar: GaussianAvatar, truths: torch.Tensor, batches: list[Batch]) -> None:
    """Fill the avatar's reader from frames whose codes are given."""
    assert avatar.reader is not None
    fitter, reader = CodeFitter(avatar), FaceReader(avatar, avatar.reader)
    fits = [replace(fitter.fit_code(batch), code=CODE.pack(posed(truth[None]))[0]) for batch, truth in zip(batches, truths, strict=True)]
    examples = [reader.example(batch, fit) for batch, fit in zip(batches, fits, strict=True)]
    learn_reader(avatar.reader, examples, fitter.columns, ReaderConfig(noise=0.1))


def test_a_part_poses_as_the_whole_does(random_avatar, params) -> None:
    """Every value of its Gaussians, in two poses, for every part."""
    avatar = random_avatar.eval().requires_grad_(False)
    whole = avatar.gaussians(params)
    for vertices in fitted_parts(avatar.head.topology):
        texels = find_texels(avatar, vertices)
        part = AvatarPart(avatar, vertices)
        assert 0 < len(part) == len(texels) < len(avatar.charts)
        posed_part = part.gaussians(params)
        for name in ("means", "quats", "scales", "opacities", "sh"):
            expected = getattr(whole, name)[:, texels]
            torch.testing.assert_close(getattr(posed_part, name), expected.expand_as(getattr(posed_part, name)), atol=1e-5, rtol=1e-4)


def test_differences_are_those_of_the_whole_avatar(painted) -> None:
    """The whole avatar drawn with one value changed says the same: what else it draws there does not move with the part."""
    params = posed(torch.full((1, 6), 0.3))
    fitter = CodeFitter(painted, CodeFitConfig(probe=0.01, angle_probe=0.005))
    batch = filmed(painted, params, params)
    view, code = fitter.view(batch), CODE.pack(params)[0]
    for part, camera in enumerate(view.cameras):
        found = fitter.differences(part, camera, params, code)
        for column, change in zip(fitter.columns[part].tolist(), found, strict=True):
            step = torch.zeros_like(code)
            step[column] = 0.01 if column < 6 else 0.005
            expected = (fitter.draw(view, params, code + step)[part] - fitter.draw(view, params, code)[part]) / step[column]
            assert (change - expected).norm() < 0.1 * expected.norm() + 0.3  # an open jaw draws in what lies beyond the part


def test_the_fit_finds_what_tracking_missed(painted) -> None:
    """Blinks, jaw and eyes that were tracked wrong by up to 0.4 come back to a few hundredths; the pose stays as it was tracked."""
    truth = posed(torch.tensor([[0.6, 0.7, 0.2, 0.3, 0.1, 0.4]]))
    truth.joints[0, 2] = torch.tensor([0.1, 0.15, 0.0])
    tracked = posed(torch.tensor([[0.3, 0.4, 0.5, 0.3, 0.3, 0.2]]))
    fitter = CodeFitter(painted, CodeFitConfig(steps=8, pixel_share=0.5, expression_deviation=1.0, angle_deviation=0.5))
    fitted = fitter.fit(filmed(painted, truth, tracked))
    before, after = ((params.expression - truth.expression).abs() for params in (tracked, fitted))
    assert after.max() < 0.25 * before.max()
    assert (fitted.joints[0, 2] - truth.joints[0, 2])[:2].abs().max() < 0.05
    torch.testing.assert_close(fitted.world_from_head, tracked.world_from_head)
    torch.testing.assert_close(fitted.joints[:, 0], tracked.joints[:, 0])


def test_springs_and_bounds_hold_a_code_to_its_meaning(painted) -> None:
    """A face that no code of [0, 1] makes leaves expressions within it; the stiffer the springs, the less they move."""
    truth = posed(torch.tensor([[1.6, -0.6, 1.5, 0.0, 0.0, 0.0]]))
    tracked = posed(torch.tensor([[0.8, 0.1, 0.9, 0.2, 0.2, 0.2]]))
    batch = filmed(painted, truth, tracked)
    moved = []
    for deviation in (0.5, 0.05, 0.005):
        fitted = CodeFitter(painted, CodeFitConfig(expression_deviation=deviation)).fit(batch).expression
        assert (fitted.min(), fitted.max()) >= (0, 0)
        assert fitted.max() <= 1
        moved.append(float((fitted - tracked.expression).norm()))
    assert moved[0] > moved[1] > moved[2]
    beyond = posed(torch.tensor([[1.3, 0.1, 0.9, -0.2, 0.2, 0.2]]))  # where tracking went beyond, the fit may stay there
    low, high = CODE.bounds(CODE.pack(beyond)[0])
    assert (low[3], high[0], low[1], high[1]) == (pytest.approx(-0.2), pytest.approx(1.3), 0, 1)


def test_a_reader_that_has_learned_nothing_corrects_nothing(painted) -> None:
    tracked = posed(torch.full((1, 6), 0.4))
    read = codes_reader(painted)(filmed(painted, posed(torch.full((1, 6), 0.6)), tracked))
    torch.testing.assert_close(read.expression, tracked.expression)
    torch.testing.assert_close(read.joints, tracked.joints)


def test_a_reader_corrects_frames_that_it_has_never_seen(painted) -> None:
    """Learned from 12 frames whose true codes are given, on 6 others: over half of the tracker's error is gone."""
    truths, errors = drawn_faces(18)
    batches = tracked_wrong(painted, truths, errors)
    teach(painted, truths[:12], batches[:12])
    left = [codes_reader(painted)(batch).expression[0] - truth for batch, truth in zip(batches[12:], truths[12:], strict=True)]
    assert torch.stack(left).square().mean() < 0.35 * errors[12:, :6].square().mean()
    far, farther = ([torch.full((20, 30, 3), size * sign) for sign in (1, -1, 1)] for size in (50.0, 500.0))
    torch.testing.assert_close(
        painted.reader.read(far), painted.reader.read(farther)
    )  # what was never seen says no more than what is near it
    assert painted.reader.read(far).norm() > 0
    for buffer in painted.reader.buffers():
        buffer.zero_()


def test_it_stays_on_one_device() -> None:
    """Torch's `meta` device computes nothing but refuses, as CUDA does, to mix its tensors with those of the CPU."""
    reader = CodeReader(len(CODE)).to("meta")
    pictures = [torch.zeros(30, 40, 3, device="meta") for _ in GRIDS]
    assert reader.read(pictures).device.type == "meta"
    params = posed(torch.zeros(2, 6)).to("meta")
    code = CODE.pack(params)
    assert CODE.put(code, params).joints.device.type == "meta"
    assert {bound.device.type for bound in CODE.bounds(code)} == {"meta"}


def test_avatars_whose_maps_lie_in_the_heads_axes_have_no_fit() -> None:
    head = load_toy()
    shape = torch.zeros(head.spec.num_shape)
    assert can_fit_codes(GaussianAvatar(head, shape, GaussianConfig(uv_size=64, blend_size=64)))
    assert not can_fit_codes(GaussianAvatar(head, shape, GaussianConfig(uv_size=64, blend_size=64, axes="head")))
