// An avatar on a canvas, for this page and for any other: what a program can do with it. docs/export.md describes it.

import { load } from "./container.js";
import { Face } from "./face.js";
import { Loop } from "./loop.js";
import { Playback } from "./playback.js";
import { Player } from "./player.js";
import { View } from "./view.js";

/** A CSS color as red, green, blue and alpha in [0, 1], premultiplied; null is transparent. */
function components(color) {
  if (color === null || color === "transparent") return [0, 0, 0, 0];
  if (!CSS.supports("color", color)) throw new RangeError(`"${color}" is no color. Expected a CSS color, "transparent" or null.`);
  const paper = new OffscreenCanvas(1, 1).getContext("2d");
  paper.fillStyle = color;
  paper.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = Array.from(paper.getImageData(0, 0, 1, 1).data, (level) => level / 255);
  return [r * a, g * a, b * a, a];
}

/** Let the page draw itself before something that takes long. */
const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

export class DejaVu {
  /**
   * Load an avatar and show it.
   *
   * url: of avatar.bin, or a File. canvas: element or selector; a new canvas otherwise. controls: whether pointer and wheel move the
   * camera. background: CSS color, or null for transparent. onProgress: told the share that has come, and null where it is not known.
   */
  static async load(url, { canvas = document.createElement("canvas"), controls = true, background = "#ffffff", onProgress = () => {} } = {}) {
    const place = typeof canvas === "string" ? document.querySelector(canvas) : canvas;
    if (!(place instanceof HTMLCanvasElement)) throw new TypeError(`There is no canvas ${canvas}.`);
    const rig = await load(url, onProgress);
    onProgress(null);
    await painted();
    const avatar = new DejaVu(rig, place, controls);
    avatar.background = background;
    await new Promise((resolve) => {
      const off = avatar.on("frame", () => (off(), resolve()));
    });
    avatar.emit("ready", avatar);
    return avatar;
  }

  constructor(rig, canvas, controls) {
    this.listeners = {};
    this.canvas = canvas;
    this.facts = rig.facts;
    this.player = new Player(canvas, rig);
    this.face = new Face(rig);
    this.playback = new Playback(rig);
    this.view = new View(canvas, rig.facts, this.face.stand(rig.arrays.template.data), controls, () => this.loop && (this.loop.looked = true));
    this.loop = new Loop(this.player, {
      advance: (now) => this.advance(now),
      params: () => this.face.params,
      pinhole: () => this.view.pinhole(),
      shown: (now) => this.shown(now),
    });
    this.times = []; // of the pictures of the last second
    canvas.addEventListener("webglcontextlost", () => {
      this.loop.stop();
      this.emit("lost");
    });
  }

  get name() {
    return this.facts.name;
  }

  /** Names that `set` takes: ARKit expressions, headYaw, headPitch, headRoll, gazeYaw, gazePitch. */
  get controls() {
    return [...this.face.names];
  }

  get presets() {
    return Object.keys(this.facts.presets);
  }

  get motions() {
    return this.facts.clips.map(({ name }) => name);
  }

  /** The motion that has been chosen; null where the face does what it was set to. */
  get motion() {
    return this.playback.clip?.name ?? null;
  }

  get playing() {
    return this.playback.playing;
  }

  /** Seconds into the motion, and its length. */
  get time() {
    return this.playback.time;
  }

  get duration() {
    return this.playback.duration;
  }

  get speed() {
    return this.playback.speed;
  }

  set speed(factor) {
    if (!(factor > 0)) throw new RangeError(`speed must be above 0, not ${factor}.`);
    this.playback.speed = factor;
    this.emit("motion", this);
  }

  /** Pictures drawn in the last second. */
  get fps() {
    const now = performance.now();
    return this.times.filter((time) => now - time < 1000).length;
  }

  /** Number of Gaussians. */
  get count() {
    return this.player.count;
  }

  /** Whether one looks at the head from where it was filmed, or nearly; yes where nobody knows. */
  get filmed() {
    const { filmed } = this.facts;
    const yaw = this.face.seenFrom(this.view.pinhole().cameraFromWorld);
    return !filmed || (filmed[0] <= yaw && yaw <= filmed[1]);
  }

  /** CSS color behind the avatar; null is transparent. */
  get background() {
    return this.color;
  }

  set background(color) {
    this.player.background.set(...components(color));
    this.color = color;
    this.loop.looked = true;
  }

  get(name) {
    return this.face.get(name);
  }

  /** Move what is named: expressions from 0 (at rest) to 1, head and gaze in degrees. A motion that plays stops. */
  set(values) {
    this.face.set(values);
    this.leave();
    this.changed();
    return this;
  }

  /** Make the face of a preset; the head stays as it is turned. */
  preset(name) {
    const expression = this.facts.presets[name];
    if (!expression) throw new RangeError(`There is no preset "${name}". Known here: ${this.presets.join(", ")}.`);
    const jaw = this.facts.preset_jaws[name];
    const joints = this.face.params.joints.map((joint, j) => (jaw && this.facts.joints[j] === "jaw" ? jaw : joint));
    return this.setParams({ ...this.face.params, expression, joints });
  }

  /**
   * Show a whole pose: expression [E], joints [J][3], pose (world from head) and torso (head from torso), row-major 4x4.
   *
   * Without `torso`, a person's torso stays where it rests as far as the neck reaches.
   */
  setParams(params) {
    this.face.put(params);
    this.leave();
    this.changed();
    return this;
  }

  /** Face and head as at rest, and no motion. */
  reset() {
    return this.setParams(this.face.rest);
  }

  /** Play a motion from its beginning, or go on with the present one. */
  play(name) {
    if (name !== undefined) this.playback.choose(name);
    else if (!this.playback.clip) throw new Error("There is no motion to go on with. Name one of `motions`.");
    this.playback.playing = true;
    this.emit("motion", this);
    return this;
  }

  pause() {
    this.playback.playing = false;
    this.emit("motion", this);
    return this;
  }

  /** Go to a moment of the motion, seconds. */
  seek(seconds) {
    this.playback.seek(+seconds);
    this.emit("motion", this);
    return this;
  }

  /** A PNG of what is shown, as a data URL; or of a pose in front of a pinhole camera. */
  snapshot(params = this.face.params, pinhole = this.view.pinhole()) {
    return this.loop.snapshot(this.face.whole(params), pinhole);
  }

  /**
   * Call `listener` at every event of a kind, until what is returned is called.
   *
   * ready: the first picture is there. frame: a picture was drawn. change: a pose was set. motion: a motion was chosen, started or
   * stopped. lost: the browser took the GPU away.
   */
  on(event, listener) {
    (this.listeners[event] ??= new Set()).add(listener);
    return () => this.listeners[event].delete(listener);
  }

  /** Give everything back; the canvas keeps its last picture. */
  dispose() {
    this.loop.stop();
    this.view.dispose();
    this.player.dispose();
    this.listeners = {};
  }

  emit(event, value) {
    for (const listener of [...(this.listeners[event] ?? [])]) listener(value);
  }

  leave() {
    if (!this.playback.clip) return;
    this.playback.leave();
    this.view.goRound(0);
    this.emit("motion", this);
  }

  changed() {
    this.loop.moved = true;
    this.emit("change", this);
  }

  advance(now) {
    this.view.advance();
    if (!this.playback.advance(now)) return;
    const frame = this.playback.frame();
    this.view.goRound(frame.yaw);
    this.face.put(frame);
    this.changed();
  }

  shown(now) {
    this.times = [...this.times.filter((time) => now - time < 1000), now];
    this.emit("frame", { time: this.time, motion: this.motion, fps: this.times.length });
  }
}
