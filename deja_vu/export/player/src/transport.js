// Choose a motion, play it, stop it, go to any moment of it.

import { element, fill, icon, iconButton } from "./dom.js";

const SPEEDS = [0.25, 0.5, 1, 2];

/** 0:07.3 */
const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

/** Start the motion that is chosen, or else the first; stop it if it plays. */
export function toggle(avatar) {
  if (avatar.playing) avatar.pause();
  else if (avatar.motion) avatar.play();
  else if (avatar.motions.length) avatar.play(avatar.motions[0]);
}

export function buildTransport(bar, avatar) {
  const { words } = avatar.facts;
  const play = iconButton("play", words.play, () => toggle(avatar), { key: "Space", id: "play" });
  const motion = element("select", { id: "motion", aria: { label: words.motion } }, element("option", { textContent: words.no_motion, value: "" }));
  for (const name of avatar.motions) motion.append(element("option", { textContent: name, value: name }));
  motion.addEventListener("change", () => (motion.value ? avatar.play(motion.value) : avatar.reset()));
  const place = element("input", { type: "range", id: "place", min: 0, step: 0.01, value: 0, aria: { label: words.frame } });
  place.addEventListener("input", () => {
    const wanted = +place.value; // before anything else moves the slider
    avatar.pause().seek(wanted);
  });
  const time = element("output", { id: "time" });
  const speed = element("select", { id: "speed", aria: { label: words.speed }, title: words.speed });
  for (const factor of SPEEDS) speed.append(element("option", { textContent: `${factor}×`, value: factor }));
  speed.value = 1;
  speed.addEventListener("change", () => (avatar.speed = +speed.value));

  const follow = () => {
    place.value = avatar.time;
    time.textContent = avatar.motion ? `${clock(avatar.time)} / ${clock(avatar.duration)}` : "";
    place.setAttribute("aria-valuetext", time.textContent);
    fill(place);
  };
  avatar.on("motion", () => {
    const label = avatar.playing ? words.pause : words.play;
    play.replaceChildren(icon(avatar.playing ? "pause" : "play"));
    play.setAttribute("aria-label", label);
    play.title = `${label} (Space)`;
    motion.value = avatar.motion ?? "";
    place.disabled = !avatar.motion;
    place.max = avatar.duration || 1;
    follow();
  });
  avatar.on("frame", () => avatar.motion && follow());
  bar.replaceChildren(play, motion, place, time, speed);
  bar.hidden = !avatar.motions.length;
  avatar.emit("motion", avatar);
}
