"""Where brows, eyes, nose and mouth are in a picture, as the published method weights them."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deja_vu.core.batch import Batch
from deja_vu.heads.base import HeadModel
from deja_vu.heads.regions import BROW_LANDMARKS, EYES_MOUTH_REGIONS, region_faces
from deja_vu.render.mesh import rasterize_mesh

NOSE_LANDMARKS = (1, 2, 4, 5, 6, 48, 64, 94, 97, 98, 168, 195, 197, 278, 294, 326, 327)
"""MediaPipe's landmarks on the nose."""
MARGIN = 0.003
"""By which brows and nose reach beyond their landmarks, meters."""


def feature_faces(head: HeadModel) -> Bool[Tensor, " F"]:
    """Faces of brows, eyes, nose and mouth: regions of the head, and what lies in the boxes around its landmarks, seen from the front."""
    topology = head.topology
    named = [name for name in EYES_MOUTH_REGIONS if name in topology.regions]
    chosen = region_faces(topology, named) if named else torch.zeros(len(topology.faces), dtype=torch.bool)
    marks = topology.landmarks.get("mediapipe")
    if marks is None:
        return chosen
    points = head.at_points(marks.faces, marks.bary).template
    centers = head.template[topology.faces].mean(1)
    front = topology.regions["skin"] & (centers[:, 2] > head.template[:, 2].mean())
    for ids in (*BROW_LANDMARKS, NOSE_LANDMARKS):
        part = points[torch.isin(marks.ids, torch.tensor(ids))]
        if len(part) > 2:
            low, high = part[:, :2].amin(0) - MARGIN, part[:, :2].amax(0) + MARGIN
            chosen = chosen | (front & ((centers[:, :2] > low) & (centers[:, :2] < high)).all(1))
    return chosen


def feature_mask(head: HeadModel, batch: Batch, features: Bool[Tensor, " F"]) -> Float[Tensor, "B H W 1"]:
    """1 where a picture shows one of some faces of the tracked head, 0 elsewhere."""
    seen = rasterize_mesh(head(batch.params), head.topology.faces, batch.camera).face_id
    return ((seen >= 0) & features[seen.clamp_min(0)])[..., None].float()


def cut_out(batch: Batch) -> Batch:
    """The same frames with the head cut out by a hard mask, all else being background that counts in full wherever anything was filmed."""
    return replace(batch, head=(batch.head > 0.5).float(), loss_mask=batch.valid)
