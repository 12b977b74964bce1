// Pose in, picture out, all on the GPU but the sort: morph and skin the head, carry the texels' Gaussians, order them, splat them.

import {
  CustomBlending, DataArrayTexture, DataTexture, DynamicDrawUsage, FloatType, GLSL3, HalfFloatType, BufferAttribute, BufferGeometry, DoubleSide,
  InstancedBufferAttribute, InstancedBufferGeometry, Matrix3, Matrix4, Mesh, NearestFilter, OneFactor, OneMinusSrcAlphaFactor,
  OrthographicCamera, RawShaderMaterial, RGBAFormat, UnsignedByteType, Vector2, Vector4, WebGLRenderer, WebGLRenderTarget,
} from "three";
import blendSource from "./shaders/blend.frag";
import common from "./shaders/common.glsl";
import fillSource from "./shaders/fill.vert";
import gaussiansSource from "./shaders/gaussians.frag";
import keysSource from "./shaders/keys.frag";
import normalsSource from "./shaders/normals.frag";
import presentSource from "./shaders/present.frag";
import splatsFragment from "./shaders/splats.frag";
import splatsVertex from "./shaders/splats.vert";
import verticesSource from "./shaders/vertices.frag";
import { solve } from "./pose.js";
import { Problem } from "./problem.js";
import { Sorter } from "./sort.js";

const WIDTH = 512; // of every table, as WIDTH_BITS in common.glsl
const MAX_PARTS = 12; // as in vertices.frag
const LAYERS = 4; // of four channels each; thirteen are used

const rows = (count) => Math.max(1, Math.ceil(count / WIDTH));

/** A table of `count` records, padded to four floats each. */
function table(count, fill) {
  const data = new Float32Array(4 * WIDTH * rows(count));
  for (let i = 0; i < count; i++) fill(data, 4 * i, i);
  const texture = new DataTexture(data, WIDTH, rows(count), RGBAFormat, FloatType);
  texture.needsUpdate = true;
  return texture;
}

/** Records of `width` floats each, at most four. */
function records({ data }, width) {
  return table(data.length / width, (out, at, i) => {
    for (let k = 0; k < width; k++) out[at + k] = data[width * i + k];
  });
}

/** Maps of thirteen channels as an array texture, four layers a map. */
function mapLayers({ shape, data }) {
  const [count, channels] = shape.slice(-2);
  const maps = shape.length === 3 ? shape[0] : 1;
  const size = WIDTH * rows(count);
  const out = new Float32Array(4 * size * LAYERS * maps);
  for (let k = 0; k < maps; k++)
    for (let m = 0; m < count; m++)
      for (let c = 0; c < channels; c++) out[4 * (size * (LAYERS * k + (c >> 2)) + m) + (c & 3)] = data[(k * count + m) * channels + c];
  const texture = new DataArrayTexture(out, WIDTH, rows(count), LAYERS * maps);
  texture.format = RGBAFormat;
  texture.type = FloatType;
  texture.needsUpdate = true;
  return texture;
}

/** Around every vertex, the other two corners of each triangle, in the triangle's direction. */
function fans(faces, vertexCount) {
  const begin = new Uint32Array(vertexCount + 1);
  for (const v of faces) begin[v + 1]++;
  for (let v = 0; v < vertexCount; v++) begin[v + 1] += begin[v];
  const next = begin.slice();
  const others = new Float32Array(2 * faces.length);
  for (let f = 0; f < faces.length; f += 3)
    for (let k = 0; k < 3; k++) {
      const place = 2 * next[faces[f + k]]++;
      others[place] = faces[f + ((k + 1) % 3)];
      others[place + 1] = faces[f + ((k + 2) % 3)];
    }
  const ranges = table(vertexCount, (out, at, v) => ((out[at] = begin[v]), (out[at + 1] = begin[v + 1])));
  return { ranges, others: records({ data: others }, 2) };
}

function target(width, height, type, count = 1) {
  const options = { type, count, format: RGBAFormat, minFilter: NearestFilter, magFilter: NearestFilter, depthBuffer: false };
  return new WebGLRenderTarget(width, height, options);
}

/** A row of numbers that changes with the pose. */
function weightRow(length) {
  const texture = new DataTexture(new Float32Array(4 * Math.max(1, length)), Math.max(1, length), 1, RGBAFormat, FloatType);
  texture.needsUpdate = true;
  return texture;
}

function setRow(texture, values) {
  values.forEach((value, i) => (texture.image.data[4 * i] = value));
  texture.needsUpdate = true;
}

/** The canvas' WebGL 2, able to compute in floating point. */
function context(canvas) {
  const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, depth: false, premultipliedAlpha: true, powerPreference: "high-performance" });
  if (!gl) throw new Problem("This browser offers no WebGL 2. Turn on hardware acceleration in its settings, or open the page in a current Chrome, Edge, Firefox or Safari.");
  if (!gl.getExtension("EXT_color_buffer_float")) throw new Problem("This device cannot compute with floating-point textures, which animating the head needs. Try a newer browser or another device.");
  return gl;
}

export class Player {
  constructor(canvas, rig) {
    const { arrays, facts } = rig;
    if (facts.parts.length > MAX_PARTS) throw new Problem(`This page moves up to ${MAX_PARTS} parts, the avatar has ${facts.parts.length}.`);
    this.rig = rig;
    const gl = context(canvas);
    this.renderer = new WebGLRenderer({ canvas, context: gl });
    this.renderer.autoClear = false;
    const most = gl.getParameter(gl.MAX_ARRAY_TEXTURE_LAYERS) / LAYERS;
    if (arrays.blendmaps?.shape[0] > most) throw new Problem(`This device blends up to ${most} maps, the avatar has ${arrays.blendmaps.shape[0]}.`);
    this.count = arrays.texel_faces.data.length;
    this.vertexCount = arrays.template.shape[0];
    this.sorter = new Sorter(this.count);
    this.keyBytes = new Uint8Array(4 * WIDTH * rows(this.count));
    this.flat = new OrthographicCamera(-1, 1, 1, -1, 0, 1);
    this.background = new Vector4(1, 1, 1, 1); // premultiplied
    this.buildSurface(arrays);
    this.buildGaussians(arrays, facts);
    this.buildSplats();
  }

  pass(fragment, uniforms) {
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(new Float32Array([-1, -1, 0, 3, -1, 0, -1, 3, 0]), 3));
    return this.mesh(geometry, fillSource, fragment, uniforms, {});
  }

  mesh(geometry, vertex, fragment, values, options) {
    const uniforms = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { value }]));
    const material = new RawShaderMaterial({
      glslVersion: GLSL3, vertexShader: common + vertex, fragmentShader: common + fragment, uniforms, depthTest: false, depthWrite: false, ...options,
    });
    const mesh = new Mesh(geometry, material);
    mesh.frustumCulled = false;
    mesh.uniforms = uniforms;
    return mesh;
  }

  buildSurface(arrays) {
    const n = this.vertexCount;
    const parts = arrays.skin_weights.shape[1];
    const skin = [0, 4, 8].map((first) =>
      table(n, (out, at, v) => {
        for (let k = 0; k < 4; k++) out[at + k] = first + k < parts ? arrays.skin_weights.data[parts * v + first + k] : 0;
      }),
    );
    const pose = arrays.pose_morphs?.data ?? [];
    const basis = new Float32Array(arrays.morphs.data.length + pose.length);
    basis.set(arrays.morphs.data);
    basis.set(pose, arrays.morphs.data.length);
    this.morphWeights = weightRow(basis.length / (3 * n));
    this.parts = Array.from({ length: MAX_PARTS }, () => new Matrix4());
    this.positions = target(WIDTH, rows(n), FloatType);
    this.normals = target(WIDTH, rows(n), FloatType);
    this.vertexPass = this.pass(verticesSource, {
      restPositions: records(arrays.template, 3), morphs: records({ data: basis }, 3), morphWeights: this.morphWeights, skin,
      parts: this.parts, count: n, morphCount: basis.length / (3 * n),
    });
    const { ranges, others } = fans(arrays.faces.data, n);
    this.normalPass = this.pass(normalsSource, { positions: this.positions.texture, fanRanges: ranges, fans: others, count: n });
  }

  buildGaussians(arrays, facts) {
    const { texel_faces, faces, bary, face_gradients, face_stretch } = arrays;
    const face = texel_faces.data;
    const corners = table(this.count, (out, at, m) => {
      for (let k = 0; k < 3; k++) out[at + k] = faces.data[3 * face[m] + k];
      out[at + 3] = face_stretch.data[face[m]];
    });
    const baryGradient = table(this.count, (out, at, m) => {
      for (let k = 0; k < 2; k++) (out[at + k] = bary.data[3 * m + k]), (out[at + 2 + k] = face_gradients.data[2 * face[m] + k]);
    });
    const maps = arrays.blendmaps ? arrays.blendmaps.shape[0] : 0;
    const coarse = maps ? arrays.blendmaps.shape[1] : 1;
    this.blendWeights = weightRow(maps);
    this.blend = target(WIDTH, rows(coarse), FloatType, LAYERS);
    if (maps) this.blendPass = this.pass(blendSource, { blendmaps: mapLayers(arrays.blendmaps), blendWeights: this.blendWeights, count: coarse, maps });
    this.gaussians = target(WIDTH, rows(this.count), FloatType, 4);
    this.keys = target(WIDTH, rows(this.count), UnsignedByteType);
    const none = weightRow(1);
    this.gaussianPass = this.pass(gaussiansSource, {
      positions: this.positions.texture, normals: this.normals.texture, corners, baryGradient, raw: mapLayers(arrays.raw),
      taps: maps ? records(arrays.taps, 4) : none, tapWeights: maps ? records(arrays.tap_weights, 4) : none, blend: this.blend.textures,
      headRotation: new Matrix3(), headAxes: facts.axes === "head", blended: maps > 0, count: this.count,
    });
    this.keyPass = this.pass(keysSource, { centers: this.gaussians.textures[0], depthRow: new Vector4(), count: this.count });
  }

  buildSplats() {
    const geometry = new InstancedBufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(new Float32Array([-1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 1, 0]), 3));
    geometry.setIndex([0, 1, 2, 0, 2, 3]);
    this.order = new InstancedBufferAttribute(this.sorter.order, 1);
    this.order.setUsage(DynamicDrawUsage);
    geometry.setAttribute("order", this.order);
    geometry.instanceCount = this.count;
    const [centerOpacity, axis0, axis1, axis2] = this.gaussians.textures;
    const blending = { blending: CustomBlending, blendSrc: OneFactor, blendDst: OneMinusSrcAlphaFactor, transparent: true, side: DoubleSide };
    const view = { cameraFromWorld: new Matrix4(), intrinsics: new Vector4(), size: new Vector2() };
    this.splatPass = this.mesh(geometry, splatsVertex, splatsFragment, { centerOpacity, axis0, axis1, axis2, ...view }, blending);
    this.picture = target(1, 1, HalfFloatType);
    this.presentPass = this.pass(presentSource, { picture: this.picture.texture, background: this.background });
  }

  run(mesh, into) {
    this.renderer.setRenderTarget(into);
    this.renderer.render(mesh, this.flat);
  }

  /** Move the avatar: expression [E], joints [J][3], pose (world from head) and, of a whole person, torso (head from torso), row-major 4x4. */
  setPose(params) {
    const { weights, morphs, parts, rotation } = solve(this.rig, params);
    setRow(this.morphWeights, morphs);
    setRow(this.blendWeights, weights);
    parts.forEach((part, j) => this.parts[j].set(...part));
    this.gaussianPass.uniforms.headRotation.value.set(...rotation);
    this.run(this.vertexPass, this.positions);
    this.run(this.normalPass, this.normals);
    if (this.blendPass) this.run(this.blendPass, this.blend);
    this.run(this.gaussianPass, this.gaussians);
  }

  /** Look from elsewhere: pinhole in pixels, OpenCV axes, row-major 4x4. */
  setCamera({ fx, fy, cx, cy, width, height, cameraFromWorld }) {
    const view = this.splatPass.uniforms;
    view.cameraFromWorld.value.set(...cameraFromWorld);
    view.intrinsics.value.set(fx, fy, cx, cy);
    view.size.value.set(width, height);
    this.keyPass.uniforms.depthRow.value.set(...cameraFromWorld.slice(8, 12));
    if (this.picture.width !== width || this.picture.height !== height) {
      this.picture.setSize(width, height);
      this.renderer.setSize(width, height, false);
    }
  }

  /** Order the Gaussians by what is on the GPU now; reads back without stalling it. */
  async sort() {
    this.run(this.keyPass, this.keys);
    await this.renderer.readRenderTargetPixelsAsync(this.keys, 0, 0, WIDTH, rows(this.count), this.keyBytes);
    this.sorter.sort(this.keyBytes);
    this.order.needsUpdate = true;
  }

  draw() {
    this.renderer.setRenderTarget(this.picture);
    this.renderer.setClearColor(0, 0);
    this.renderer.clear();
    this.run(this.splatPass, this.picture);
    this.run(this.presentPass, null);
  }
  /** Give the GPU's memory back; the player is of no use afterwards. */
  dispose() {
    this.renderer.dispose();
    this.renderer.forceContextLoss();
  }
}
