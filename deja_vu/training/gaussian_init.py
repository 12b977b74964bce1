"""The initial Gaussian avatar: colors and hair lifted from frames, corrected by the prior, or a gray head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.avatars import GaussianAvatar
from deja_vu.avatars.gaussian.code_reader import GRIDS
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.avatars.gaussian.face_code import fitted_parts
from deja_vu.avatars.gaussian.published import in_head_axes
from deja_vu.avatars.prior.atlas import load_atlas
from deja_vu.avatars.prior.network import HeadPrior, load_prior, shipped_chart
from deja_vu.core.errors import ConfigError
from deja_vu.core.gaussians import CHANNELS, NUM_CHANNELS, rgb_to_sh, sh_to_rgb
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.heads.bust import BUST_HEAD
from deja_vu.io.frames import FrameSource
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.training.bust_init import lift_bust, lift_neck
from deja_vu.training.bust_shape import has_shoulders, settle_shape
from deja_vu.training.gaussian_config import GaussianTrainConfig, LiftConfig
from deja_vu.training.visibility import measure_coverage
from deja_vu.uv.binding import Resample
from deja_vu.uv.hair import HairRim, load_hair_prior, scalp_directions, smooth_heights
from deja_vu.uv.hull import HairHull
from deja_vu.uv.lift import ColorLift
from deja_vu.uv.strands import continue_hair

INIT_NOTES = {
    "prior": "what the frames show, corrected by the network for photos",
    "lifted": "what the frames show",
    "gray": "a bald gray head",
}
"""What is printed about each init."""


@torch.no_grad()
def init_avatar(sequence: TrackedSequence, config: GaussianTrainConfig) -> GaussianAvatar:
    """Avatar with the tracked identity; hair height and colors come from training frames, the blend code from their parameters.

    Args:
        sequence: training frames.
        config: sizes, and what to begin with.

    Raises:
        ConfigError: the prior to begin with is for another head, map size or kind of axes.
        MissingAssetError: no prior ships, and none is named.
    """
    avatar = make_blank(sequence, config)
    chosen = choose_init(avatar, config)
    print(f"training begins with {INIT_NOTES[chosen]} (init: {chosen})")
    if chosen == "gray":
        return avatar
    source = FrameSource(sequence, config.lift.resolution)
    if chosen == "prior" and avatar.config.axes == "head":
        begin_as_prior(avatar, source, config)
        return avatar
    lift_frames(avatar, source, config.lift)
    if avatar.shows_person:
        lift_bust(avatar, FrameSource(sequence.person_window(), config.lift.resolution), config.lift, config.bust)
    elif avatar.shows_neck:
        lift_neck(avatar, source, config.lift, config.bust)
    if chosen == "prior":
        add_prior(avatar, source, config)
    find_uncovered(avatar, source, config.lift)
    return avatar


def make_blank(sequence: TrackedSequence, config: GaussianTrainConfig) -> GaussianAvatar:
    """A gray, bald avatar of the tracked identity, whose blend code knows the video; torsos that the picture cuts off are as usual."""
    sizes = choose_sizes(sequence, config)
    whole = sizes.bust_size > 0 and sizes.bust_part == "whole"
    torso = settle_shape(sequence, config.lift, config.bust) if whole else sequence.torso_shape
    avatar = GaussianAvatar(load_head(sequence.info.head_name), sequence.params.shape[0], sizes, torso)
    avatar.code.fit(sequence.params)
    return avatar


def choose_sizes(sequence: TrackedSequence, config: GaussianTrainConfig) -> GaussianConfig:
    """The avatar's sizes, with a bust where one is asked for and the frames show it, and a reader where one is asked for."""
    parts = fitted_parts(load_head(sequence.info.head_name).topology)
    reads = config.reader.frames > 0 and config.avatar.axes == "tangent" and len(parts) == len(GRIDS)
    config = replace(config, avatar=replace(config.avatar, reader=reads))
    if config.avatar.axes == "head":
        return config.avatar
    whole = config.crop == "person" and sequence.shows_person and sequence.info.head_name == BUST_HEAD
    if config.crop == "person" and not whole:
        print("note: the tracked folder holds the head alone, and so will the avatar")
    if whole and not has_shoulders(sequence, config.lift, config.bust):
        print("note: the shoulders are cut away in this video: the avatar is a head on a neck that ends softly, as with --crop head")
        whole = False
    if sequence.info.head_name != BUST_HEAD:
        return config.avatar
    return replace(config.avatar, bust_size=config.bust.size, bust_part="whole" if whole else "neck")


def choose_init(avatar: GaussianAvatar, config: GaussianTrainConfig) -> Literal["prior", "lifted", "gray"]:
    """What `auto` comes to: the prior if one is named, or if the one that ships was trained for this head, map size and axes."""
    if config.init != "auto":
        return config.init
    fits = avatar.config.axes == "tangent" and shipped_chart() == avatar.layout.hash
    return "prior" if config.prior or fits else "lifted"


def lift_frames(avatar: GaussianAvatar, source: FrameSource, config: LiftConfig) -> None:
    """Hair height from silhouettes, colors from where texels are seen, and how little each was seen, in place."""
    head, count = avatar.head, len(source.sequence)
    layout, texels = avatar.charts.parts[0]
    spread = evenly_spaced(config.frames, count)
    if avatar.config.axes == "tangent":
        raise_hair(avatar, source, spread, config)
    lift = ColorLift(len(layout), config.min_trust)
    for position in spread:
        batch = source.batch(position[None])
        depth = rasterize_mesh(head(batch.params), head.topology.faces, batch.camera).depth
        surface = avatar.surface(batch.params).part(texels)
        raised = surface.points + (surface.frames @ avatar.base[texels, CHANNELS["position"], None])[..., 0]
        lift.add(replace(surface, points=raised), batch.camera, depth, batch.image, batch.head)
    atlas = load_atlas(source.sequence.info.head_name, avatar.config.uv_size)
    color = atlas.add_mouth(lift.colors(layout, avatar.scalp[texels]), lift.best)
    avatar.unseen[texels] = torch.exp(-lift.weight / len(spread) / config.unseen_below)
    avatar.held[texels] = hold_hidden(avatar, lift.facing, config)
    set_colors(avatar, color, config)


def raise_hair(avatar: GaussianAvatar, source: FrameSource, spread: Int[Tensor, " n"], config: LiftConfig) -> None:
    """Raise the base map over the scalp to the height of the person's hair, in place.

    At the sides and behind the face, hair gets its usual height next to the outline that frames show. The crown, which forms the outline
    when the head nods, is filled to the visual hull, rounded off where the hull is unbounded and would form a crest.

    Args:
        avatar: bald.
        source: frames.
        spread: those that are looked at.
        config: see there.
    """
    layout, texels = avatar.charts.parts[0]
    scalp, rest = avatar.scalp[texels], avatar.rest_surface().points[0, texels]
    rim, hull = HairRim(scalp, config.rim), HairHull(len(layout), config.hull)
    reach = config.visible_deviations * avatar.base[texels, CHANNELS["log_scale"].start].exp()
    for position in spread:
        batch = source.batch(position[None])
        surface = avatar.surface(batch.params).part(texels)
        drawn = avatar.render(batch.params, batch.camera, torch.zeros(3)).alpha[..., 0]
        rim.add(surface, batch.camera, batch.foreground, batch.valid, drawn)
        hull.add(surface, batch.camera, batch.foreground, batch.valid, reach)
    usual, directions = rim.estimate(rest, load_hair_prior()), scalp_directions(rest, scalp)
    crown = ((directions[:, 1] - config.crown_from) / (config.crown_to - config.crown_from)).clamp(0, 1)
    shown = ((hull.facing - config.hull_to) / (config.hull_from - config.hull_to)).clamp(0, 1)
    filled = torch.maximum(usual, usual.lerp(hull.estimate_heights(layout, scalp), crown * shown))
    if scalp.any():
        fixed = 1 - crown * (1 - rim.known_share())
        filled[scalp] = smooth_heights(directions[scalp], filled[scalp], fixed[scalp], config.crown_angle)
    heights = avatar.clothing_height()
    heights[texels] = filled
    avatar.raise_surface(heights)


def find_uncovered(avatar: GaussianAvatar, source: FrameSource, config: LiftConfig) -> None:
    """Find what neither faces the camera nor covers filmed pixels, in place; what does need not keep its shape.

    Args:
        avatar: ready for training but for this.
        source: frames.
        config: from which coverage on.
    """
    windows = [source]
    if avatar.shows_person:
        windows.append(FrameSource(source.sequence.person_window(), source.resolution))
    for window, (_, texels) in zip(windows, avatar.charts.parts[: len(windows)], strict=True):
        coverage = measure_coverage(avatar, window, evenly_spaced(config.frames, len(source.sequence)))[texels]
        facing = (avatar.unseen[texels] < config.example_unseen) & (coverage > 0)
        usual = coverage[facing].median() if facing.any() else torch.inf
        hidden = torch.exp(-coverage / (config.hidden_below * usual))
        avatar.uncovered[texels] = avatar.unseen[texels] * hidden
        if window is not source:
            avatar.held[texels, : CHANNELS["color"].start] *= hidden[:, None]


def hold_hidden(avatar: GaussianAvatar, facing: Float[Tensor, " M"], config: LiftConfig) -> Float[Tensor, "M 13"]:
    """How firmly each value of the head keeps to the base map.

    Hair that is turned away from all frames does, its color earlier than its place, the color of such parts of ears, and what of the mouth
    no frame shows.

    Args:
        avatar: whose unseen share is known.
        facing: largest cosine between each texel's normal and the direction to the camera in the frames.
        config: ranges.
    """
    layout, texels = avatar.charts.parts[0]
    regions, scalp = avatar.head.topology.regions, avatar.scalp[texels]
    ears = regions["ears"][layout.faces] if "ears" in regions else torch.zeros_like(scalp)
    place = scalp * ((config.averted_from - facing) / (config.averted_from - config.averted_to)).clamp(0, 1)
    color = ((config.color_averted_from - facing) / (config.color_averted_from - config.color_averted_to)).clamp(0, 1)
    held = place[:, None].repeat(1, NUM_CHANNELS)
    held[:, CHANNELS["color"]] = ((scalp | ears) * color)[:, None]
    held[avatar.inner[texels] & (avatar.unseen[texels] > config.mouth_unseen)] = 1
    return held


def set_colors(avatar: GaussianAvatar, color: Float[Tensor, "M 3"], config: LiftConfig) -> None:
    """Give the head's base map colors, in [0, 1]; hair that no frame shows continues what they show, in place."""
    texels = avatar.charts.parts[0][1]
    scalp, unseen = avatar.scalp[texels], avatar.unseen[texels]
    directions = scalp_directions(avatar.rest_surface().points[0, texels], scalp)
    filled = continue_hair(color, 1 - unseen, unseen < config.example_unseen, scalp, directions, config.strands)
    avatar.base[texels, CHANNELS["color"]] = rgb_to_sh(filled)


def add_prior(avatar: GaussianAvatar, source: FrameSource, config: GaussianTrainConfig) -> None:
    """Begin with the mean of what the prior makes of a few pairs of frames, in place.

    It was trained on one or two photos at a time, and corrects what is lifted from these: all frames at once would be less than the sum
    of their pairs, and a hull of many frames needs less correction than that of two. Its colors become the base map. All else that it
    moves becomes a first rectification of the lifted Gaussians, which stay what training holds to: they are solid from all sides, and
    fine detail grows better from regular ones.

    Raises:
        ConfigError: the prior is for another head, map size or kind of axes.
        MissingAssetError: no prior ships, and none is named.
    """
    prior = load_prior(Path(config.prior) if config.prior else None)
    if (avatar.layout.hash, avatar.config.axes) != (prior.atlas.layout.hash, "tangent"):
        raise ConfigError(
            f"The prior makes maps of {prior.config.uv_size} texels a side for head '{prior.config.head}' in tangent axes. "
            "Set the avatar's uv_size and axes to these, or init: lifted."
        )
    learned = mean_prediction(prior, source, config.lift.prior_frames)
    color, texels = CHANNELS["color"], avatar.charts.parts[0][1]
    set_colors(avatar, sh_to_rgb(learned[:, color]), config.lift)
    avatar.rectification[texels] = (learned - avatar.base[texels]) / avatar.gains * (1 - avatar.held[texels])


def begin_as_prior(avatar: GaussianAvatar, source: FrameSource, config: GaussianTrainConfig) -> None:
    """Make the mean of what the prior predicts from pairs of frames the base map of an avatar in head axes, in place.

    That is how the published method begins. A prior for maps of another size is brought to the avatar's.

    Raises:
        ConfigError: the prior is for another head.
        MissingAssetError: no prior ships, and none is named.
    """
    prior = load_prior(Path(config.prior) if config.prior else None)
    if prior.config.head != avatar.head.spec.name:
        raise ConfigError(
            f"The prior is for head '{prior.config.head}', the video was tracked with '{avatar.head.spec.name}'. "
            "Set gaussian.init: lifted, or train a prior for it: deja-vu generalize."
        )
    learned = mean_prediction(prior, source, config.lift.prior_frames)
    layout, texels = avatar.charts.parts[0]
    avatar.base[texels] = in_head_axes(Resample(prior.atlas.layout, layout)(learned), avatar.rest_surface().part(texels).frames[0])


def mean_prediction(prior: HeadPrior, source: FrameSource, frames: int) -> Float[Tensor, "M 13"]:
    """Mean raw map that a prior predicts from pairs of frames.

    Args:
        prior: see there.
        source: frames.
        frames: how many are shown, evenly spread.
    """
    shown = evenly_spaced(frames, len(source.sequence))
    made = [prior.predict(source.batch(pair)) for pair in shown.split(2)]
    return torch.stack([lifted.base + prior.atlas.gains * residual for lifted, residual in made]).mean(0)
