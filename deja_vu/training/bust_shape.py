"""What a film shows of the torso: whether there is one, and its shape where the picture cuts it off.

Tracked shoulders that end beyond the picture are a guess, which usual torsos know better.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from deja_vu.core.batch import Batch
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.bust import BustModel, load_bust
from deja_vu.io.frames import FrameSource
from deja_vu.training.gaussian_config import BustConfig, LiftConfig
from deja_vu.uv.attach import vertex_normals
from deja_vu.uv.lift import sample_plane


def settle_shape(sequence: TrackedSequence, lift: LiftConfig, bust: BustConfig) -> Float[Tensor, " K"] | None:
    """Coefficients of the torso's own components that agree with the tracked ones where it was filmed, and are usual elsewhere.

    The tracker fits them to a matte that it lets go on beyond the picture, and there shoulders do not end.

    Args:
        sequence: training frames.
        lift: how many are looked at, and how closely.
        bust: how closely the filmed surface is kept.

    Returns:
        The same kind of coefficients as the sequence's, or none where it has none.
    """
    if sequence.torso_shape is None or not sequence.shows_person:
        return sequence.torso_shape
    source, model = FrameSource(sequence.person_window(), lift.resolution), load_bust()
    own, spread = sequence.torso_shape, evenly_spaced(lift.frames, len(sequence))
    filmed = torch.stack([shows_front(model, own, source.batch(position[None]), bust) for position in spread]).float().mean(0) > 0.5
    return keep_filmed(model.own_basis, own, filmed, bust)


def has_shoulders(sequence: TrackedSequence, lift: LiftConfig, bust: BustConfig) -> bool:
    """Whether the film shows a torso: data sets cut shoulders away and leave a head, or head and neck, on an empty ground.

    Where no torso was tracked, nothing can say that it does not.

    Args:
        sequence: training frames that have the wider window.
        lift: how many are looked at, and how closely.
        bust: how much of the front of the torso may lie where nobody is.
    """
    own = sequence.torso_shape
    if own is None:
        return True
    source, model = FrameSource(sequence.person_window(), lift.resolution), load_bust()
    shown, empty = torch.zeros(len(model.template)), torch.zeros(len(model.template))
    for position in evenly_spaced(lift.frames, len(sequence)):
        batch = source.batch(position[None])
        front = shows_front(model, own, batch, bust)
        shown += front
        empty += front & lies_apart(model(batch.params, own[None]), batch, bust)[0]
    cut = empty > bust.empty_share * shown
    return int(cut.sum()) <= bust.empty_part * int((shown > 0).sum())


def lies_apart(points: Float[Tensor, "B M 3"], batch: Batch, bust: BustConfig) -> Bool[Tensor, "B M"]:
    """Whether points project to where the frame shows nothing of the person, nor near it."""
    reach = round(bust.empty_reach * batch.camera.width)
    near = max_pool2d(batch.foreground.movedim(-1, 1), 2 * reach + 1, stride=1, padding=reach).movedim(1, -1)
    return sample_plane(near, points, batch.camera) < 0.5


def shows_front(model: BustModel, own: Float[Tensor, " K"], batch: Batch, bust: BustConfig) -> Bool[Tensor, " V"]:
    """Vertices of a bust that lie in a frame's picture, towards the camera or on the outline; what lies before them does not matter."""
    vertices = model(batch.params, own[None])
    normals = vertex_normals(vertices, model.topology.faces)
    facing = -(normals * normalize(vertices, dim=-1)).sum(-1)
    filmed = sample_plane(batch.valid, vertices, batch.camera) > 0.5
    return (filmed & (facing > -bust.shape_cosine))[0]


def keep_filmed(
    basis: Float[Tensor, "K V 3"], own: Float[Tensor, " K"], filmed: Bool[Tensor, " V"], bust: BustConfig
) -> Float[Tensor, " K"]:
    """The most probable coefficients, of unit variance, of which the filmed vertices' places are all that is known.

    Args:
        basis: displacement of every vertex for one standard deviation, meters.
        own: coefficients that place the filmed vertices.
        filmed: vertices.
        bust: deviation of these places, and how many of them say something of their own.
    """
    if not filmed.any():
        return torch.zeros_like(own)
    known = basis[:, filmed].flatten(1).double()
    gram = bust.shape_patches / int(filmed.sum()) / bust.shape_deviation**2 * known @ known.T
    return torch.linalg.solve(gram + torch.eye(len(own), dtype=torch.double), gram @ own.double()).to(own.dtype)
