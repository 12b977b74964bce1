// Bundle the page into one file, player.html, with the licences of what it contains in NOTICES.txt. Run by `make web`.

import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";

const here = (name) => new URL(name, import.meta.url);
const read = (name) => readFileSync(here(name), "utf8");

const { outputFiles } = await build({
  entryPoints: [here("src/main.js").pathname],
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

// "</script" inside a string would end the element; "<\/script" is the same string.
const script = outputFiles[0].text.trim().replaceAll("</script", "<\\/script");
const page = read("src/index.html").replace("/*STYLE*/", () => read("src/style.css")).replace("/*SCRIPT*/", () => script);
writeFileSync(here("player.html"), page);

const version = (name) => JSON.parse(read(`node_modules/${name}/package.json`)).version;
const apache = read("node_modules/gltf-validator/LICENSE"); // the same text; MediaPipe's package names the licence and does not carry it
const notices = [
  "index.html contains the following software.",
  `three.js ${version("three")}\n\n${read("node_modules/three/LICENSE").trim()}`,
  `MediaPipe Tasks Vision ${version("@mediapipe/tasks-vision")}, Copyright The MediaPipe Authors (also webcam.bin, where there is one)\n\n${apache.trimEnd()}`,
];
writeFileSync(here("NOTICES.txt"), notices.join(`\n\n${"-".repeat(80)}\n\n`) + "\n");
console.log(`player.html: ${(page.length / 1e6).toFixed(2)} MB`);
