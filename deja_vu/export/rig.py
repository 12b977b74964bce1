"""An avatar as plain named arrays: everything that a player in another language needs to move and draw it.

How a pose becomes Gaussians, with the names of the arrays (docs/guide/export.md lists them):
    features  f = [expression, 2 joints, 1.5 turn];  turn = half the skew part of (world_from_head rest_rotation^T)
    code      z = clamp((f - code_mean) code_components^T, code_low, code_high), shortened to code_reach;  w = code_mix (code_weight z)
              or, for the softmax code, w = softmax of the first K expressions;  for the codes `components` and `network`
              w = softmax(... code_layer_1 relu(code_layer_0 [expression, joint] + code_bias_0) + code_bias_1 ...), where the joint is
              number `code_joint` (-1: none), in radians
    corrected pose and expression, if there is a correction: linear in [code_weight z, 1]
    surface   rest = template + sum_e expression_e morphs_e (+ pose correctives), skinned by the parts' motions; a whole person's head
              and bust are one list of vertices, faces and texels, the head's first
    parts     the head's root, its joints and, of a whole person, `torso` and `neck_1` to `neck_3`: the torso's world-space motion is
              world_from_torso = world_from_head torso, of the pose before its correction; the neck's are
              world_from_torso exp(s log(world_from_torso^-1 world_from_skull)), s = 1/4, 1/2, 3/4, with the motion of joint `neck`
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
from deja_vu.avatars.gaussian.softmax_code import FaceSoftmax
from deja_vu.core.errors import InputError
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import PARTS as BUST_PARTS
from deja_vu.heads.bust import BustModel
from deja_vu.uv.layout import TexelTable

BODY = ("torso", "neck_1", "neck_2", "neck_3")
"""Parts of a whole person that are no joints of the head."""


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
        "parts": ["root", *spec.joint_names, *([] if avatar.bust is None else BODY)],
        "charts": _charts(avatar),
        "axes": avatar.config.axes,
        "code": avatar.config.code,
        "code_joint": _code_joint(avatar),
        "steps": {"joint": JOINT_SCALE, "turn": ROTATION_SCALE}
        | {"correct_rotation": ROTATION_STEP, "correct_translation": TRANSLATION_STEP, "correct_expression": EXPRESSION_STEP},
    }
    return Rig(facts, {name: _array(tensor) for name, tensor in tensors.items()})


def _array(tensor: Tensor) -> np.ndarray:
    kind = torch.float32 if tensor.is_floating_point() else torch.int32
    return np.ascontiguousarray(tensor.detach().to("cpu", kind).numpy())


def _charts(avatar: GaussianAvatar) -> list[dict[str, object]]:
    """Texels a side and texels among all of every chart, and the same of its blendmaps."""
    charts = avatar.charts
    names = ("head",) if charts.bust is None else ("head", "bust")
    blends = [charts.head_blend, *([] if charts.bust_blend is None else [charts.bust_blend])]
    return [
        {"name": name, "uv_size": layout.size, "texels": len(layout), "blend_size": blend.size, "blend_texels": len(blend)}
        for name, (layout, _), blend in zip(names, charts.parts, blends, strict=True)
    ]


def _surface(avatar: GaussianAvatar) -> dict[str, Tensor]:
    """Head and bust with the person's identity built in."""
    head, bust = avatar.head, avatar.bust
    neutral = replace(head.neutral(()), shape=avatar.shape)
    tensors = {
        "template": head.rest(neutral),
        "morphs": head.expression_basis,
        "pivots": head.joint_pivots + (avatar.shape @ head.joint_shape_basis.flatten(1)).unflatten(-1, (-1, 3)),
        "skin_weights": head.skin_weights,
        "faces": avatar.charts.binding.faces,
    }
    if head.pose_basis is not None:
        tensors["pose_morphs"] = head.pose_basis
    if bust is None:
        return tensors
    assert head.pose_basis is None, "the head with a bust has no pose correctives"
    return tensors | {
        "template": torch.cat([tensors["template"], bust.rest(neutral, avatar.torso_shape)]),
        "morphs": torch.cat([tensors["morphs"], bust.expression_basis], 1),
        "skin_weights": _join_weights(head, bust),
    }


def _join_weights(head: HeadModel, bust: BustModel) -> Tensor:
    """Skinning weights of the head's vertices and of the bust's, by the head's parts and `BODY`; the bust's head and jaw are joints."""
    parts = ("root", *head.spec.joint_names, *BODY)
    joined = head.skin_weights.new_zeros(len(head.template) + len(bust.template), len(parts))
    joined[: len(head.template), : head.spec.num_joints + 1] = head.skin_weights
    for column, part in enumerate(BUST_PARTS):
        joined[len(head.template) :, parts.index("neck" if part == "head" else part)] = bust.skin_weights[:, column]
    return joined


def _maps(avatar: GaussianAvatar) -> dict[str, Tensor]:
    """Texels, the global map and the blendmaps with their gains."""
    charts, layout = avatar.charts, avatar.charts.binding.layout
    faces = len(charts.binding.faces)
    tensors = {
        "texels": torch.cat([chart.texels for chart, _ in charts.parts]),
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
    coarse = [charts.head_blend.texels, *([] if charts.bust_blend is None else [charts.bust_blend.texels])]
    return tensors | {"taps": index, "tap_weights": weight, "blend_texels": torch.cat(coarse), "blendmaps": avatar.gains * avatar.blendmaps}


def _by_face(values: Tensor, layout: TexelTable, faces: int) -> Tensor:
    """What all texels of a face share, a row for each face; zero for faces without texels."""
    table = values.new_zeros(faces, *values.shape[1:])
    table[layout.faces] = values
    return table


def _code(avatar: GaussianAvatar) -> dict[str, Tensor]:
    """What the code learned, and the correction of tracked parameters."""
    code = avatar.code
    if avatar.config.blendmaps and isinstance(code, FaceSoftmax):
        named = enumerate(code.layers())
        return {f"code_{kind}_{number}": part for number, layer in named for kind, part in zip(("layer", "bias"), layer, strict=True)}
    if not avatar.config.blendmaps or not isinstance(code, LinearCode):
        return {}
    names = ("mean", "components", "weight", "reach", "low", "high", "mix", "rest_rotation")
    tensors = {f"code_{name}": getattr(code, name) for name in names}
    return tensors if avatar.correction is None else tensors | {"correction": avatar.correction.weight}


def _code_joint(avatar: GaussianAvatar) -> int:
    """Number of the joint on which the blend weights depend beside expressions, -1 for none or where all joints count."""
    jaw = avatar.code.jaw if isinstance(avatar.code, FaceSoftmax) else None
    return -1 if jaw is None else jaw
