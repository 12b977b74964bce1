// The camera that pointer and keys move about the head.

import { PerspectiveCamera, Vector3 } from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { apply3, multiply, rigid, rotation } from "./pose.js";

const FLIP = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1]; // OpenCV's world to three.js' and back: half a turn about x
const SHARPEST = 2; // device pixels a CSS pixel; more costs speed and shows nothing of a head
const DEGREE = Math.PI / 180;
const DAMPING = 0.15;
const UP = new Vector3(0, 1, 0);
const FARTHEST = 5; // meters
const CLEARANCE = 0.08; // of the camera from the surface before it, meters; this and the next as in deja_vu/core/orbit.py
const BEAM = 0.07; // how far from the line of sight the surface counts as before the camera, meters

/** Row-major 4x4 of a three.js matrix. */
const rowMajor = ({ elements: e }) => Array.from({ length: 16 }, (_, i) => e[4 * (i % 4) + Math.floor(i / 4)]);

export class View {
  /**
   * `center`: what the camera turns about, meters in OpenCV's world; it stands at that world's origin. `surface`: points [V][3] there,
   * which the camera stays away from. `changed` is told of every move.
   */
  constructor(canvas, { camera, orbit }, { center, surface }, controls, changed) {
    this.canvas = canvas;
    this.surface = surface;
    this.camera = new PerspectiveCamera((2 * Math.atan(Math.max(camera.width, camera.height) / 2 / camera.fy)) / DEGREE, 1, 0.01, 100);
    this.changed = changed;
    this.yaw = 0;
    this.controls = new OrbitControls(this.camera, controls ? canvas : null);
    this.controls.enabled = controls;
    this.controls.enablePan = false;
    this.controls.enableDamping = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.controls.dampingFactor = DAMPING;
    this.controls.target = new Vector3(center[0], -center[1], -center[2]);
    this.controls.maxDistance = FARTHEST;
    this.controls.update();
    const [yaw, pitch] = [this.controls.getAzimuthalAngle(), this.controls.getPolarAngle()];
    if (orbit.yaw < 180) [this.controls.minAzimuthAngle, this.controls.maxAzimuthAngle] = [yaw - orbit.yaw * DEGREE, yaw + orbit.yaw * DEGREE];
    [this.controls.minPolarAngle, this.controls.maxPolarAngle] = [pitch - orbit.pitch * DEGREE, pitch + orbit.pitch * DEGREE];
    this.controls.update();
    this.controls.saveState();
    this.controls.addEventListener("change", changed);
    this.observer = new ResizeObserver(changed);
    this.observer.observe(canvas);
  }

  /** Go round the middle by an angle beyond where pointer and keys have put the camera, radians; shows more of the person's left first. */
  goRound(yaw) {
    if (yaw === this.yaw) return;
    this.yaw = yaw;
    this.changed();
  }

  /** Let a turn run out, and stay outside the avatar. */
  advance() {
    this.controls.minDistance = this.nearest();
    this.controls.update();
  }

  /** Distance from the middle at which the camera, where it is now, is still outside the avatar, meters. */
  nearest() {
    const { target } = this.controls;
    const { x, y, z } = this.camera.position.clone().sub(target).normalize().applyAxisAngle(UP, this.yaw);
    let farthest = 0;
    for (let i = 0; i < this.surface.length; i += 3) {
      const [dx, dy, dz] = [this.surface[i] - target.x, -this.surface[i + 1] - target.y, -this.surface[i + 2] - target.z];
      const ahead = dx * x + dy * y + dz * z;
      if (ahead > farthest && dx * dx + dy * dy + dz * dz - ahead * ahead < BEAM * BEAM) farthest = ahead;
    }
    return farthest + CLEARANCE;
  }

  /** Back to where the camera first stood. */
  reset() {
    const { controls } = this;
    const damped = controls.enableDamping;
    controls.enableDamping = false; // an update without it forgets the turn that was running out
    controls.update();
    controls.reset();
    controls.enableDamping = damped;
  }

  /** Turn the camera about the head by degrees, and bring it nearer by a factor above one. */
  move(yaw, pitch, nearer = 1) {
    const { target } = this.controls;
    const from = this.camera.position.clone().sub(target);
    from.applyAxisAngle(UP, yaw * DEGREE);
    const side = new Vector3(from.z, 0, -from.x).normalize();
    from.applyAxisAngle(side, -pitch * DEGREE);
    this.camera.position.copy(target).add(from.divideScalar(nearer));
    this.advance();
  }

  /** The pinhole that shows what the camera sees on the canvas, with the whole of the filmed crop in it. */
  pinhole() {
    const ratio = Math.min(window.devicePixelRatio, SHARPEST);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    const focal = Math.min(width, height) / 2 / Math.tan((this.camera.fov / 2) * DEGREE);
    this.camera.updateMatrixWorld();
    const standing = multiply(multiply(FLIP, rowMajor(this.camera.matrixWorldInverse)), FLIP);
    const { x, y, z } = this.controls.target;
    const middle = [x, -y, -z];
    const turn = rotation(0, this.yaw, 0);
    const cameraFromWorld = multiply(standing, rigid(turn, apply3(turn, middle).map((value, i) => middle[i] - value)));
    return { fx: focal, fy: focal, cx: width / 2, cy: height / 2, width, height, cameraFromWorld };
  }

  dispose() {
    this.observer.disconnect();
    if (this.controls.domElement) this.controls.dispose();
  }
}
