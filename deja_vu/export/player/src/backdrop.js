// What stands behind the avatar: the page's own color, which follows the system, or one that the visitor chose.

import { element } from "./dom.js";

const DARK = matchMedia("(prefers-color-scheme: dark)");
const CHOICES = [
  ["auto", "As the page"],
  ["#ffffff", "White"],
  ["#808080", "Gray"],
  ["#000000", "Black"],
  ["#00b140", "Green screen"],
  ["transparent", "Transparent"],
];

const own = () => getComputedStyle(document.documentElement).getPropertyValue("--stage").trim();

export class Backdrop {
  constructor(avatar, choice = "auto") {
    this.avatar = avatar;
    this.choose(choice);
    DARK.addEventListener("change", () => this.choose(this.choice));
  }

  choose(choice) {
    this.avatar.background = choice === "auto" ? own() : choice;
    this.choice = choice;
    this.mark?.();
  }

  /** The row of the panel. */
  row(title) {
    const swatches = CHOICES.map(([value, label]) => {
      const input = element("input", { type: "radio", name: "background", value, title: label, aria: { label } });
      input.style.setProperty("--swatch", value === "auto" ? "var(--stage)" : value);
      input.addEventListener("change", () => this.choose(value));
      return input;
    });
    const color = element("input", { type: "color", id: "background", value: "#6d7fd6", title: "Any color", aria: { label: `${title}: any color` } });
    color.addEventListener("input", () => this.choose(color.value));
    this.mark = () => {
      for (const input of swatches) input.checked = input.value === this.choice;
      color.classList.toggle("chosen", !swatches.some((input) => input.checked));
    };
    this.mark();
    return element("fieldset", { className: "background" }, element("legend", { textContent: title }), ...swatches, color);
  }
}
