// What the head does: a pose, and the names by which programs and sliders read and set it.

import { apply3, product3, rigid, rotation, rotationOf, transposed3 } from "./pose.js";

const EYES = ["eye_left", "eye_right"];
const TURNS = ["headYaw", "headPitch", "headRoll"];
const GAZE = ["gazeYaw", "gazePitch"];
const DEGREE = Math.PI / 180;

/** Yaw to the avatar's left, pitch up, roll to its right shoulder, degrees, as a rotation in head space. */
const turned = ([yaw, pitch, roll]) =>
  product3(product3(rotation(0, yaw * DEGREE, 0), rotation(-pitch * DEGREE, 0, 0)), rotation(0, 0, roll * DEGREE));

/** The angles of such a rotation. */
const anglesOf = (r) => [Math.atan2(r[2], r[8]), Math.asin(Math.max(-1, Math.min(1, r[5]))), Math.atan2(r[3], r[4])].map((angle) => angle / DEGREE);

export class Face {
  constructor({ facts, arrays }) {
    this.facts = facts;
    const joints = facts.joints.map((_, j) => Array.from(arrays.rest_joints.data.subarray(3 * j, 3 * j + 3)));
    this.rest = { expression: Array.from(arrays.rest_expression.data), joints, pose: Array.from(arrays.rest_world_from_head.data) };
    this.eyes = EYES.map((name) => facts.joints.indexOf(name)).filter((j) => j >= 0);
    /** Every name that can be set. */
    this.names = [...facts.expressions, ...TURNS, ...(this.eyes.length ? GAZE : [])];
    this.put(this.rest);
  }

  /** Take a whole pose: expression [E], joints [J][3], pose (world from head, row-major 4x4). */
  put({ expression, joints, pose }) {
    this.params = { expression: [...expression], joints: joints.map((joint) => [...joint]), pose: [...pose] };
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
      const place = [3, 7, 11].map((i) => this.params.pose[i]);
      this.params.pose = rigid(product3(rotationOf(this.rest.pose), turned(turn)), place);
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

  /** Middle of the head at rest in the world, meters; what the camera turns about. */
  center() {
    const moved = apply3(rotationOf(this.rest.pose), this.facts.center);
    return moved.map((value, i) => value + this.rest.pose[4 * i + 3]);
  }
}
