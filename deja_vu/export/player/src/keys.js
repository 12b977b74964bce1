// The keyboard: everything that the pointer does.

import { fullscreen, savePicture, togglePanel } from "./panel.js";
import { toggle } from "./transport.js";

const STEP = 5; // degrees
const NEARER = 1.1;

export const KEYS = [
  ["Arrows", "turn the camera"],
  ["+ and −", "nearer, further"],
  ["0", "camera to the front"],
  ["Space", "play or pause"],
  ["R", "reset face and head"],
  ["S", "save a picture"],
  ["F", "fullscreen"],
  ["H", "show or hide the controls"],
];

/** What a key does; keys of sliders, lists and buttons are theirs. */
export function listen(avatar, ui) {
  const actions = {
    ArrowLeft: () => avatar.view.move(-STEP, 0),
    ArrowRight: () => avatar.view.move(STEP, 0),
    ArrowUp: () => avatar.view.move(0, STEP),
    ArrowDown: () => avatar.view.move(0, -STEP),
    "+": () => avatar.view.move(0, 0, NEARER),
    "=": () => avatar.view.move(0, 0, NEARER),
    "-": () => avatar.view.move(0, 0, 1 / NEARER),
    0: () => avatar.view.reset(),
    " ": () => toggle(avatar),
    r: () => avatar.reset(),
    s: () => savePicture(avatar),
    f: () => document.fullscreenEnabled && fullscreen(),
    h: () => ui && togglePanel(),
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const there = event.target instanceof Element && event.target.closest("input, select, button, summary");
    const theirs = there && (event.key === " " || event.key.startsWith("Arrow") || there.matches("select, input:not([type=range])"));
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || theirs) return;
    event.preventDefault();
    action();
  });
}
