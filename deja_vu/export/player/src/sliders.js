// A slider for everything that moves; they follow when something else moves the face.

import { button, element, fill, folder } from "./dom.js";

function slider(avatar, { name, label, limit, hint, low, step }) {
  const degrees = step >= 1;
  const input = element("input", { type: "range", min: low, max: limit, step, dataset: { control: name } });
  const output = element("output");
  const show = (value) => {
    const text = degrees ? `${Math.round(value) || 0}°` : (Math.round(100 * value) / 100 || 0).toFixed(2);
    if (text === output.textContent) return;
    input.value = value;
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
    fill(input);
  };
  input.addEventListener("input", () => avatar.set({ [name]: +input.value }));
  input.addEventListener("dblclick", () => avatar.set({ [name]: 0 }));
  const row = element("label", { className: "slider", title: hint ? `${name}: ${hint}` : name }, element("span", { textContent: label }), input, output);
  return { row, follow: () => show(avatar.get(name)) };
}

/** Sections of sliders, as the avatar's file lists them. */
export function sliders(avatar) {
  const all = [];
  const made = avatar.facts.sections.map(({ title, opened, controls }) => {
    const ours = controls.map((control) => slider(avatar, control));
    all.push(...ours);
    const zero = Object.fromEntries(controls.map(({ name }) => [name, 0]));
    const reset = button(avatar.facts.words.reset_section, () => avatar.set(zero), { className: "quiet" });
    reset.setAttribute("aria-label", `${reset.textContent}: ${title}`);
    return folder(title, opened, ...ours.map(({ row }) => row), reset);
  });
  let due = true;
  avatar.on("change", () => (due = true));
  avatar.on("frame", () => {
    if (due) for (const { follow } of all) follow();
    due = false;
  });
  for (const { follow } of all) follow();
  return made;
}
