"""An avatar read out as arrays is complete: NumPy and SciPy alone rebuild its Gaussians, by the description in `deja_vu.export.rig`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation

from deja_vu.avatars.gaussian.config import CodeNetworkConfig, GaussianConfig
from deja_vu.export.npz import write_npz
from deja_vu.export.rig import build_rig


def code_weights(rig, facts, expression, joints, pose):
    """Weights of the blendmaps, and pose and expression as corrected."""
    if facts["code"] == "softmax":
        powers = np.exp(expression[: len(rig["blendmaps"])])
        return powers / powers.sum(), expression, pose
    if facts["code"] in ("components", "network"):
        values = np.concatenate([expression, joints[facts["code_joint"]]])
        values = rig["code_layer_0"] @ values + rig["code_bias_0"]
        for number in range(1, 3 if facts["code"] == "network" else 1):
            values = rig[f"code_layer_{number}"] @ np.maximum(values, 0) + rig[f"code_bias_{number}"]
        powers = np.exp(values)
        return powers / powers.sum(), expression, pose
    skew = pose[:3, :3] @ rig["code_rest_rotation"].T
    skew = (skew - skew.T) / 2
    features = np.concatenate([expression, 2 * joints.ravel(), 1.5 * np.array([skew[2, 1], skew[0, 2], skew[1, 0]])])
    z = np.clip(rig["code_components"] @ (features - rig["code_mean"]), rig["code_low"], rig["code_high"])
    z = rig["code_weight"] * z / max(1.0, np.linalg.norm(z) / rig["code_reach"])
    if "correction" in rig:
        delta = np.append(z, 1) @ rig["correction"]
        pose = pose.copy()
        pose[:3, :3] = Rotation.from_rotvec(0.05 * delta[:3]).as_matrix() @ pose[:3, :3]
        pose[:3, 3] += 0.005 * delta[3:6]
        expression = expression + 0.3 * delta[6:]
    return rig["code_mix"] @ z, expression, pose


def between(torso, skull):
    """Motions a quarter, half and three quarters of the screw's way from one pose to the other."""
    screw = logm(np.linalg.inv(torso) @ skull).real
    return [torso @ expm(share * screw) for share in (0.25, 0.5, 0.75)]


def vertices(rig, facts, expression, joints, pose, torso):
    rest = rig["template"] + np.einsum("e,evc->vc", expression, rig["morphs"])
    parts = [np.eye(4)]
    for rotvec, pivot, parent in zip(joints, rig["pivots"], facts["parents"], strict=True):
        about = np.eye(4)
        about[:3, :3] = Rotation.from_rotvec(rotvec).as_matrix()
        about[:3, 3] = pivot - about[:3, :3] @ pivot
        parts.append(parts[parent + 1] @ about)
    moved = list(pose @ np.stack(parts))
    if "torso" in facts["parts"]:
        assert facts["parts"][-4:] == ["torso", "neck_1", "neck_2", "neck_3"]
        moved += [torso, *between(torso, moved[facts["parts"].index("neck")])]
    assert len(moved) == len(facts["parts"])
    blended = np.einsum("vj,jab->vab", rig["skin_weights"], np.stack(moved))
    return np.einsum("vab,vb->va", blended[:, :3, :3], rest) + blended[:, :3, 3]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def gaussians(rig, facts, expression, joints, pose, torso):
    """Centers, covariances, opacities and colors."""
    torso = pose @ torso
    weights, expression, pose = code_weights(rig, facts, expression, joints, pose)
    surface = vertices(rig, facts, expression, joints, pose, torso)
    blend = np.einsum("k,kmc->mc", weights, rig["blendmaps"])
    raw = rig["raw"] + np.einsum("mt,mtc->mc", rig["tap_weights"], blend[rig["taps"]])
    part = {name: raw[:, start:stop] for name, (start, stop) in facts["channels"].items()}

    a, b, c = (surface[rig["faces"][:, k]] for k in range(3))
    normals = np.zeros_like(surface)
    for k in range(3):
        np.add.at(normals, rig["faces"][:, k], np.cross(b - a, c - a))
    normals = unit(normals)
    corners, gradient = rig["faces"][rig["texel_faces"]], rig["face_gradients"][rig["texel_faces"]]
    a, b, c = (surface[corners[:, k]] for k in range(3))
    bary = rig["bary"]
    points = bary[:, :1] * a + bary[:, 1:2] * b + bary[:, 2:] * c
    normal = unit(sum(bary[:, k, None] * normals[corners[:, k]] for k in range(3)))
    along = gradient[:, :1] * (b - a) + gradient[:, 1:] * (c - a)
    tangent = unit(along - (along * normal).sum(1, keepdims=True) * normal)
    frames = np.stack([tangent, np.cross(normal, tangent), normal], -1)
    if facts["axes"] == "head":
        frames = np.broadcast_to(pose[:3, :3], frames.shape)
    stretch = np.clip(np.sqrt(np.linalg.norm(np.cross(b - a, c - a), axis=1)) / rig["face_stretch"][rig["texel_faces"]], 0.5, 2)[:, None]
    scales = np.exp(part["log_scale"]) * np.concatenate([stretch, stretch, np.ones_like(stretch)], 1)
    local = Rotation.from_quat(np.concatenate([part["rotation"], np.ones((len(raw), 1))], 1)).as_matrix()
    axes = frames @ local * scales[:, None, :]
    means = points + np.einsum("mab,mb->ma", frames, part["position"])
    return means, axes @ axes.transpose(0, 2, 1), 1 / (1 + np.exp(-part["opacity_logit"][:, 0])), part["color"]


SHORT = CodeNetworkConfig(steps=50)
VARIANTS = {
    "default": GaussianConfig(uv_size=96, blend_size=64, blendmaps=3),
    "tracked": GaussianConfig(uv_size=96, blend_size=64, blendmaps=3, correction=False),
    "paper": GaussianConfig(uv_size=64, blend_size=64, blendmaps=4, code="softmax", axes="head"),
    "components": GaussianConfig(uv_size=64, blend_size=64, blendmaps=4, code="components", axes="head"),
    "network": GaussianConfig(uv_size=64, blend_size=64, blendmaps=4, code="network", axes="head", code_network=SHORT),
}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_numpy_alone_rebuilds_the_gaussians(config, make_avatar, pose, rest, tmp_path):
    assert_rebuilt(make_avatar(config), pose, rest, tmp_path)


@pytest.mark.parametrize("frame", [0, 4, 9])
def test_numpy_alone_rebuilds_a_whole_person(frame, person, person_motion, person_rest, tmp_path):
    assert_rebuilt(person, person_motion[frame : frame + 1], person_rest, tmp_path)


def test_numpy_alone_rebuilds_a_head_on_a_neck(head_on_neck, person_motion, person_rest, tmp_path):
    assert_rebuilt(head_on_neck, person_motion[4:5], person_rest, tmp_path)


def assert_rebuilt(avatar, pose, rest, tmp_path):
    write_npz(build_rig(avatar, rest), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        rig, facts = dict(archive), json.loads(str(archive["facts"]))
        assert str(archive["format"]) == "deja-vu rig/2"
    values = (tensor[0].double().numpy() for tensor in (pose.expression, pose.joints, pose.world_from_head, pose.torso))
    means, covariances, opacities, colors = gaussians(rig, facts, *values)
    with torch.no_grad():
        ours = avatar.gaussians(pose)[0]
    rotations = Rotation.from_quat(ours.quats[:, [1, 2, 3, 0]].double().numpy()).as_matrix()
    axes = rotations * ours.scales.double().numpy()[:, None, :]
    # float32 against float64: a relative rounding of 1e-6 on half a meter, and on products of scales.
    np.testing.assert_allclose(means, ours.means, rtol=0, atol=4e-6 if avatar.bust else 2e-6)  # a person stands further away
    expected = axes @ axes.transpose(0, 2, 1)
    assert np.abs(covariances - expected).max() < 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(opacities, ours.opacities, rtol=0, atol=1e-6)
    np.testing.assert_allclose(colors, ours.sh[:, 0], rtol=0, atol=1e-5)


def test_an_avatar_without_blendmaps_has_no_blend_arrays(make_avatar, rest):
    rig = build_rig(make_avatar(GaussianConfig(uv_size=64, blend_size=64, blendmaps=0)), rest)
    assert not {"blendmaps", "taps", "code_mix"} & rig.arrays.keys()
    assert rig.arrays["raw"].shape == (len(rig.arrays["texels"]), 13)


def test_every_chart_of_a_person_is_an_image_by_its_texels(person, person_rest):
    rig = build_rig(person, person_rest)
    raw = (person.base + person.gains * person.rectification).detach()
    begin = 0
    for chart, (layout, texels) in zip(rig.facts["charts"], person.charts.parts, strict=True):
        image = np.zeros((chart["uv_size"] ** 2, 13), np.float32)
        ours = slice(begin, begin + chart["texels"])
        image[rig.arrays["texels"][ours]] = rig.arrays["raw"][ours]
        expected = layout.scatter(raw[texels])
        np.testing.assert_array_equal(image.reshape(expected.shape), expected.numpy())
        begin += chart["texels"]
    assert begin == person.num_gaussians
    assert sum(chart["blend_texels"] for chart in rig.facts["charts"]) == len(rig.arrays["blend_texels"]) == person.blendmaps.shape[1]


def test_the_map_is_an_image_by_its_texels(avatar, rest):
    rig = build_rig(avatar, rest)
    image = np.zeros((96 * 96, 13), np.float32)
    image[rig.arrays["texels"]] = rig.arrays["raw"]
    expected = avatar.layout.scatter(avatar.base + avatar.gains * avatar.rectification)
    np.testing.assert_array_equal(image.reshape(96, 96, 13), expected.detach().numpy())
