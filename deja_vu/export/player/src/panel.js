// The controls beside the picture.

import { button, download, element, folder, iconButton } from "./dom.js";
import { sliders } from "./sliders.js";
import { Webcam } from "./webcam.js";

const SAY_MS = 500;

function presets(avatar) {
  return Object.entries(avatar.facts.kinds).map(([title, labels]) => {
    const chips = Object.entries(labels)
      .filter(([name]) => avatar.presets.includes(name))
      .map(([name, label]) => button(label, () => avatar.preset(name), { dataset: { preset: name } }));
    return element("fieldset", { className: "chips", hidden: !chips.length }, element("legend", { textContent: title }), ...chips);
  });
}

export const savePicture = async (avatar) => download(await avatar.snapshot(), `${avatar.name}.png`);

export function fullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen();
}

export const togglePanel = () => document.body.classList.toggle("alone");

/** Buttons on the picture. */
export function buildTools(tools, avatar) {
  const { words } = avatar.facts;
  tools.replaceChildren(
    iconButton("front", words.front, () => avatar.view.reset(), { key: "0", id: "front" }),
    iconButton("picture", words.picture, () => savePicture(avatar), { key: "S", id: "shot" }),
    iconButton("full", "Fullscreen", fullscreen, { key: "F", id: "full", hidden: !document.fullscreenEnabled }),
    iconButton("panel", "Show or hide the controls", togglePanel, { key: "H", id: "hide" }),
  );
  tools.hidden = false;
}

export function buildPanel(panel, avatar, backdrop, keys) {
  const status = element("p", { id: "status" });
  const reset = button(avatar.facts.words.reset, () => avatar.reset(), { id: "reset", title: `${avatar.facts.words.reset} (R)` });
  panel.replaceChildren(
    element("header", {}, element("h1", { textContent: avatar.name }), status),
    ...presets(avatar),
    reset,
    ...(avatar.facts.webcam ? [new Webcam(avatar).box] : []),
    backdrop.row(avatar.facts.words.background),
    ...sliders(avatar),
    folder("Keyboard", false, element("dl", {}, ...keys.flatMap(([key, what]) => [element("dt", { textContent: key }), element("dd", { textContent: what })]))),
  );
  const count = avatar.count.toLocaleString("en");
  const say = () => (status.textContent = `${count} Gaussians · ${avatar.fps > 2 ? `${avatar.fps} fps` : "still"}`);
  say();
  setInterval(say, SAY_MS);
}
