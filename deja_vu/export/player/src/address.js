// What the page's address asks for: ?ui=0&motion=Turntable&autoplay=0&background=transparent&avatar=other.bin

import { Problem } from "./problem.js";

const PLAIN = /^(?!.*\.\.)[\w.-]+(\/[\w.-]+)*$/; // a file in the page's folder or below, so that no address makes the page load others' files
const HEX = /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i;

export function asked(search = location.search) {
  const given = new URLSearchParams(search);
  const flag = (name, usual) => (given.has(name) ? !["0", "false", "no"].includes(given.get(name)) : usual);
  const avatar = given.get("avatar") ?? "avatar.bin";
  if (!PLAIN.test(avatar)) throw new Problem(`avatar=${avatar} is no file in the page's folder. Expected a name as other.bin.`);
  const background = given.get("background") ?? "auto";
  const color = HEX.exec(background);
  return {
    avatar,
    ui: flag("ui", true),
    motion: given.get("motion"),
    autoplay: flag("autoplay", true),
    background: color ? `#${color[1]}` : background,
  };
}
