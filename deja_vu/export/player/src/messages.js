// The page inside another page: messages {dejavu: "set", values: {jawOpen: 0.4}} from the page that embeds it, and answers to it.

const ACTIONS = {
  set: (avatar, { values }) => avatar.set(values),
  preset: (avatar, { name }) => avatar.preset(name),
  reset: (avatar) => avatar.reset(),
  play: (avatar, { motion }) => avatar.play(motion),
  pause: (avatar) => avatar.pause(),
  seek: (avatar, { seconds }) => avatar.seek(seconds),
  speed: (avatar, { factor }) => (avatar.speed = factor),
  background: (avatar, { color }) => (avatar.background = color),
  snapshot: async (avatar) => tell("snapshot", { url: await avatar.snapshot() }),
};

/** Tell the page around this one. */
export function tell(what, values = {}) {
  if (parent !== window) parent.postMessage({ dejavu: what, ...values }, "*");
}

export function obey(avatar) {
  addEventListener("message", async ({ source, data }) => {
    if (source !== parent || parent === window || typeof data?.dejavu !== "string") return;
    try {
      if (!Object.hasOwn(ACTIONS, data.dejavu)) throw new RangeError(`There is no message "${data.dejavu}". Known here: ${Object.keys(ACTIONS).join(", ")}.`);
      await ACTIONS[data.dejavu](avatar, data);
    } catch (error) {
      tell("error", { message: error.message });
    }
  });
  avatar.on("motion", () => tell("motion", { motion: avatar.motion, playing: avatar.playing }));
  const { name, controls, presets, motions } = avatar;
  tell("ready", { name, controls, presets, motions });
}
