// What the head does: a pose, and the names by which programs and sliders read and set it.

import { apply3, inverted, multiply, product3, rigid, rotation, rotationOf, transposed3 } from "./pose.js";

const EYES = ["eye_left", "eye_right"];
const TURNS = ["headYaw", "headPitch", "headRoll"];
const GAZE = ["gazeYaw", "gazePitch"];
const DEGREE = Math.PI / 180;
const IDENTITY = [1, 0, 0, 0, 1, 0, 0, 0, 1];

/** A point of the head, in the world. */
const carried = (pose, point) => apply3(rotationOf(pose), point).map((value, i) => value + pose[4 * i + 3]);

/** Yaw to the avatar's left, pitch up, roll to its right shoulder, degrees, as a rotation in head space. */
const turned = ([yaw, pitch, roll]) =>
  product3(product3(rotation(0, yaw * DEGREE, 0), rotation(-pitch * DEGREE, 0, 0)), rotation(0, 0, roll * DEGREE));

/** The angles of such a rotation. */
const anglesOf = (r) => [Math.atan2(r[2], r[8]), Math.asin(Math.max(-1, Math.min(1, r[5]))), Math.atan2(r[3], r[4])].map((angle) => angle / DEGREE);

export class Face {
  constructor({ facts, arrays }) {
    this.facts = facts;
    const joints = facts.joints.map((_, j) => Array.from(arrays.rest_joints.data.subarray(3 * j, 3 * j + 3)));
    /** What a whole person's head turns on, and how far the torso lets it; null where there is a head alone, whose neck goes with it. */
    this.body = facts.body;
    const torso = facts.parts.includes("torso") && { torso: Array.from(arrays.rest_torso.data) };
    this.rest = { expression: Array.from(arrays.rest_expression.data), joints, pose: Array.from(arrays.rest_world_from_head.data), ...torso };
    this.eyes = EYES.map((name) => facts.joints.indexOf(name)).filter((j) => j >= 0);
    /** Every name that can be set. */
    this.names = [...facts.expressions, ...TURNS, ...(this.eyes.length ? GAZE : [])];
    this.put(this.rest);
  }

  /** Take a whole pose: expression [E], joints [J][3], pose (world from head) and torso (head from torso), row-major 4x4. */
  put(params) {
    const { expression, joints, pose, torso } = this.whole(params);
    this.params = { expression: [...expression], joints: joints.map((joint) => [...joint]), pose: [...pose], ...(torso && { torso: [...torso] }) };
  }

  /** A pose with the torso of a whole person: where it rests, but for what the neck's pivot went further than the neck gives. */
  whole(params) {
    if (!this.rest.torso || params.torso) return params;
    if (!this.body) return { ...params, torso: this.rest.torso }; // what a head's own neck stands on goes with the head
    const [from, to] = [this.rest.pose, params.pose].map((pose) => carried(pose, this.body.pivot));
    const way = to.map((value, i) => value - from[i]);
    const excess = Math.max(0, 1 - this.body.give / Math.max(Math.hypot(...way), 1e-9));
    const torso = multiply(rigid(IDENTITY, way.map((value) => excess * value)), multiply(this.rest.pose, this.rest.torso));
    return { ...params, torso: multiply(inverted(params.pose), torso) };
  }

  /** The pose of a head turned by a rotation: about its middle, or on a body about the neck's pivot, where that is in another pose. */
  turnedTo(rotation, pose) {
    if (!this.body) return rigid(rotation, [3, 7, 11].map((i) => pose[i]));
    const pivot = carried(pose, this.body.pivot);
    return rigid(rotation, apply3(rotation, this.body.pivot).map((value, i) => pivot[i] - value));
  }

  /** The rotation of a head, held to what the neck lets it turn against the torso. */
  held(rotation, torso) {
    const { limits } = this.body;
    const angles = anglesOf(product3(transposed3(torso), rotation));
    const held = angles.map((angle, i) => Math.min(limits[i], Math.max(-limits[i], angle)));
    return held.every((angle, i) => angle === angles[i]) ? rotation : product3(torso, turned(held));
  }

  /** The value of a name: 0 at rest and 1 for the whole movement of an expression, degrees for head and gaze. */
  get(name) {
    const e = this.index(name);
    if (e >= 0) return (this.params.expression[e] - this.rest.expression[e]) / this.facts.swing[e];
    if (GAZE.includes(name)) return this.gaze()[GAZE.indexOf(name)];
    return this.turn()[TURNS.indexOf(name)];
  }

  /** Set values by name, and leave the others as they are. */
  set(values) {
    const next = Object.entries(values).map(([name, value]) => {
      if (!Number.isFinite(+value)) throw new RangeError(`${name} must be a number, not ${value}.`);
      return [name, this.index(name), +value];
    });
    const [turn, gaze] = [this.turn(), this.gaze()];
    for (const [name, e, value] of next) {
      if (e >= 0) this.params.expression[e] = this.rest.expression[e] + value * this.facts.swing[e];
      else if (GAZE.includes(name)) gaze[GAZE.indexOf(name)] = value;
      else turn[TURNS.indexOf(name)] = value;
    }
    if (next.some(([name]) => TURNS.includes(name))) {
      const before = this.params.pose;
      const torso = this.body && multiply(before, this.params.torso);
      const wanted = product3(rotationOf(this.rest.pose), turned(turn));
      this.params.pose = this.turnedTo(this.body ? this.held(wanted, rotationOf(torso)) : wanted, before);
      if (this.body) this.params.torso = multiply(inverted(this.params.pose), torso);
    }
    if (next.some(([name]) => GAZE.includes(name)))
      for (const j of this.eyes) {
        const [x, y, z] = this.rest.joints[j];
        this.params.joints[j] = [x - gaze[1] * DEGREE, y + gaze[0] * DEGREE, z];
      }
  }

  /** Position of an expression's name; -1 for head and gaze. */
  index(name) {
    if (!this.names.includes(name)) throw new RangeError(`There is no control "${name}". Known here: ${this.names.join(", ")}.`);
    return this.facts.expressions.indexOf(name);
  }

  /** Yaw, pitch and roll of the head relative to rest, degrees. */
  turn() {
    return anglesOf(product3(transposed3(rotationOf(this.rest.pose)), rotationOf(this.params.pose)));
  }

  /** Yaw and pitch of both eyes, relative to rest, degrees. */
  gaze() {
    const mean = (axis) => this.eyes.reduce((sum, j) => sum + this.params.joints[j][axis] - this.rest.joints[j][axis], 0) / Math.max(1, this.eyes.length);
    return [mean(1) / DEGREE, -mean(0) / DEGREE];
  }

  /** Yaw of a camera as the head has it before it, degrees: positive to the person's left. */
  seenFrom(cameraFromWorld) {
    const world = inverted(cameraFromWorld);
    const [x, , z] = carried(inverted(this.params.pose), [world[3], world[7], world[11]]);
    return Math.atan2(x, z) / DEGREE;
  }

  /** What the camera turns about, and the surface (points [V][3] in head space) that it stays outside of, at rest in the world, meters. */
  stand(template) {
    const surface = new Float32Array(template.length);
    for (let i = 0; i < surface.length; i += 3) surface.set(carried(this.rest.pose, template.subarray(i, i + 3)), i);
    return { center: carried(this.rest.pose, this.facts.center), surface };
  }
}
