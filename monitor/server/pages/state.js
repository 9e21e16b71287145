/* The run as this window knows it.
 *
 * Run       holds the snapshot, takes a whole one or a merge patch (RFC 7396), and draws the views
 *           that a change touches, all in one animation frame
 * History   power of each device over the last minutes, kept here: the feed tells only the present */

export const KEPT_S = 300;
const PARTS = ["unix_s", "run", "devices", "rounds", "generator", "said", "study"];

function patched(before, patch) {
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete before[name];
    else if (typeof value === "object" && !Array.isArray(value)) {
      const old = before[name];
      const inner = old && typeof old === "object" && !Array.isArray(old) ? old : {};
      before[name] = patched(inner, value);
    } else before[name] = value;
  }
  return before;
}

export class History {
  constructor() {
    this.of = new Map();
  }

  add(unix_s, devices) {
    for (const [id, device] of Object.entries(devices)) {
      let points = this.of.get(id);
      if (!points) this.of.set(id, points = []);
      const power_w = device.online && device.state !== "gone" ? device.power_w ?? null : null;
      points.push([unix_s, power_w, power_w === null ? null : device.phase ?? null]);
      while (points[0][0] < unix_s - KEPT_S) points.shift();
    }
  }
}

export class Run {
  constructor() {
    this.now = null;
    this.mayAct = false;
    this.history = new History();
    this.views = [];
    this.touched = new Set();
    this.waiting = false;
    this.began = null;
  }

  /** `draw(snapshot, touched)` is called when one of `parts` has changed. */
  show(parts, draw) {
    this.views.push({ parts, draw });
  }

  whole(snapshot) {
    const began = `${snapshot.run.name} ${snapshot.run.began_unix_s}`;
    if (began !== this.began) this.history = new History();
    this.began = began;
    this.now = { devices: {}, rounds: {}, said: {}, ...snapshot };
    this.changed(PARTS);
  }

  patch(patch) {
    if (!this.now) return;
    patched(this.now, patch);
    this.changed(Object.keys(patch));
  }

  changed(parts) {
    if (parts.includes("unix_s")) this.history.add(this.now.unix_s, this.now.devices);
    this.redraw(parts);
  }

  /** Draw again what these parts touch. */
  redraw(parts = PARTS) {
    for (const part of parts) this.touched.add(part);
    if (this.waiting || !this.now) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const touched = this.touched;
      this.touched = new Set();
      for (const view of this.views) {
        if (view.parts.some((part) => touched.has(part))) view.draw(this.now, touched);
      }
    });
  }
}
