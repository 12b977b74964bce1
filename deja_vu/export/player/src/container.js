// The binary beside the page. It is a classic script, `dejavu("...")`, whose string holds gzip-compressed bytes, one character a byte:
// a page opened from disk may load scripts from its folder, but may not fetch files. From a server the same file is fetched as bytes.

import { Problem } from "./problem.js";

const FORMAT = "deja-vu web/3";
const ESCAPES = { 110: 10, 114: 13, 34: 34, 92: 92 }; // \n \r \" \\
const READERS = { f32: Float32Array, i32: Int32Array, u16: Uint16Array, u8: Uint8Array };

/** Bytes of the payload of a binary that was loaded as bytes. */
function unescaped(file) {
  const begin = file.indexOf(34) + 1;
  const end = file.lastIndexOf(34);
  const bytes = new Uint8Array(end - begin);
  let length = 0;
  for (let i = begin; i < end; i++) {
    const escaped = file[i] === 92;
    bytes[length++] = escaped ? ESCAPES[file[++i]] : file[i];
  }
  return bytes.subarray(0, length);
}

/** Bytes that scripts have handed over, by the script. */
const handed = new WeakMap();

/** Load a script that calls `dejavu(text)`; resolves to the text's bytes. */
function scriptBytes(url) {
  window.dejavu = (text) => {
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i) & 255;
    handed.set(document.currentScript, bytes);
  };
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.charset = "x-user-defined"; // one character a byte
    script.src = url;
    script.onerror = () => reject(new Problem(`${url} is not beside this page.`, { remedy: "pick" }));
    script.onload = () => {
      script.remove();
      if (handed.has(script)) resolve(handed.get(script));
      else reject(new Problem(`${url} is damaged or no export of Déjà-vu. Export again.`));
    };
    document.head.append(script);
  });
}

/** Bytes from a server; `onProgress` is told the share that has come, where the server says how much there is. */
async function fetchedBytes(url, onProgress) {
  const answer = await fetch(url).catch((cause) => {
    throw new Problem(`${url} cannot be loaded: ${cause.message}.`, { remedy: "pick", cause });
  });
  if (!answer.ok) throw new Problem(`${url} is not beside this page (${answer.status}).`, { remedy: "pick" });
  const total = answer.headers.get("Content-Encoding") ? 0 : +answer.headers.get("Content-Length");
  const parts = [];
  let loaded = 0;
  for (let reader = answer.body.getReader(), part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    loaded += part.value.length;
    if (total) onProgress(loaded / total);
  }
  return unescaped(new Uint8Array(await new Blob(parts).arrayBuffer()));
}

/**
 * Facts and typed arrays of a binary beside the page, or of a File that the user picked.
 *
 * `onProgress` is told the share that has come, where it is known.
 */
export async function load(source, onProgress = () => {}) {
  let bytes;
  if (source instanceof Blob) bytes = unescaped(new Uint8Array(await source.arrayBuffer()));
  else bytes = await (location.protocol === "file:" ? scriptBytes(source) : fetchedBytes(source, onProgress));
  return parse(await inflated(bytes));
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  try {
    return await new Response(stream).arrayBuffer();
  } catch (error) {
    throw new Problem("The file is damaged or no export of Déjà-vu. Export again.", { remedy: "pick", cause: error });
  }
}

function parse(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  if (header.format !== FORMAT) throw new Problem(`This page reads "${FORMAT}", the file is "${header.format}". Export again.`, { remedy: "pick" });
  const start = 4 + size;
  const arrays = {};
  for (const [name, entry] of Object.entries(header.arrays)) {
    const count = entry.shape.reduce((a, b) => a * b, 1);
    const values = new READERS[entry.type](buffer, start + entry.offset, count);
    arrays[name] = { shape: entry.shape, data: entry.low ? dequantised(values, entry) : values };
  }
  return { facts: header.facts, arrays };
}

/** value = low + step * level; a pair for each channel (last axis) of each group (part of the first axis). */
function dequantised(levels, { shape, low, step }) {
  const channels = shape[shape.length - 1];
  const group = levels.length / (low.length / channels);
  const values = new Float32Array(levels.length);
  for (let i = 0; i < levels.length; i++) {
    const k = Math.floor(i / group) * channels + (i % channels);
    values[i] = low[k] + step[k] * levels[i];
  }
  return values;
}
