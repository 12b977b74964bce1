// A motion that plays: which one, where it is, how fast.

export class Playback {
  constructor({ facts, arrays }) {
    this.clips = facts.clips;
    this.arrays = arrays;
    this.joints = facts.joints.length;
    this.clip = null;
    this.playing = false;
    this.time = 0; // seconds into the motion
    this.speed = 1;
  }

  /** Seconds that the motion lasts. */
  get duration() {
    return this.clip ? this.clip.frames / this.clip.fps : 0;
  }

  /** Take a motion up at its beginning. */
  choose(name) {
    const clip = this.clips.find((other) => other.name.toLowerCase() === String(name).toLowerCase());
    if (!clip) throw new RangeError(`There is no motion "${name}". Known here: ${this.clips.map((other) => other.name).join(", ") || "none"}.`);
    this.clip = clip;
    this.time = 0;
    this.fresh = true;
  }

  /** Let go of the motion. */
  leave() {
    this.clip = null;
    this.playing = this.fresh = false;
    this.time = 0;
  }

  seek(seconds) {
    this.time = Math.min(Math.max(0, seconds), this.duration - 1e-6);
    this.fresh = true;
  }

  /** Go on to a moment of the page's clock, milliseconds; whether another pose is due. Motions repeat. */
  advance(now) {
    const passed = (now - (this.last ?? now)) / 1000;
    this.last = now;
    if (!this.clip) return false;
    if (this.playing) this.time = (this.time + this.speed * passed) % this.duration;
    const due = this.playing || this.fresh;
    this.fresh = false;
    return due;
  }

  /** The frame that is due, and how far the camera has gone round in it (yaw, radians). */
  frame() {
    const { clip } = this;
    const frame = Math.min(Math.floor(this.time * clip.fps), clip.frames - 1);
    const row = (name) => {
      const { data, shape } = this.arrays[`clip_${clip.id}_${name}`];
      const size = data.length / shape[0];
      return Array.from(data.subarray(frame * size, (frame + 1) * size));
    };
    const joints = row("joints");
    return {
      expression: row("expression"),
      joints: Array.from({ length: this.joints }, (_, j) => joints.slice(3 * j, 3 * j + 3)),
      pose: [...row("pose"), 0, 0, 0, 1],
      yaw: this.arrays[`clip_${clip.id}_yaw`] ? row("yaw")[0] : 0,
      ...(this.arrays[`clip_${clip.id}_torso`] && { torso: [...row("torso"), 0, 0, 0, 1] }),
    };
  }
}
