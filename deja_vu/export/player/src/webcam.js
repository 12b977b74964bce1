// Drive the avatar with the user's face: MediaPipe's Face Landmarker runs here in the page, and no picture leaves it.

import { FaceLandmarker } from "@mediapipe/tasks-vision";
import { load } from "./container.js";
import { button, element } from "./dom.js";
import { product3, rotationOf, transposed3 } from "./pose.js";

const FILE = "webcam.bin"; // the landmarker's program and model, which `deja-vu export --webcam` puts beside the page
const GAZE_DEGREES = { yaw: 21, pitch: 19 }; // turn of an eyeball at a score of one, as tracked videos show it
const START = "Drive by webcam";
const SMOOTH = 0.5; // share of the newest frame
const DEGREE = Math.PI / 180;

const blobUrl = (bytes, type) => URL.createObjectURL(new Blob([bytes], { type }));

export class Webcam {
  constructor(avatar) {
    this.avatar = avatar;
    this.video = element("video", { muted: true, playsInline: true, hidden: true });
    this.button = button(START, () => (this.stream ? this.stop() : this.start()), { id: "webcam" });
    this.neutral = button("This is my neutral face", () => (this.zero = this.latest), { hidden: true });
    this.note = element("p", { id: "webcam-note" });
    this.note.setAttribute("role", "status");
    this.box = element("div", { className: "webcam" }, this.button, this.neutral, this.video, this.note);
  }

  async start() {
    this.button.disabled = true;
    try {
      if (!navigator.mediaDevices) throw new Error("The browser gives this page no camera: open it from disk, from localhost or over https.");
      this.note.textContent = "Loading the face landmarker…";
      this.landmarker ??= await landmarker();
      this.note.textContent = "Waiting for the camera…";
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: "user" } });
      this.video.srcObject = this.stream;
      await this.video.play();
      this.zero = this.smooth = null;
      this.video.hidden = this.neutral.hidden = false;
      this.button.textContent = "Stop the webcam";
      this.note.textContent = "For a closer likeness, look at the camera at rest and press “This is my neutral face”. The picture stays on this computer.";
      this.loop();
    } catch (error) {
      this.stop();
      this.note.textContent = explain(error);
    }
    this.button.disabled = false;
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.hidden = this.neutral.hidden = true;
    this.button.textContent = START;
    this.note.textContent = "";
  }

  loop() {
    if (!this.stream) return;
    if (this.video.currentTime !== this.seen) {
      this.seen = this.video.currentTime;
      const { faceBlendshapes, facialTransformationMatrixes } = this.landmarker.detectForVideo(this.video, performance.now());
      if (faceBlendshapes.length) this.follow(faceBlendshapes[0].categories, facialTransformationMatrixes[0].data);
    }
    requestAnimationFrame(() => this.loop());
  }

  /** Carry scores and pose over: as they are, or relative to the neutral faces of both once the user has shown theirs. */
  follow(categories, matrix) {
    const { avatar } = this;
    const { rest } = avatar.face;
    const fresh = Object.fromEntries(categories.map(({ categoryName, score }) => [categoryName, score]));
    const scores = this.smooth ?? fresh;
    for (const name in scores) scores[name] += SMOOTH * (fresh[name] - scores[name]);
    this.smooth = scores;
    // Column-major, axes of OpenGL: the face's own axes are the head's.
    const turn = [0, 4, 8, 1, 5, 9, 2, 6, 10].map((i) => matrix[i]);
    this.latest = { scores: { ...scores }, back: transposed3(turn) };
    const resting = this.zero?.scores ?? Object.fromEntries(avatar.facts.expressions.map((name, i) => [name, rest.expression[i]]));
    const change = (name) => (scores[name] ?? 0) - (resting[name] ?? 0);
    const expression = rest.expression.map((value, i) => Math.min(1.2, Math.max(-0.2, value + avatar.facts.swing[i] * change(avatar.facts.expressions[i]))));
    const relative = this.zero ? product3(turn, this.zero.back) : turn;
    // The camera looks along -z there and along +z here: half a turn about x to both sides of the rotation.
    const turned = product3(relative.map((value, i) => value * [1, -1, -1, -1, 1, 1, -1, 1, 1][i]), rotationOf(rest.pose));
    const pose = avatar.face.turnedTo(turned, rest.pose);
    avatar.setParams({ expression, joints: gaze(avatar, change), pose });
  }
}

/** Eyeballs turned by the scores of looking; the shapes of those scores move the lids alone. */
function gaze(avatar, change) {
  const joints = avatar.face.rest.joints.map((joint) => [...joint]);
  const yaw = { Left: change("eyeLookOutLeft") - change("eyeLookInLeft"), Right: change("eyeLookInRight") - change("eyeLookOutRight") };
  for (const side of ["Left", "Right"]) {
    const j = avatar.facts.joints.indexOf(`eye_${side.toLowerCase()}`);
    if (j < 0) continue;
    joints[j][0] += GAZE_DEGREES.pitch * DEGREE * (change(`eyeLookDown${side}`) - change(`eyeLookUp${side}`));
    joints[j][1] += GAZE_DEGREES.yaw * DEGREE * yaw[side];
  }
  return joints;
}

async function landmarker() {
  const { arrays } = await load(FILE);
  const fileset = {
    wasmLoaderPath: blobUrl(arrays.loader.data, "text/javascript"),
    wasmBinaryPath: blobUrl(arrays.wasm.data, "application/wasm"),
  };
  const options = { runningMode: "VIDEO", outputFaceBlendshapes: true, outputFacialTransformationMatrixes: true };
  return FaceLandmarker.createFromOptions(fileset, { ...options, baseOptions: { modelAssetBuffer: arrays.model.data, delegate: "CPU" } });
}

function explain(error) {
  if (error.name === "NotAllowedError") return "The browser was not allowed to use the camera. Permit it for this page and try again.";
  if (error.name === "NotFoundError") return "There is no camera.";
  return `The webcam cannot be used: ${error.message}`;
}
