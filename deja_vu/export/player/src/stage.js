// What is shown: a pose that sliders, motions or a webcam set, a camera that the mouse moves, and the loop that keeps the picture current.

import { PerspectiveCamera, Vector3 } from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { multiply, product3, rigid, rotation, rotationOf } from "./pose.js";

const FLIP = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1]; // OpenCV's world to three.js' stage and back: half a turn about x
const GAZE = ["eye_left", "eye_right"];
const SHARPEST = 1.5; // device pixels a CSS pixel; more costs speed and shows nothing of a head
const DEGREE = Math.PI / 180;

/** Row-major 4x4 of a three.js matrix. */
const rowMajor = ({ elements: e }) => Array.from({ length: 16 }, (_, i) => e[4 * (i % 4) + Math.floor(i / 4)]);

export class Stage {
  constructor(canvas, player) {
    this.player = player;
    this.facts = player.rig.facts;
    this.canvas = canvas;
    const { rest_expression, rest_joints, rest_world_from_head } = player.rig.arrays;
    const joints = this.facts.joints.map((_, j) => Array.from(rest_joints.data.subarray(3 * j, 3 * j + 3)));
    this.rest = { expression: Array.from(rest_expression.data), joints, pose: Array.from(rest_world_from_head.data) };
    this.listeners = [];
    this.fps = 0;
    this.reset();
    this.buildCamera();
  }

  reset() {
    this.clip = null;
    this.turn = { yaw: 0, pitch: 0, roll: 0, gazeYaw: 0, gazePitch: 0 };
    this.setParams(this.rest, true);
  }

  /** Show a pose; `sliders` tells those who watch that the values changed under them. */
  setParams({ expression, joints, pose }, sliders = false) {
    this.params = { expression: [...expression], joints: joints.map((joint) => [...joint]), pose: [...pose] };
    this.moved = true;
    if (sliders) this.listeners.forEach((listener) => listener());
  }

  /** An ARKit weight: 0 at rest, 1 the whole movement. */
  setWeight(index, value) {
    this.params.expression[index] = this.rest.expression[index] + value * this.facts.swing[index];
    this.moved = true;
  }

  weight(index) {
    return (this.params.expression[index] - this.rest.expression[index]) / this.facts.swing[index];
  }

  /** Head and gaze in degrees, relative to the person at rest. */
  setTurn(name, degrees) {
    this.turn[name] = degrees;
    const { yaw, pitch, roll, gazeYaw, gazePitch } = this.turn;
    const turn = product3(product3(rotation(0, yaw * DEGREE, 0), rotation(pitch * DEGREE, 0, 0)), rotation(0, 0, roll * DEGREE));
    this.params.pose = rigid(product3(rotationOf(this.rest.pose), turn), [3, 7, 11].map((i) => this.rest.pose[i]));
    for (const name of GAZE) {
      const j = this.facts.joints.indexOf(name);
      if (j >= 0) this.params.joints[j] = [this.rest.joints[j][0] + gazePitch * DEGREE, this.rest.joints[j][1] + gazeYaw * DEGREE, this.rest.joints[j][2]];
    }
    this.moved = true;
  }

  buildCamera() {
    const { center, camera } = this.facts;
    const { pose } = this.rest;
    const world = [0, 1, 2].map((i) => pose[4 * i] * center[0] + pose[4 * i + 1] * center[1] + pose[4 * i + 2] * center[2] + pose[4 * i + 3]);
    this.view = new PerspectiveCamera(2 * Math.atan(camera.height / 2 / camera.fy) / DEGREE, 1, 0.01, 100);
    this.controls = new OrbitControls(this.view, this.canvas);
    this.controls.target = new Vector3(world[0], -world[1], -world[2]);
    this.controls.minDistance = 0.15;
    this.controls.maxDistance = 5;
    this.controls.addEventListener("change", () => (this.looked = true));
    this.controls.saveState();
    this.controls.update();
    new ResizeObserver(() => (this.looked = true)).observe(this.canvas);
    this.looked = true;
  }

  /** The pinhole that shows what the orbiting camera sees on the canvas; the whole crop fits into it. */
  pinhole() {
    const ratio = Math.min(window.devicePixelRatio, SHARPEST);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    const focal = Math.min(width, height) / 2 / Math.tan((this.view.fov / 2) * DEGREE);
    this.view.updateMatrixWorld();
    const cameraFromWorld = multiply(multiply(FLIP, rowMajor(this.view.matrixWorldInverse)), FLIP);
    return { fx: focal, fy: focal, cx: width / 2, cy: height / 2, width, height, cameraFromWorld };
  }

  play(name) {
    this.clip = this.facts.clips.find((clip) => clip.name === name) ?? null;
    this.began = performance.now();
  }

  /** The frame of a motion at a time, seconds; motions repeat. */
  frameOf(clip, time) {
    const frame = Math.floor(time * clip.fps) % clip.frames;
    const row = (name) => {
      const { data, shape } = this.player.rig.arrays[`clip_${clip.id}_${name}`];
      const size = data.length / shape[0];
      return Array.from(data.subarray(frame * size, (frame + 1) * size));
    };
    const joints = row("joints");
    return { expression: row("expression"), joints: this.facts.joints.map((_, j) => joints.slice(3 * j, 3 * j + 3)), pose: [...row("pose"), 0, 0, 0, 1] };
  }

  /** Draw whenever something changed; a sort in flight never holds the picture up. */
  run() {
    let drawn = 0;
    let since = performance.now();
    const tick = (now) => {
      if (this.held) return requestAnimationFrame(tick);
      if (this.clip) this.setParams(this.frameOf(this.clip, (now - this.began) / 1000));
      if (this.moved || this.looked || this.sorted) {
        if (this.looked) this.player.setCamera(this.pinhole());
        if (this.moved) this.player.setPose(this.params);
        if (this.moved || this.looked) this.stale = true;
        this.moved = this.looked = this.sorted = false;
        this.player.draw();
        drawn++;
      }
      if (this.stale && !this.sorting) {
        this.stale = false;
        this.sorting = this.player.sort().then(() => ((this.sorted = true), (this.sorting = null)));
      }
      if (now - since > 1000) {
        this.fps = (drawn * 1000) / (now - since);
        [drawn, since] = [0, now];
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  /** One exact picture of a pose and a camera as a PNG data URL; the loop rests meanwhile. */
  async snapshot(params, camera) {
    this.held = true;
    await this.sorting;
    this.player.setCamera(camera ?? this.pinhole());
    this.player.setPose(params ?? this.params);
    await this.player.sort();
    this.player.draw();
    const url = this.canvas.toDataURL("image/png");
    this.held = false;
    this.moved = this.looked = true;
    return url;
  }
}
