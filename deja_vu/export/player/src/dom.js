// Small pieces that the page is built of.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  play: ["M7 5.2v13.6L18.5 12z", "fill"],
  pause: ["M7.5 5.5h3v13h-3zM13.5 5.5h3v13h-3z", "fill"],
  front: ["M4 12a8 8 0 1 0 2.6-5.9M4 4.5v4h4"],
  picture: ["M12 4v11M7.5 10.5 12 15l4.5-4.5M5 19.5h14"],
  full: ["M4.5 9V4.5H9M15 4.5h4.5V9M19.5 15v4.5H15M9 19.5H4.5V15"],
  panel: ["M4 5.5h16v13H4zM14.5 5.5v13"],
};

export function element(tag, { dataset = {}, aria = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, dataset);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
}

export function icon(name) {
  const [path, fill] = ICONS[name];
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  if (fill) line.setAttribute("class", "fill");
  drawing.append(line);
  return drawing;
}

export function button(label, onClick, properties = {}) {
  const made = element("button", { type: "button", textContent: label, ...properties });
  made.addEventListener("click", onClick);
  return made;
}

/** A button of which only a drawing is seen; `label` is read out, and shown with its key when pointed at. */
export function iconButton(name, label, onClick, { key, ...properties } = {}) {
  const made = element("button", { type: "button", className: "icon", title: key ? `${label} (${key})` : label, ...properties }, icon(name));
  made.setAttribute("aria-label", label);
  made.addEventListener("click", onClick);
  return made;
}

/** Show how far a slider stands, for the part of its track that is filled. */
export function fill(input) {
  const [low, high] = [+input.min, +input.max];
  const at = (value) => `${(100 * (value - low)) / (high - low || 1)}%`;
  input.style.setProperty("--from", at(Math.min(+input.value, Math.max(low, 0))));
  input.style.setProperty("--to", at(Math.max(+input.value, Math.max(low, 0))));
  input.classList.toggle("moved", +input.value !== 0);
}

export function folder(title, open, ...rows) {
  return element("details", { open }, element("summary", { textContent: title }), ...rows);
}

/** Hand a file to the visitor. */
export const download = (href, name) => element("a", { href, download: name }).click();
