// The controls beside the picture.

import { Webcam } from "./webcam.js";

const GROUPS = [
  ["Brows", /^brow/],
  ["Eyes", /^eye/],
  ["Cheeks and nose", /^(cheek|nose)/],
  ["Jaw", /^jaw/],
  ["Mouth", /^mouth/],
  ["Tongue", /^tongue/],
  ["Others", /./],
];
const TURNS = [
  ["yaw", "Head left, right", 45],
  ["pitch", "Head up, down", 30],
  ["roll", "Head tilt", 30],
  ["gazeYaw", "Gaze left, right", 30],
  ["gazePitch", "Gaze up, down", 20],
];

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** browInnerUp -> brow inner up */
const words = (name) => name.replace(/([A-Z])/g, (letter) => ` ${letter.toLowerCase()}`);

function slider(label, low, high, value, onInput) {
  const input = element("input", { type: "range", min: low, max: high, step: high > 2 ? 1 : 0.01 });
  const output = element("output");
  const set = (next) => {
    input.value = next;
    output.textContent = (+input.value).toFixed(high > 2 ? 0 : 2);
  };
  set(value);
  input.addEventListener("input", () => {
    set(input.value);
    onInput(+input.value);
  });
  return { row: element("label", {}, element("span", { textContent: label }), input, output), input, set };
}

function folder(title, open, ...rows) {
  const made = element("details", { open }, element("summary", { textContent: title }));
  made.append(...rows);
  return made;
}

/** Sliders of the head's turn and of every expression, which follow when the pose is set from elsewhere. */
function sliders(panel, stage) {
  const turns = TURNS.filter(([name]) => !name.startsWith("gaze") || stage.facts.joints.includes("eye_left")).map(([name, label, limit]) => {
    const made = slider(label, -limit, limit, 0, (value) => (stopClip(stage), stage.setTurn(name, value)));
    made.input.dataset.turn = name;
    return { name, ...made };
  });
  panel.append(folder("Head", true, ...turns.map(({ row }) => row)));
  const expressions = stage.facts.expressions.map((name, index) => {
    const made = slider(words(name), 0, 1, 0, (value) => (stopClip(stage), stage.setWeight(index, value)));
    made.input.dataset.expression = name;
    return { name, index, ...made };
  });
  let left = expressions;
  for (const [title, pattern] of GROUPS) {
    const group = left.filter(({ name }) => pattern.test(name));
    left = left.filter((entry) => !group.includes(entry));
    if (!group.length) continue;
    const reset = element("button", { textContent: "Reset", type: "button" });
    reset.addEventListener("click", () =>
      group.forEach(({ index, set }) => (stage.setWeight(index, 0), set(0))),
    );
    panel.append(folder(title, title === "Jaw", ...group.map(({ row }) => row), reset));
  }
  stage.listeners.push(() => {
    expressions.forEach(({ index, set }) => set(stage.weight(index)));
    turns.forEach(({ name, set }) => set(stage.turn[name]));
  });
}

function stopClip(stage) {
  if (!stage.clip) return;
  stage.clip = null;
  document.getElementById("motion").value = "";
}

function presets(panel, stage) {
  const row = element("div", { className: "buttons" });
  for (const [name, expression] of Object.entries(stage.facts.presets)) {
    const button = element("button", { textContent: name[0].toUpperCase() + name.slice(1), type: "button" });
    button.addEventListener("click", () => {
      stopClip(stage);
      stage.setParams({ ...stage.params, expression }, true);
    });
    row.append(button);
  }
  panel.append(row);
}

function toolbar(panel, stage) {
  const reset = element("button", { textContent: "Reset all", type: "button", id: "reset" });
  const motion = element("select", { id: "motion" }, element("option", { textContent: "No motion", value: "" }));
  for (const { name } of stage.facts.clips) motion.append(element("option", { textContent: name, value: name }));
  motion.addEventListener("change", () => (motion.value ? stage.play(motion.value) : stage.reset()));
  reset.addEventListener("click", () => {
    motion.value = "";
    stage.reset();
    stage.controls.reset();
  });
  const color = element("input", { type: "color", value: "#ffffff", id: "background", title: "Background" });
  color.addEventListener("input", () => {
    const level = (at) => parseInt(color.value.slice(at, at + 2), 16) / 255;
    stage.player.background.set(level(1), level(3), level(5));
    stage.looked = true;
  });
  const shot = element("button", { textContent: "Picture", type: "button", id: "shot", title: "Save what you see as PNG" });
  shot.addEventListener("click", async () => element("a", { href: await stage.snapshot(), download: `${stage.facts.name}.png` }).click());
  panel.append(element("div", { className: "buttons" }, reset, motion, color, shot));
}

export function buildPanel(panel, stage) {
  panel.replaceChildren();
  panel.append(element("h1", { textContent: stage.facts.name }), element("p", { id: "status" }));
  toolbar(panel, stage);
  presets(panel, stage);
  panel.append(new Webcam(stage).box);
  sliders(panel, stage);
  const status = panel.querySelector("#status");
  const count = stage.player.count.toLocaleString("en");
  setInterval(() => (status.textContent = `${count} Gaussians · ${stage.fps ? `${stage.fps.toFixed(0)} fps` : "still"}`), 500);
}
