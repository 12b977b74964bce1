"""A start from photos, and the network that corrects it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars import GaussianAvatar, GaussianConfig
from deja_vu.avatars.prior.atlas import Atlas, load_atlas
from deja_vu.avatars.prior.config import MouthConfig, PriorConfig
from deja_vu.avatars.prior.network import build_prior, load_prior, save_prior, shipped_chart
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.conventions import SH_C0
from deja_vu.core.errors import FormatError, MissingAssetError
from deja_vu.core.gaussians import CHANNELS, sh_to_rgb
from deja_vu.heads import load_head
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.nets.config import UVNetConfig
from deja_vu.nets.uv_unet import UVNet
from deja_vu.render.base import rasterize
from deja_vu.uv.hair import scalp_directions

SIDE, SIZE = 96, 64
SMALL = PriorConfig(head="toy", uv_size=SIZE, network=UVNetConfig(widths=(8, 16, 16), code=8, code_widths=(8, 8)), picture=32)
WHITE = torch.ones(3)


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return load_atlas("toy", SIZE)


def photographed(atlas: Atlas, yaws: tuple[float, ...]) -> Batch:
    """Photos of a head that is red on its left, blue on its right."""
    person = GaussianAvatar(atlas.head, torch.zeros(atlas.head.spec.num_shape), GaussianConfig(uv_size=SIZE, blend_size=64, blendmaps=0))
    points = person.surface(atlas.head.neutral((1,))).points[0]
    color = torch.where(points[:, :1] > 0, torch.tensor([0.9, 0.2, 0.2]), torch.tensor([0.2, 0.2, 0.9]))
    person.base[:, CHANNELS["color"]] = (color - 0.5) / SH_C0
    neutral = atlas.head.neutral((len(yaws),))
    pose = torch.eye(4).repeat(len(yaws), 1, 1)
    turn = torch.tensor([[0.0, yaw, 0.0] for yaw in yaws])
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(turn)
    pose[:, 2, 3] = 0.5
    params, camera = replace(neutral, world_from_head=pose), Camera.from_focal(150.0, SIDE, SIDE)
    with torch.no_grad():
        out = person.eval().render(params, camera, WHITE)
    ones = torch.ones_like(out.alpha)
    image = (out.rgb - (1 - out.alpha)) / out.alpha.clamp_min(0.02)
    return Batch(torch.arange(len(yaws)), image.clamp(0, 1), out.alpha, out.alpha, ones, ones, 0 * ones, params, camera)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def test_lifting_gives_the_photo_back(atlas):
    photo = photographed(atlas, (0.0,))
    with torch.no_grad():
        out = rasterize(atlas.gaussians(atlas.lift(photo), None, photo.params), photo.camera, WHITE)
    target = photo.image * photo.head + 1 - photo.head
    inside = photo.head[..., 0] > 0.99
    assert psnr(out.rgb[inside], target[inside]) > 24


def test_a_bald_head_stays_bald(atlas):
    """The silhouette already holds the Gaussians' own width: the lifted head must not be that much larger."""
    photo = photographed(atlas, (0.0,))
    with torch.no_grad():
        out = rasterize(atlas.gaussians(atlas.lift(photo), None, photo.params), photo.camera, WHITE)
    # A ring of one pixel around a head of about 60 is 7 % of its area.
    assert float(out.alpha.sum()) < 1.07 * float(photo.head.sum())


def test_what_lips_hide_has_the_colors_of_a_mouth_in_the_light_of_the_face():
    atlas = load_atlas("anny", SIZE)
    head = atlas.head
    portrait = replace(photographed(load_atlas("toy", SIZE), (0.0,)), params=head.neutral((1,)))
    pose = torch.eye(4)[None].clone()
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pose[:, 2, 3] = 0.6
    gray = torch.full_like(portrait.image, 0.4)
    photo = replace(portrait, image=gray, head=torch.ones_like(portrait.head), params=replace(portrait.params, world_from_head=pose))
    color = atlas.lift(photo).base[:, CHANNELS["color"]] * SH_C0 + 0.5
    regions = {name: head.topology.regions[name][atlas.layout.faces] for name in ("face", "tongue")}
    torch.testing.assert_close(color[regions["face"]].mean(0), torch.full((3,), 0.4), rtol=0, atol=0.01)
    tongue, points = color[regions["tongue"]], atlas.rest_surface(photo.params.shape[0]).points[0][regions["tongue"]]
    share = tongue / (torch.tensor(MouthConfig().tongue) * 0.4 / MouthConfig().face_light)
    torch.testing.assert_close(share, share[:, :1].expand(-1, 3), rtol=0, atol=0.01)
    assert share.min() > 0.9 * MouthConfig().min_light
    assert share.max() < 1.01
    tip, root = points[:, 2].argmax(), points[:, 2].argmin()
    assert share[tip].mean() > 1.5 * share[root].mean(), "the deeper the darker"


def test_more_photos_show_more(atlas):
    front, both = photographed(atlas, (0.0,)), photographed(atlas, (-0.9, 0.9))
    assert (atlas.lift(both).trust.amax(0) > 0.1).sum() > 1.2 * (atlas.lift(front).trust.amax(0) > 0.1).sum()


def test_one_side_is_completed_from_the_other(atlas):
    turned = atlas.lift(photographed(atlas, (1.2,)))
    color = turned.shared[:, :3]
    assert torch.isfinite(turned.base).all()
    assert ((color > -0.01) & (color < 1.01)).all()


@torch.no_grad()
def test_untrained_the_network_leaves_the_start(atlas):
    photos = photographed(atlas, (0.0, 0.5))
    start, residual = build_prior(SMALL).predict(photos)
    assert residual.shape == start.base.shape
    assert not residual.any()
    out = rasterize(atlas.gaussians(start, residual, photos.params), photos.camera, WHITE)
    plain = rasterize(atlas.gaussians(start, None, photos.params), photos.camera, WHITE)
    assert torch.equal(out.rgb, plain.rgb)


def test_gradients_reach_every_weight(atlas):
    photos, prior = photographed(atlas, (0.0, 0.5)), build_prior(SMALL)
    for parameter in prior.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    start = prior.lift(photos)
    residual = prior([start], prior.prepare_photos(photos)[None])[0]
    rasterize(atlas.gaussians(start, residual, photos.params), photos.camera, WHITE).rgb.square().sum().backward()
    silent = [name for name, parameter in prior.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert silent == []


@torch.no_grad()
def test_the_avatar_is_the_same_head(atlas):
    photo = photographed(atlas, (0.2,))
    start = atlas.lift(photo)
    residual = 0.05 * torch.randn(start.base.shape)
    avatar = atlas.avatar(start, residual, GaussianConfig(uv_size=SIZE, blend_size=64, blendmaps=0)).eval()
    ours = rasterize(atlas.gaussians(start, residual, photo.params), photo.camera, WHITE).rgb
    # The same sum in another order, float32.
    torch.testing.assert_close(avatar.render(photo.params, photo.camera, WHITE).rgb, ours, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_published_network_starts_from_a_plain_head(atlas):
    prior = build_prior(replace(SMALL, architecture="image"))
    photos = photographed(atlas, (0.0, 0.5))
    start, residual = prior.predict(photos)
    assert not start.base[:, CHANNELS["color"]].any()
    assert residual.any()
    # Its correction is the whole of the head's color: nothing is held back, at the rim or behind.
    assert torch.equal(residual, prior([start], prior.prepare_photos(photos)[None])[0])


def test_colors_of_unseen_hair_of_the_back_and_of_the_rim_hardly_move(atlas):
    prior = build_prior(SMALL)
    assert isinstance(prior.net, UVNet)
    torch.nn.init.constant_(prior.net.out.bias, 0.5)
    start, residual = prior.predict(photographed(atlas, (0.0,)))
    moved = residual[:, CHANNELS["color"]] * atlas.gains[CHANNELS["color"]] * SH_C0
    shape = residual[:, : CHANNELS["color"].start]
    torch.testing.assert_close(shape, torch.full_like(shape, 0.5))
    trust = start.trust.sum(0)
    rim = atlas.bare & (trust < prior.config.limit.skin_trust)
    face, side, back = (atlas.forward > 0.3) & ~rim, atlas.scalp & (atlas.forward < -0.2), atlas.forward < -0.7
    assert torch.allclose(moved[face], torch.tensor(0.5 * 4.0 * SH_C0))
    assert side.sum() > 100
    assert moved[side].max() < 0.101
    assert back.sum() > 100
    assert not moved[back].any()
    unseen = rim & (trust == 0)
    assert unseen.sum() > 20
    assert moved[unseen].max() < 0.051


@torch.no_grad()
def test_skin_at_the_rim_stays_solid(atlas):
    """The network may let skin through which no photo shows well shine what lies behind; what is seen well fades as it says."""
    prior = build_prior(SMALL)
    torch.nn.init.constant_(prior.net.out.bias, -0.5)
    start, residual = prior.predict(photographed(atlas, (0.0,)))
    opacity, trust = residual[:, CHANNELS["opacity_logit"].start], start.trust.sum(0)
    assert opacity[atlas.bare & (trust == 0)].abs().max() == 0
    assert torch.allclose(opacity[trust > prior.config.limit.skin_trust], torch.tensor(-0.5))


@torch.no_grad()
def test_hair_that_no_photo_shows_continues_what_is_seen(atlas):
    """Shown texels stay; the others stand at the height of the regression and take the hair's color, whatever the network said."""
    photos = photographed(atlas, (0.0,))
    start, residual = build_prior(SMALL).predict(photos)
    completed, color = atlas.complete(start, residual, photos), CHANNELS["color"]
    shown = torch.where(atlas.scalp, start.facing > atlas.config.round_to, ~atlas.bare | (start.trust.sum(0) > atlas.config.skin_to))
    assert completed[shown].abs().max() < 1e-5
    hidden = atlas.scalp & (start.facing < atlas.config.shown_from)
    assert hidden.sum() > 100
    whole = start.base + atlas.gains * completed
    torch.testing.assert_close(whole[hidden, CHANNELS["position"].stop - 1], start.hair[hidden], atol=1e-6, rtol=0)
    rgb = sh_to_rgb(whole[:, color]).clamp(0, 1)
    hair = atlas.scalp & (start.trust.sum(0) > atlas.config.mirror.trusted)
    assert (rgb[hidden] > rgb[hair].amin(0) - 0.1).float().mean() > 0.9
    assert (rgb[hidden] < rgb[hair].amax(0) + 0.1).float().mean() > 0.9


@torch.no_grad()
def test_a_crown_seen_at_a_glancing_angle_is_round_and_not_the_roof_of_a_hull(atlas):
    """A tall head of hair is photographed from the front: its outline alone tells how high it is, and the hull goes on along the view."""
    photos = photographed(atlas, (0.0,))
    tall = photos.foreground.clone()
    rows = torch.nonzero(tall[0, :, tall.shape[2] // 2, 0] > 0.5)[:, 0]
    raised = int(0.12 * len(rows))
    for _ in range(raised):  # the person's upper outline, moved up
        tall[:, :-1] = torch.maximum(tall[:, :-1], tall[:, 1:])
    photos = replace(photos, foreground=tall, head=tall)
    start = atlas.lift(photos)
    whole = start.base + atlas.gains * atlas.complete(start, None, photos)
    up = scalp_directions(atlas.rest_surface(start.shape).points[0], atlas.scalp)[:, 1]
    crown = atlas.scalp & (up > atlas.config.crown_to) & (start.facing < atlas.config.round_from)
    assert crown.sum() > 50
    lifted, rounded = (field[crown, CHANNELS["position"].stop - 1] for field in (start.base, whole))
    torch.testing.assert_close(rounded, start.hair[crown], atol=1e-6, rtol=0)
    assert rounded.mean() < lifted.mean() - 0.002
    front = atlas.scalp & (start.facing > atlas.config.round_to)
    torch.testing.assert_close(whole[front], start.base[front], atol=1e-5, rtol=0)


@torch.no_grad()
def test_skin_beside_the_heads_mask_takes_its_color_from_the_photo(atlas):
    """The mask ends before the neck does; the person there is green, and a start that heeds the mask alone says red and blue."""
    photos = photographed(atlas, (0.0,))
    beside = (torch.arange(SIDE) - SIDE / 2).abs()[None, None, :, None] > 10
    image = torch.where(beside, torch.tensor([0.1, 0.8, 0.1]), photos.image)
    photos = replace(photos, image=image, head=photos.head * ~beside)
    start = atlas.lift(photos)
    residual = atlas.complete(start, None, photos)
    before, after = (sh_to_rgb(base[:, CHANNELS["color"]]) for base in (start.base, start.base + atlas.gains * residual))
    pixels, _ = photos.camera.project(
        atlas.rest_surface(start.shape).points @ photos.params.world_from_head[0, :3, :3].T + photos.params.world_from_head[0, :3, 3]
    )
    offset = (pixels[0, :, 0] - SIDE / 2).abs()
    skin = atlas.bare & (start.facing > 0.6)
    green, kept = skin & (offset > 13), skin & (offset < 7)
    assert green.sum() > 20
    assert kept.sum() > 20
    assert (before[green, 1] < 0.4).float().mean() > 0.9
    assert (after[green, 1] > 0.6).float().mean() > 0.8  # a coarse head hides some of its own texels
    torch.testing.assert_close(after[kept], before[kept], atol=1e-5, rtol=0)


def test_round_trip_and_refusals(tmp_path, monkeypatch):
    prior = build_prior(SMALL)
    torch.nn.init.normal_(prior.net.out.weight)
    path = tmp_path / "prior.safetensors"
    save_prior(prior, path, {"note": "test"})
    again = load_prior(path)
    assert again.config == SMALL
    for name, value in prior.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float()), name
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FormatError, match="damaged"):
        load_prior(path)
    monkeypatch.setattr("deja_vu.avatars.prior.network.SHIPPED", "absent.safetensors")
    with pytest.raises(MissingAssetError, match="--init lifted"):
        load_prior()


def test_the_network_that_ships_fits_the_default_head_and_map() -> None:
    """Personalization begins with it by default, and without a word with something else where it is not found."""
    layout = GaussianAvatar(load_head("anny"), torch.zeros(load_head("anny").spec.num_shape), GaussianConfig()).layout
    assert shipped_chart() == layout.hash
    assert load_prior().atlas.layout.hash == layout.hash


def test_moving_an_avatar_leaves_the_head_of_its_atlas_where_it_is(atlas: Atlas) -> None:
    lifted = atlas.lift(photographed(atlas, (0.0,)))
    avatar = atlas.avatar(lifted, None, GaussianConfig(uv_size=SIZE, blend_size=64, blendmaps=0))
    avatar.to("meta")
    assert avatar.head.template.device.type == "meta"
    assert atlas.head.template.device.type == "cpu"
