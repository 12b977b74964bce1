// From a pose to the numbers the GPU needs: blend weights, corrected parameters, motions of the parts. Matrices are row-major arrays.

export function rotation(x, y, z) {
  // Rodrigues; the series keeps small angles exact.
  const angle = Math.hypot(x, y, z);
  const a = angle > 1e-4 ? Math.sin(angle) / angle : 1 - (angle * angle) / 6;
  const b = angle > 1e-4 ? (1 - Math.cos(angle)) / (angle * angle) : 0.5 - (angle * angle) / 24;
  return [
    1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y,
    b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x,
    b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y),
  ];
}

/** 4x4 times 4x4. */
export function multiply(a, b) {
  const out = new Array(16).fill(0);
  for (let i = 0; i < 4; i++) for (let j = 0; j < 4; j++) for (let k = 0; k < 4; k++) out[4 * i + j] += a[4 * i + k] * b[4 * k + j];
  return out;
}

/** Rotation and translation as a 4x4 matrix. */
export function rigid(r, t) {
  return [r[0], r[1], r[2], t[0], r[3], r[4], r[5], t[1], r[6], r[7], r[8], t[2], 0, 0, 0, 1];
}

export const rotationOf = (m) => [m[0], m[1], m[2], m[4], m[5], m[6], m[8], m[9], m[10]];

export function transposed3(r) {
  return [r[0], r[3], r[6], r[1], r[4], r[7], r[2], r[5], r[8]];
}

export function product3(a, b) {
  const out = new Array(9).fill(0);
  for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) for (let k = 0; k < 3; k++) out[3 * i + j] += a[3 * i + k] * b[3 * k + j];
  return out;
}

export const apply3 = (r, v) => [0, 1, 2].map((i) => r[3 * i] * v[0] + r[3 * i + 1] * v[1] + r[3 * i + 2] * v[2]);

/** Inverse of a rigid motion. */
export function inverted(m) {
  const back = transposed3(rotationOf(m));
  return rigid(back, apply3(back, [m[3], m[7], m[11]]).map((value) => -value));
}

/** The rotation's matrix plus one, solved for a vector. */
function solved(r, t) {
  const [a, b, c, d, e, f, g, h, i] = r.map((value, k) => value + (k % 4 === 0 ? 1 : 0));
  const minors = [e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f, d * h - e * g, b * g - a * h, a * e - b * d];
  return apply3(minors, t).map((value) => value / (a * minors[0] + b * minors[3] + c * minors[6]));
}

/** The rigid motion that gives the whole one when done twice: half of its screw. */
export function halved(m) {
  const r = rotationOf(m);
  const w = 0.5 * Math.sqrt(Math.max(1 + r[0] + r[4] + r[8], 1e-6)); // cosine of half the angle
  const skew = r.map((value, k) => (value - r[3 * (k % 3) + Math.floor(k / 3)]) / (4 * w)); // sine of half the angle, about the axis
  const root = product3(skew, skew).map((value, k) => value / (1 + w) + skew[k] + (k % 4 === 0 ? 1 : 0));
  return rigid(root, solved(root, [m[3], m[7], m[11]]));
}

/** Motions of torso and neck of a whole person: the neck's lie on the screw motion from the torso's to the skull's. */
function bodyParts(torso, skull) {
  const half = halved(multiply(inverted(torso), skull));
  const quarter = halved(half);
  return [torso, ...[quarter, half, multiply(half, quarter)].map((share) => multiply(torso, share))];
}

const dot = (row, offset, vector) => vector.reduce((sum, value, i) => sum + row[offset + i] * value, 0);

/** Coordinates of the linear code: what the look may depend on, held to what training frames covered. */
function coordinates({ facts, arrays }, { expression, joints, pose }) {
  const relative = product3(rotationOf(pose), transposed3(Array.from(arrays.code_rest_rotation.data)));
  const turn = [(relative[7] - relative[5]) / 2, (relative[2] - relative[6]) / 2, (relative[3] - relative[1]) / 2];
  const { joint, turn: scale } = facts.steps;
  const features = [...expression, ...joints.flat().map((value) => joint * value), ...turn.map((value) => scale * value)];
  const centerd = features.map((value, i) => value - arrays.code_mean.data[i]);
  const maps = arrays.code_weight.data.length;
  const held = Array.from({ length: maps }, (_, k) => {
    const value = dot(arrays.code_components.data, k * centerd.length, centerd);
    return Math.min(Math.max(value, arrays.code_low.data[k]), arrays.code_high.data[k]);
  });
  const excess = Math.max(1, Math.hypot(...held) / arrays.code_reach.data[0]);
  return held.map((value, k) => (arrays.code_weight.data[k] * value) / excess);
}

function softmax(values) {
  const top = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

/** Blend weights of the published codes: a softmax of what frozen layers, with ReLUs between them, make of expression and jaw. */
function layered({ facts, arrays }, { expression, joints }) {
  let values = [...expression, ...(facts.code_joint < 0 ? [] : joints[facts.code_joint])];
  for (let number = 0; arrays[`code_layer_${number}`]; number++) {
    const { data } = arrays[`code_layer_${number}`];
    const bias = Array.from(arrays[`code_bias_${number}`].data);
    const given = number === 0 ? values : values.map((value) => Math.max(0, value));
    values = bias.map((value, k) => value + dot(data, k * given.length, given));
  }
  return softmax(values);
}

/** What the avatar learned about the tracker's errors, linear in the coordinates. */
function corrected({ facts, arrays }, params, z) {
  const width = arrays.correction.shape[1];
  const delta = Array.from({ length: width }, (_, column) => [...z, 1].reduce((sum, v, row) => sum + v * arrays.correction.data[row * width + column], 0));
  const { correct_rotation, correct_translation, correct_expression } = facts.steps;
  const turn = rotation(...delta.slice(0, 3).map((value) => correct_rotation * value));
  const place = [3, 7, 11].map((at, i) => params.pose[at] + correct_translation * delta[3 + i]);
  return {
    ...params,
    pose: rigid(product3(turn, rotationOf(params.pose)), place),
    expression: params.expression.map((value, e) => value + correct_expression * delta[6 + e]),
  };
}

/** Blend weights [K], morph weights [E + P], motions of root and parts, and the corrected head rotation. */
export function solve(rig, params) {
  const { facts, arrays } = rig;
  let weights = [];
  let ours = params;
  if (facts.code === "softmax" && arrays.blendmaps) weights = softmax(params.expression.slice(0, arrays.blendmaps.shape[0]));
  else if (arrays.code_layer_0) weights = layered(rig, params);
  else if (arrays.code_mix) {
    const z = coordinates(rig, params);
    weights = z.map((_, k) => dot(arrays.code_mix.data, k * z.length, z));
    if (arrays.correction) ours = corrected(rig, params, z);
  }
  const rotations = ours.joints.map((joint) => rotation(...joint));
  const morphs = [...ours.expression];
  if (arrays.pose_morphs) for (const r of rotations) morphs.push(...r.map((value, i) => value - (i % 4 === 0 ? 1 : 0)));
  const parts = [rigid([1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0])];
  rotations.forEach((r, j) => {
    const pivot = Array.from(arrays.pivots.data.subarray(3 * j, 3 * j + 3));
    const swung = apply3(r, pivot);
    parts.push(multiply(parts[facts.parents[j] + 1], rigid(r, pivot.map((value, i) => value - swung[i]))));
  });
  const moved = parts.map((part) => multiply(ours.pose, part));
  // The torso stays where it was tracked: what was learned about the tracker's errors is about the head.
  if (facts.parts.includes("torso")) moved.push(...bodyParts(multiply(params.pose, params.torso), moved[facts.parts.indexOf("neck")]));
  return { weights, morphs, parts: moved, rotation: rotationOf(ours.pose) };
}
