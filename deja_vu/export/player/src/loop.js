// Draws whenever something changed. The order of the Gaussians may be a picture old while the head moves a little; after a jump the old
// order shows the inside of the head, so the picture waits for the new one.

const NEAR = { expression: 0.15, joints: 0.1, pose: 0.03, camera: 0.03 }; // weights, radians, entries of matrices (meters, and sines of turns)

const within = (a, b, most) => a.every((value, i) => Math.abs(value - b[i]) <= most);

/** Whether the order of the Gaussians in one state does for the other. */
function near(a, b) {
  return (
    within(a.params.expression, b.params.expression, NEAR.expression) &&
    within(a.params.joints.flat(), b.params.joints.flat(), NEAR.joints) &&
    within(a.params.pose, b.params.pose, NEAR.pose) &&
    within(a.params.torso ?? [], b.params.torso ?? [], NEAR.pose) &&
    within(a.pinhole.cameraFromWorld, b.pinhole.cameraFromWorld, NEAR.camera)
  );
}

export class Loop {
  /** `scene` has `advance(now)`, `params()`, `pinhole()` and `shown(now)`; the last is called when a picture is on the canvas. */
  constructor(player, scene) {
    this.player = player;
    this.scene = scene;
    this.moved = this.looked = true;
    this.tick = this.tick.bind(this);
    this.request = requestAnimationFrame(this.tick);
  }

  stop() {
    cancelAnimationFrame(this.request);
    this.stopped = true;
  }

  tick(now) {
    if (this.stopped) return;
    this.request = requestAnimationFrame(this.tick);
    if (this.held) return;
    this.scene.advance(now);
    if (this.waiting) return;
    if (this.moved || this.looked) this.change();
    else if (this.sorted) this.paint();
    if (this.stale && !this.sorting && !this.waiting) this.order();
  }

  /** Bring the GPU to the present pose and view; the picture follows at once, or with the new order. */
  change() {
    const state = { params: this.scene.params(), pinhole: this.scene.pinhole() };
    if (this.looked) this.player.setCamera(state.pinhole);
    if (this.moved) this.player.setPose(state.params);
    this.moved = this.looked = false;
    this.state = state;
    if (this.ordered && near(this.ordered, state)) {
      this.stale = true;
      this.paint();
      return;
    }
    this.waiting = Promise.resolve(this.sorting)
      .then(() => this.order())
      .then(() => {
        this.waiting = null;
        if (!this.held && !this.stopped) this.paint();
      });
  }

  /** Order the Gaussians as they stand now. */
  order() {
    const { state } = this;
    this.stale = false;
    const done = () => {
      this.ordered = state;
      this.sorting = null;
      this.sorted = true;
    };
    this.sorting = this.player.sort().then(done, () => this.stop()); // nothing comes back once the GPU is gone
    return this.sorting;
  }

  paint() {
    this.sorted = false;
    this.player.draw();
    this.scene.shown(performance.now());
  }

  /** One exact picture of a pose and a view as a PNG data URL; the loop rests meanwhile. */
  async snapshot(params, pinhole) {
    this.held = true;
    await this.waiting;
    await this.sorting;
    this.player.setCamera(pinhole);
    this.player.setPose(params);
    await this.player.sort();
    this.player.draw();
    const url = this.player.renderer.domElement.toDataURL("image/png");
    this.ordered = null;
    this.held = false;
    this.moved = this.looked = true;
    return url;
  }
}
