"""The fitted head and torso drawn over the video, to see at a glance whether tracking worked."""

from __future__ import annotations

from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.core.rate import is_even, usual_rate
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.base import HeadModel, surface_points
from deja_vu.heads.bust import BustModel, load_bust
from deja_vu.heads.regions import dropped_faces
from deja_vu.io.video import write_video
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.uv.attach import vertex_normals

SHADE = (205, 225, 255.0)
"""Color of a surface that faces the camera."""
COVER = 0.55
"""Share of the mesh where it is drawn over the face."""
TORSO_COVER = 0.3
"""Share of the mesh where it is drawn over the torso, of which more is to be seen."""
LINE_COVER = 0.6
"""Opacity of the lines on it."""
LINE_COLOR = (255, 170, 60.0)
"""Of the lines on the torso and of its outline."""
OVERLAY = "overlay.mp4"
"""In a tracked folder."""
LINE_SPACING = 0.04
"""Between the lines on the torso, meters."""


def write_overlay(head: HeadModel, sequence: TrackedSequence, path: Path, stopped: Event | None = None) -> None:
    """Video of the crop beside the same with the shaded mesh and landmarks' surface points as dots.

    Where the torso was tracked, the window that holds it follows, with its outline and a grid that is fixed to it.

    Args:
        head: model.
        sequence: tracked video.
        path: file to write.
        stopped: once it is set, nothing more is drawn, and no file is left.

    Raises:
        OutputError: the file cannot be written.
        CancelledError: it was stopped.
    """
    bust = None if sequence.torso_shape is None else load_bust()
    person = None if bust is None else sequence.person_window()

    def join(position: int) -> UInt8[np.ndarray, "H W 3"]:
        if stopped is not None and stopped.is_set():
            raise CancelledError
        panels = draw(head, sequence, position)
        return panels if bust is None or person is None else np.concatenate([panels, draw_torso(head, bust, person, position)], axis=1)

    frames = (join(position) for position in range(len(sequence)))
    fps = usual_rate(sequence.times, sequence.info.fps)
    write_video(path, frames, fps, times=None if is_even(sequence.times, fps) else sequence.times.tolist())


@torch.no_grad()
def draw(head: HeadModel, sequence: TrackedSequence, position: int) -> np.ndarray:
    """One frame of the overlay, uint8 [H W 3]."""
    image = sequence.frame(position).image.numpy()
    params = sequence.params[torch.tensor([position])]
    vertices, faces = head(params), head.topology.faces
    side = image.shape[0] // 2
    fragments = rasterize_mesh(vertices, faces, sequence.camera.resize(side, side))
    facing = -vertex_normals(vertices, faces)[0, :, 2]
    corners = faces[fragments.face_id[0].clamp_min(0).long()]
    shade = (facing[corners] * fragments.bary[0]).sum(-1).clamp(0, 1).numpy()
    covered = cv2.resize((fragments.face_id[0] >= 0).float().numpy(), image.shape[1::-1])[..., None] * COVER
    gray = cv2.resize(shade, image.shape[1::-1])[..., None] * np.array(SHADE)
    blended = (image * (1 - covered) + gray * covered).astype(np.uint8)
    marks = head.topology.landmarks["mediapipe"]
    pixels, _ = sequence.camera.project(surface_points(vertices, faces[marks.faces], marks.bary))
    for x, y in pixels[0].numpy():
        cv2.circle(blended, (int(x), int(y)), 1, (20, 160, 60), -1)
    return np.concatenate([image, blended], axis=1)


@torch.no_grad()
def draw_torso(head: HeadModel, bust: BustModel, person: TrackedSequence, position: int) -> UInt8[np.ndarray, "H W 3"]:
    """One frame of the window that holds the torso, with its surface, a grid fixed to it, and its outline.

    Args:
        head: model.
        bust: below it.
        person: the tracked video in that window.
        position: of the frame.
    """
    image = person.frame(position).image.numpy()
    params = person.params[torch.tensor([position])]
    clothes, rest = _dress(bust, params, person.torso_shape)
    # The head is drawn as well where it hides the torso.
    faces = torch.cat([bust.topology.faces, head.topology.faces[~dropped_faces(head.topology)] + len(rest)])
    shown = rasterize_mesh(torch.cat([clothes, head(params)], 1), faces, person.camera)
    torso = (shown.face_id[0] >= 0) & (shown.face_id[0] < len(bust.topology.faces))
    corners = bust.topology.faces[shown.face_id[0][torso]]
    values = torch.cat([-vertex_normals(clothes, bust.topology.faces)[0, :, 2:], rest[:, :2] / LINE_SPACING], 1)
    facing, *place = (values[corners] * shown.bary[0][torso][..., None]).sum(1).unbind(1)
    cell = np.zeros((*torso.shape, 2), np.int16)
    cell[torso.numpy()] = torch.stack(place, 1).floor().numpy()
    lines = np.zeros(torso.shape, bool)
    lines[1:] |= (cell[1:] != cell[:-1]).any(-1)
    lines[:, 1:] |= (cell[:, 1:] != cell[:, :-1]).any(-1)
    color = np.where(lines[torso.numpy()][:, None], np.array(LINE_COLOR), facing.clamp(0, 1)[:, None].numpy() * np.array(SHADE))
    cover = np.where(lines[torso.numpy()], LINE_COVER, TORSO_COVER)[:, None]
    drawn = np.ascontiguousarray(image)
    drawn[torso.numpy()] = drawn[torso.numpy()] * (1 - cover) + color * cover
    rims, _ = cv2.findContours(torso.numpy().astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, rims, -1, LINE_COLOR, 1, cv2.LINE_AA)
    return drawn


def _dress(bust: BustModel, params: HeadParams, own: Float[Tensor, " K"] | None) -> tuple[Float[Tensor, "1 V 3"], Float[Tensor, "V 3"]]:
    """The bust in usual clothes, posed, and its skin at rest."""
    own = None if own is None else own[None]
    rest = bust.rest(params, own)
    skin, _ = bust.skin(rest, params)
    return skin + bust.clothing[:, None] * vertex_normals(skin, bust.topology.faces), rest[0]
