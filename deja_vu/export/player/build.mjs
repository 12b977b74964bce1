// Bundle the page into one file, player.html, and the avatar for other pages into another, deja-vu.js, with the licenses of what they
// contain in NOTICES.txt. Run by `make web`.

import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";

const here = (name) => new URL(name, import.meta.url);
const read = (name) => readFileSync(here(name), "utf8");

/** Where MediaPipe tells its publisher what it was used for; in its place stands an address that nothing can be sent to. */
const REPORTS = "https://odml.pa.googleapis.com/v1/log";
const NOWHERE = "about:blank";

/** A program without its reports; a version of MediaPipe that sends them elsewhere has to be looked at first. */
function silenced(script) {
  const addresses = new Set(script.match(/https?:\/\/[\w.-]+\.(com|net|dev|org)\b[^"'`\s]*/g) ?? []);
  addresses.delete(REPORTS);
  for (const address of addresses) if (!address.startsWith("http://www.w3.org/")) throw new Error(`the page would know the address ${address}`);
  if (script.split(REPORTS).length !== 2) throw new Error(`expected MediaPipe's reports to go to ${REPORTS}, once`);
  return script.replace(REPORTS, NOWHERE);
}

/** A program and all it needs as one classic script. */
async function bundled(entry) {
  const { outputFiles } = await build({
    entryPoints: [here(entry).pathname],
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2022",
    legalComments: "none",
    charset: "utf8",
    define: { "import.meta.url": '""' },
    loader: { ".glsl": "text", ".vert": "text", ".frag": "text" },
    nodePaths: [here("node_modules").pathname],
  });
  return outputFiles[0].text.trim();
}

// "</script" inside a string would end the element; "<\/script" is the same string.
const script = silenced(await bundled("src/main.js")).replaceAll("</script", "<\\/script");
const page = read("src/index.html").replace("/*STYLE*/", () => read("src/style.css")).replace("/*SCRIPT*/", () => script);
writeFileSync(here("player.html"), page);
const library = `// Déjà-vu's player for other pages; licenses in NOTICES.txt.\n${await bundled("src/library.js")}\n`;
writeFileSync(here("deja-vu.js"), library);

const version = (name) => JSON.parse(read(`node_modules/${name}/package.json`)).version;
const apache = read("node_modules/gltf-validator/LICENSE"); // the same text; MediaPipe's package names the license and does not carry it
const notices = [
  "index.html contains the following software; deja-vu.js contains three.js.",
  `three.js ${version("three")}\n\n${read("node_modules/three/LICENSE").trim()}`,
  `MediaPipe Tasks Vision ${version("@mediapipe/tasks-vision")}, Copyright The MediaPipe Authors (also webcam.bin, where there is one)\n\n${apache.trimEnd()}`,
];
writeFileSync(here("NOTICES.txt"), notices.join(`\n\n${"-".repeat(80)}\n\n`) + "\n");
console.log(`player.html: ${(page.length / 1e6).toFixed(2)} MB, deja-vu.js: ${(library.length / 1e6).toFixed(2)} MB`);
