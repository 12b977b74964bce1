from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.heads.base import HeadModel
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.tracking.config import FitConfig, PhotometricConfig, SilhouetteConfig
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.photometric import PhotometricRefiner
from deja_vu.tracking.solver import FaceSolver, fit_landmarks
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.surface import HeadSurface
from deja_vu.tracking.terms import fold_channels
from deja_vu.tracking.texture import Crops, lift_texture, light_basis, sample_pixels
from deja_vu.uv.attach import vertex_normals

SIDE, FRAMES, RATE = 160, 24, 5
WINDOW = Camera.from_focal(1.8 * SIDE, SIDE, SIDE)


def painted(head: HeadModel) -> torch.Tensor:
    """A color for every vertex: waves a few centimeters long, dark eyes."""
    x, y, z = head.template.T
    color = 0.5 + 0.35 * torch.stack([torch.sin(160 * x + 1), torch.sin(150 * y), torch.cos(140 * x + 130 * z)], -1)
    eyes = (head.topology.regions["eye_left"] | head.topology.regions["eye_right"])[:, None].expand(-1, 3)
    color[head.topology.faces[eyes]] = 0.05
    return color


def acted(head: HeadModel) -> TrackState:
    """The head turns and talks, for five seconds: at the rate of speech, so that the priors on change are not what is tested."""
    time = torch.linspace(0, 1, FRAMES)
    turn = torch.stack([0.12 * torch.sin(6 * time), 0.3 * torch.sin(5 * time), 0.05 * torch.cos(5 * time)], -1)
    pose = torch.eye(4).repeat(FRAMES, 1, 1)
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(turn)
    pose[:, :3, 3] = torch.stack([0.01 * torch.sin(3 * time), 0.01 * time, 0.55 + 0.02 * time], -1)
    expression = torch.zeros(FRAMES, head.spec.num_expression)
    expression[:, 0] = 0.4 + 0.4 * torch.sin(7 * time)
    expression[:, 3] = expression[:, 4] = 0.4 - 0.4 * torch.cos(6 * time)
    log_focal = (WINDOW.intrinsics[0, 0] / SIDE).log()
    return TrackState(torch.zeros(head.spec.num_shape), log_focal, expression, torch.zeros(FRAMES, head.spec.num_joints, 3), pose)


def film(head: HeadModel, state: TrackState, lit: bool) -> Crops:
    """Draw the painted mesh at twice the size and average; light from the left above if asked for."""
    camera = state.camera(WINDOW).resize(2 * SIDE, 2 * SIDE)
    vertices, faces = head(state.params()), head.topology.faces
    shown = rasterize_mesh(vertices, faces, camera)
    corners = faces[shown.face_id.clamp_min(0)]
    color = (painted(head)[corners] * shown.bary[..., None]).sum(-2)
    if lit:
        lookup = zip(vertex_normals(vertices, faces), corners, shown.bary, strict=True)
        normals = torch.stack([(normal[corner] * bary[..., None]).sum(-2) for normal, corner, bary in lookup])
        color = color * (0.75 + 0.35 * (normals @ torch.tensor([-0.6, -0.5, -0.6])))[..., None]
    covered = (shown.face_id >= 0).float()
    image = torch.where(covered[..., None] > 0, color, torch.tensor(0.9)).clamp(0, 1)
    reduced = [torch.nn.functional.avg_pool2d(value.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1) for value in (image, covered[..., None])]
    rgb, alpha = ((255 * value).round().to(torch.uint8) for value in reduced)
    return Crops(rgb=rgb, alpha=alpha[..., 0], valid=torch.full((SIDE, SIDE), 255, dtype=torch.uint8), camera=state.camera(WINDOW))


def observe(head: HeadModel, state: TrackState) -> Observations:
    """Landmarks as poor as a detector's: wrong by a fixed bias of each and by noise; expression scores off by a fifth."""
    generator = torch.Generator().manual_seed(0)
    marks = head.topology.landmarks["mediapipe"]
    pixels, _ = state.camera(WINDOW).project(head.at_points(marks.faces, marks.bary)(state.params()))
    bias = 1.0 * torch.randn(1, len(marks.ids), 2, generator=generator)
    landmarks = torch.zeros(FRAMES, 478, 2)
    landmarks[:, marks.ids] = pixels + bias + 0.7 * torch.randn(pixels.shape, generator=generator)
    scores = (state.expression + 0.2 * torch.randn(state.expression.shape, generator=generator)).clamp(0, 1)
    return Observations(landmarks, scores, head.spec.expression_names, WINDOW, torch.arange(FRAMES) / RATE)


def motion_error(head: HeadModel, state: TrackState, truth: TrackState) -> float:
    """Root mean square error of the face's motion over the image, pixels: what remains after each point's mean error is taken out.

    A fixed error belongs to the identity and moves the texture along with it; what changes from frame to frame blurs an avatar.
    """
    faces = head.topology.faces[head.topology.regions["face"]].unique()
    here, there = (s.camera(WINDOW).project(head(s.params())[:, faces])[0] for s in (state, truth))
    error = here - there
    return float((error - error.mean(0)).square().sum(-1).mean().sqrt())


@pytest.mark.parametrize("lit", [False, True])
def test_pixels_bring_the_motion_closer_to_the_truth_than_landmarks(lit) -> None:
    head = load_toy()
    truth = acted(head)
    seen, pictures = observe(head, truth), film(head, truth, lit)
    solver = FaceSolver.of(head, seen, FitConfig())
    start = fit_landmarks(solver, FitConfig())
    train = torch.arange(FRAMES) < 18
    config = PhotometricConfig(silhouette=SilhouetteConfig(pixels=0.0))
    refined, texture = PhotometricRefiner(solver, pictures, train, config, FitConfig()).refine(start)
    before, after = motion_error(head, start, truth), motion_error(head, refined, truth)
    assert 0.3 < before < 2  # poor, but a fit
    assert after < 0.5 * before
    unseen = torch.arange(18, FRAMES)
    before, after = (motion_error(head, state.select(unseen), truth.select(unseen)) for state in (start, refined))
    assert after < 0.6 * before
    before, after = ((state.expression - truth.expression)[:, [0, 3, 4]].std() for state in (start, refined))
    assert after < before
    assert texture.deviation[texture.times_seen > 12].median() < 0.08


def test_the_truth_is_left_where_it_is() -> None:
    """Started from the truth with true landmarks, refinement moves points by small parts of a pixel."""
    head = load_toy()
    truth = acted(head)
    marks = head.topology.landmarks["mediapipe"]
    landmarks = torch.zeros(FRAMES, 478, 2)
    landmarks[:, marks.ids] = truth.camera(WINDOW).project(head.at_points(marks.faces, marks.bary)(truth.params()))[0]
    seen = Observations(landmarks, truth.expression, head.spec.expression_names, WINDOW, torch.arange(FRAMES) / RATE)
    everything = torch.ones(FRAMES, dtype=torch.bool)
    solver = FaceSolver.of(head, seen, FitConfig())
    refiner = PhotometricRefiner(solver, film(head, truth, False), everything, PhotometricConfig(), FitConfig())
    refined, texture = refiner.refine(truth)
    assert motion_error(head, refined, truth) < 0.15
    assert texture.deviation[texture.times_seen > 12].median() < 0.04  # what resampling leaves


def test_refining_again_from_the_same_start_gives_the_same_end() -> None:
    head = load_toy()
    truth = acted(head)
    solver = FaceSolver.of(head, observe(head, truth), FitConfig())
    refiner = PhotometricRefiner(solver, film(head, truth, False), torch.arange(FRAMES) < 18, PhotometricConfig(rounds=2), FitConfig())
    first, second = refiner.refine(truth)[0], refiner.refine(truth)[0]
    assert torch.equal(first.world_from_head, second.world_from_head)
    assert torch.equal(first.expression, second.expression)


def test_the_outline_brings_back_the_size_of_a_head_that_has_no_texture() -> None:
    """One color all over, and landmarks 4 % too far apart in some frames: only the mattes tell how far away the head is."""
    head = load_toy()
    truth = acted(head)
    pictures = film(head, truth, False)
    plain = replace(pictures, rgb=torch.full_like(pictures.rgb, 128))
    marks, wrong = head.topology.landmarks["mediapipe"], slice(19, FRAMES)
    landmarks = torch.zeros(FRAMES, 478, 2)
    landmarks[:, marks.ids] = truth.camera(WINDOW).project(head.at_points(marks.faces, marks.bary)(truth.params()))[0]
    middle = landmarks[wrong, marks.ids].mean(1, keepdim=True)
    landmarks[wrong] = middle + 1.04 * (landmarks[wrong] - middle)
    seen = Observations(landmarks, truth.expression, head.spec.expression_names, WINDOW, torch.arange(FRAMES) / RATE)
    solver = FaceSolver.of(head, seen, FitConfig())
    start = fit_landmarks(solver, FitConfig())
    train = torch.arange(FRAMES) < 18
    errors = []
    for pixels in (0.0, 1.0):
        config = PhotometricConfig(silhouette=SilhouetteConfig(pixels=pixels))
        refined, _ = PhotometricRefiner(solver, plain, train, config, FitConfig()).refine(start)
        size = (truth.world_from_head / refined.world_from_head)[:, 2, 3] * (refined.log_focal - truth.log_focal).exp()
        errors.append(float((size[wrong].mean() - size[train].mean()).abs()))
    without, with_outline = errors
    assert without > 0.02
    assert with_outline < 0.6 * without  # landmarks still pull


def test_the_texture_holds_the_colors_of_the_surface() -> None:
    head = load_toy()
    truth = acted(head)
    surface = HeadSurface(head, 64)
    texture = lift_texture(surface, film(head, truth, False), truth, torch.arange(FRAMES), PhotometricConfig())
    layout = surface.layout
    expected = (painted(head)[layout.corners] * layout.bary[..., None]).sum(1)
    well_seen = texture.times_seen > 20
    assert well_seen.sum() > 200
    error = (texture.color - expected)[well_seen].abs()
    assert error.median() < 0.02
    assert error.quantile(0.95) < 0.1  # pupils and outlines are blurred by the pixels' size


def test_frames_that_training_may_not_see_do_not_reach_the_texture() -> None:
    head = load_toy()
    truth, train = acted(head), torch.arange(FRAMES) < 12
    pictures = film(head, truth, False)
    spoiled = replace(pictures, rgb=pictures.rgb.where(train[:, None, None, None], torch.tensor(0, dtype=torch.uint8)))
    first, second = (lift_texture(HeadSurface(head, 64), p, truth, train.nonzero()[:, 0], PhotometricConfig()) for p in (pictures, spoiled))
    assert torch.equal(first.color, second.color)


def test_a_sample_at_a_pixels_center_is_the_pixel() -> None:
    images = torch.randint(0, 256, (2, 7, 9, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rows, columns = torch.meshgrid(torch.arange(7), torch.arange(9), indexing="ij")
    pixels = torch.stack([columns, rows], -1).flatten(0, 1).expand(2, -1, -1) + 0.5
    torch.testing.assert_close(sample_pixels(images, pixels), images.flatten(1, 2).float() / 255)
    between = sample_pixels(images, torch.tensor([[[3.0, 2.5]]]).expand(2, -1, -1))
    torch.testing.assert_close(between[:, 0], (images[:, 2, 2].float() + images[:, 2, 3].float()) / 510)


def test_the_light_basis_is_orthogonal_on_the_sphere() -> None:
    directions = torch.nn.functional.normalize(torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    basis = light_basis(directions)
    gram = basis.T @ basis / len(basis)
    scale = gram.diag().rsqrt()
    torch.testing.assert_close(gram * scale[:, None] * scale, torch.eye(9), rtol=0, atol=0.015)  # six deviations of 200,000 draws


def test_two_folded_rows_give_the_normal_equations_of_three_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    slope, residual = torch.randn(3, 40, 3, 2, generator=generator), torch.randn(3, 40, 3, generator=generator)
    root, whitened = fold_channels(slope, residual)
    torch.testing.assert_close(root.transpose(-1, -2) @ root, slope.transpose(-1, -2) @ slope, rtol=1e-4, atol=1e-4)
    expected = (slope.transpose(-1, -2) @ residual[..., None])[..., 0]
    torch.testing.assert_close((root.transpose(-1, -2) @ whitened[..., None])[..., 0], expected, rtol=1e-4, atol=1e-4)
    flat_root, flat = fold_channels(torch.zeros(1, 1, 3, 2), residual[:1, :1])  # a picture without edges says nothing
    assert flat_root.abs().max() < 1e-3
    assert flat.abs().max() == 0
