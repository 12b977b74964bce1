"""Track the torso below a head that is solved: by the colors of clothes, the shoulders' outline, and what torsos do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d

from deja_vu.core.sampling import evenly_spaced
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import BUST_HEAD, BustModel, load_bust
from deja_vu.heads.skinning import invert_motion, matrix_to_axis_angle
from deja_vu.tracking.config import SilhouetteConfig, TorsoConfig
from deja_vu.tracking.normal_equations import NormalEquations
from deja_vu.tracking.silhouette import Silhouettes, mean_distance
from deja_vu.tracking.state import POSE, TrackState
from deja_vu.tracking.terms import ColorTerm, SilhouetteTerm, Term
from deja_vu.tracking.texture import CHUNK_FRAMES, Crops, lift_texture, weigh_points
from deja_vu.tracking.torso_priors import TorsoPriors, TorsoState
from deja_vu.tracking.torso_surface import TorsoSurface, hide_behind_head


def track_torso(
    head: HeadModel, state: TrackState, crops: Crops, train: Bool[Tensor, " T"], times: Float[Tensor, " T"], config: TorsoConfig
) -> tuple[TrackState, tuple[str, ...]]:
    """Find the torso's pose in every frame and its shape.

    Args:
        head: model; a torso follows one that has no bust as one piece.
        state: of the solved head.
        crops: small copies of the window with the torso.
        train: frames from which shape and texture are taken.
        times: of the frames, seconds.
        config: recipe.

    Returns:
        The same video with `torso` and `torso_shape`, and what the user should know of it.
    """
    if head.spec.name != BUST_HEAD:
        return state, ()
    with torch.no_grad():
        tracker = TorsoTracker(head, load_bust(), state, crops, train.nonzero()[:, 0], times, config)
        found = tracker.track()
        return found, tracker.doubt(found)


class TorsoTracker:
    """Alternates between what training frames look like and moving the torso of all frames onto it; the head stays as it is."""

    def __init__(
        self,
        head: HeadModel,
        bust: BustModel,
        solved: TrackState,
        crops: Crops,
        train: Int[Tensor, " n"],
        times: Float[Tensor, " T"],
        config: TorsoConfig,
    ) -> None:
        """Choose surface points and measure the mattes.

        Args:
            head: model.
            bust: below it.
            solved: the head's state.
            crops: small copies of the window with the torso.
            train: frames from which shape and texture are taken.
            times: of the frames, seconds.
            config: recipe.
        """
        self.solved, self.train, self.config = solved, train, config
        self.crops = replace(crops, alpha=crops.alpha * (crops.valid > 127))
        self.continued = _continue_matte(crops.alpha, crops.valid)
        self.silhouettes = Silhouettes(self.continued, crops.valid, self._unbounded(config.outline))
        hidden = hide_behind_head(head, solved, crops.camera, config)
        self.clothes = TorsoSurface.of(bust, hidden, config.color.point_grid, config)
        self.ridge = TorsoSurface.of(bust, hidden, config.outline_grid, config)
        self.priors = TorsoPriors.of(head, solved, self.clothes.pivot, times, config)

    def track(self) -> TrackState:
        """The video with `torso` and `torso_shape`."""
        color, everything = self.config.color, torch.arange(len(self.solved.expression))
        state = self.priors.begin(self.solved)
        for _ in range(color.steps):
            state = _step(self.priors, state, (), with_shape=False)
        state, inset = self._fit_shape(state)
        outline = SilhouetteTerm(self.ridge, self.silhouettes, self.crops.camera, everything, inset, self.config.outline)
        for turn in range(color.rounds + 1):
            terms: list[Term] = [outline]
            if turn:
                texture = lift_texture(self.clothes, self.crops, state.track, self._pick(color.texture_frames), color)
                terms.append(ColorTerm(self.clothes, texture, self.crops, everything, color))
            for _ in range(color.steps):
                state = _step(self.priors, state, terms, with_shape=False)
        return state.track

    def doubt(self, found: TrackState) -> tuple[str, ...]:
        """What the user should know: that the film hardly shows the torso, or that it is turned far away from the head."""
        config, camera, shares = self.config, found.camera(self.crops.camera), []
        for chunk in evenly_spaced(config.shape_frames, len(found.expression)).split(CHUNK_FRAMES):
            view = self.clothes.view(found, chunk, camera)
            seen = weigh_points(view, self.crops.alpha[chunk], config.color) > 0
            shares.append(seen.sum(1) / (view.facing > config.color.min_facing).sum(1).clamp_min(1))
        share = float(torch.cat(shares).median())
        turn = float(torch.rad2deg(matrix_to_axis_angle(found.torso[:, :3, :3]).norm(dim=1)).median())
        notes = []
        if share < config.min_seen:
            notes.append(f"the film shows {share:.0%} of the torso's front, so its pose is guessed from the head's; film from farther.")
        if turn > config.max_turn:
            notes.append(f"the torso is turned {turn:.0f} degrees away from the head; up to {config.max_turn:.0f} it can be relied on.")
        return tuple(notes)

    def _fit_shape(self, state: TorsoState) -> tuple[TorsoState, Float[Tensor, " P"]]:
        """Fit the shape to the outlines of training frames; what it leaves is how far each point lies inside the matte."""
        config, picked = self.config, self._pick(self.config.shape_frames)
        some, priors = TorsoState(state.track.select(picked), state.mean), self.priors.select(picked)
        for outline, steps in ((self._coarse_outline(picked), config.coarse_steps), (self._fine_outline(picked), config.shape_steps)):
            for _ in range(steps):
                some = _step(priors, some, (outline,), with_shape=True)
        inset = self._find_inset(some.track, picked)
        moved = some.mean @ invert_motion(state.mean) @ state.track.params().world_from_torso
        torso = invert_motion(state.track.world_from_head) @ moved
        return TorsoState(replace(state.track, torso=torso, torso_shape=some.track.torso_shape), some.mean), inset

    def _coarse_outline(self, picked: Int[Tensor, " n"]) -> SilhouetteTerm:
        """For a torso that is far from where it belongs: on mattes of half the side, where distances reach twice as far."""
        config, side = self.config.outline, self.crops.camera.width // 2
        alpha = avg_pool2d(self.continued[picked][:, None].float(), 2)[:, 0].to(torch.uint8)
        valid = 255 * (avg_pool2d(self.crops.valid[None].float(), 2)[0] > 254).to(torch.uint8)
        silhouettes = Silhouettes(alpha, valid, self._unbounded(replace(config, max_distance=self.config.coarse_distance / 2)))
        return SilhouetteTerm(
            surface=self.ridge.select(picked),
            silhouettes=silhouettes,
            window=self.crops.camera.resize(side, side),
            source=torch.arange(len(picked)),
            inset=torch.zeros(len(self.ridge.layout)),
            config=replace(config, pixels=self.config.coarse_pixels / 2, robust=self.config.coarse_robust),
        )

    def _fine_outline(self, picked: Int[Tensor, " n"]) -> SilhouetteTerm:
        return SilhouetteTerm(
            surface=self.ridge.select(picked),
            silhouettes=self.silhouettes,
            window=self.crops.camera,
            source=picked,
            inset=torch.zeros(len(self.ridge.layout)),
            config=self._loosen(self.config.shape_pixels, len(picked)),
        )

    def _unbounded(self, outline: SilhouetteConfig) -> SilhouetteConfig:
        """The same where something unknown may be nearer than the border, for mattes that go on where nothing was filmed."""
        return replace(outline, unknown_nearer=-float(self.crops.camera.width))

    def _loosen(self, pixels: float, frames: int) -> SilhouetteConfig:
        """The outline's deviations while the shape is solved: clothes differ from usual ones, and alike in all frames."""
        repeated = max(1.0, frames / self.config.shape_independent)
        return replace(self.config.outline, pixels=pixels, correlation=self.config.outline.correlation * repeated)

    def _find_inset(self, track: TrackState, frames: Int[Tensor, " n"]) -> Float[Tensor, " P"]:
        """How far inside the matte's border each point lies on average when it is on the outline: what clothes add or take."""
        config, camera = self.config.outline, track.camera(self.crops.camera)
        contours = [
            self.silhouettes.find_contour(frames[chunk], self.ridge.project(track, chunk, camera), self.ridge.outer)
            for chunk in torch.arange(len(frames)).split(CHUNK_FRAMES)
        ]
        return mean_distance(contours, self.ridge.layout, config.pixels * config.robust)

    def _pick(self, count: int) -> Int[Tensor, " m"]:
        """At most so many of the training frames, evenly spaced."""
        return self.train[evenly_spaced(count, len(self.train))]


def _continue_matte(alpha: UInt8[Tensor, "T H W"], valid: UInt8[Tensor, "H W"]) -> UInt8[Tensor, "T H W"]:
    """Mattes that repeat the nearest filmed pixel where nothing was filmed: shoulders do not end where the picture does."""
    rows, columns = ((valid > 127).any(axis).nonzero()[:, 0] for axis in (1, 0))
    row, column = (torch.arange(len(valid)).clamp(int(filmed[0]), int(filmed[-1])) for filmed in (rows, columns))
    return alpha[:, row][:, :, column]


def _step(priors: TorsoPriors, state: TorsoState, terms: Sequence[Term], *, with_shape: bool) -> TorsoState:
    """One Gauss-Newton step of the torso's pose in all frames, of its mean, and of the shape if asked for."""
    shape = len(state.track.torso_shape) if with_shape else 0
    system = NormalEquations.zeros(len(priors.times), POSE, POSE + shape)
    for term in terms:
        term.add(system, state.track)
    priors.add(system, state)
    return priors.step(state, *system.solve(priors.coupling, priors.change(state)))
