"""An avatar as plain named arrays: everything a player in another language needs to move and draw it.

How a pose becomes Gaussians, with the names of the arrays (docs/guide/export.md lists them):
    features  f = [expression, 2 joints, 1.5 turn];  turn = half the skew part of (world_from_head rest_rotation^T)
    code      z = clamp((f - code_mean) code_components^T, code_low, code_high), shortened to code_reach;  w = code_mix (code_weight z)
              or, for the softmax code, w = softmax of the first K expressions
    corrected pose and expression, if there is a correction: linear in [code_weight z, 1]
    surface   rest = template + sum_e expression_e morphs_e (+ pose correctives), skinned by the parts' motions
    map       raw + sum_t tap_weights_t (sum_k w_k blendmaps_k)[taps_t], 13 channels in the order of `channels`
    Gaussian  on the texel's tangent frame, as deja_vu.uv.attach says
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from deja_vu.avatars import GaussianAvatar
from deja_vu.avatars.gaussian.blend_weights import JOINT_SCALE, ROTATION_SCALE, LinearCode
from deja_vu.avatars.gaussian.correction import EXPRESSION_STEP, ROTATION_STEP, TRANSLATION_STEP
from deja_vu.core.errors import InputError
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.head import HeadParams
from deja_vu.uv.layout import UVLayout


@dataclass(frozen=True)
class Rig:
    """A drivable avatar without any code of ours."""

    facts: dict[str, object]
    """Names, sizes and constants; JSON."""
    arrays: dict[str, np.ndarray]
    """float32 and int32."""


@torch.no_grad()
def build_rig(avatar: GaussianAvatar, rest: HeadParams) -> Rig:
    """Read an avatar out.

    Args:
        avatar: a Gaussian avatar.
        rest: the person at rest, a batch of one.

    Raises:
        InputError: the avatar has no Gaussians.
    """
    if "gaussians" not in avatar.capabilities:
        raise InputError(f"A {type(avatar).__name__} has no Gaussian maps to export. Personalize a Gaussian avatar.")
    tensors = _surface(avatar) | _maps(avatar) | _code(avatar)
    tensors |= {f"rest_{name}": getattr(rest, name)[0] for name in ("expression", "joints", "world_from_head", "torso")}
    spec = avatar.head.spec
    facts = {
        "head": spec.name,
        "expressions": list(spec.expression_names),
        "joints": list(spec.joint_names),
        "parents": list(avatar.head.parents),
        "channels": {name: [channel.start, channel.stop] for name, channel in CHANNELS.items()},
        "uv_size": avatar.config.uv_size,
        "blend_size": avatar.config.blend_size,
        "axes": avatar.config.axes,
        "code": avatar.config.code,
        "steps": {"joint": JOINT_SCALE, "turn": ROTATION_SCALE}
        | {"correct_rotation": ROTATION_STEP, "correct_translation": TRANSLATION_STEP, "correct_expression": EXPRESSION_STEP},
    }
    return Rig(facts, {name: _array(tensor) for name, tensor in tensors.items()})


def _array(tensor: Tensor) -> np.ndarray:
    kind = torch.float32 if tensor.is_floating_point() else torch.int32
    return np.ascontiguousarray(tensor.detach().to("cpu", kind).numpy())


def _surface(avatar: GaussianAvatar) -> dict[str, Tensor]:
    """The head with the person's identity built in."""
    head = avatar.head
    neutral = replace(head.neutral(()), shape=avatar.shape)
    tensors = {
        "template": head.rest(neutral),
        "morphs": head.expression_basis,
        "pivots": head.joint_pivots + (avatar.shape @ head.joint_shape_basis.flatten(1)).unflatten(-1, (-1, 3)),
        "skin_weights": head.skin_weights,
        "faces": head.topology.faces,
    }
    return tensors if head.pose_basis is None else tensors | {"pose_morphs": head.pose_basis}


def _maps(avatar: GaussianAvatar) -> dict[str, Tensor]:
    """Texels, the global map and the blendmaps with their gains."""
    layout, faces = avatar.layout, len(avatar.head.topology.faces)
    tensors = {
        "texels": layout.texels,
        "texel_faces": layout.faces,
        "bary": layout.bary,
        "face_gradients": _by_face(layout.uv_gradient, layout, faces),
        "face_stretch": _by_face(avatar.rest_stretch, layout, faces),
        "raw": avatar.base + avatar.gains * avatar.rectification,
    }
    if not avatar.config.blendmaps:
        return tensors
    own = torch.arange(len(layout))
    taps = (own[:, None].repeat(1, 4), torch.eye(4)[0].repeat(len(layout), 1))  # a map as fine as the blendmaps takes its own texel
    index, weight = taps if avatar.upsample is None else (avatar.upsample.index, avatar.upsample.weight)
    coarse = avatar.charts.head_blend.texels
    return tensors | {"taps": index, "tap_weights": weight, "blend_texels": coarse, "blendmaps": avatar.gains * avatar.blendmaps}


def _by_face(values: Tensor, layout: UVLayout, faces: int) -> Tensor:
    """What all texels of a face share, a row for each face; zero for faces without texels."""
    table = values.new_zeros(faces, *values.shape[1:])
    table[layout.faces] = values
    return table


def _code(avatar: GaussianAvatar) -> dict[str, Tensor]:
    """What the linear code learned, and the correction of tracked parameters."""
    code = avatar.code
    if not avatar.config.blendmaps or not isinstance(code, LinearCode):
        return {}
    names = ("mean", "components", "weight", "reach", "low", "high", "mix", "rest_rotation")
    tensors = {f"code_{name}": getattr(code, name) for name in names}
    return tensors if avatar.correction is None else tensors | {"correction": avatar.correction.weight}
