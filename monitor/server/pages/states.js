/* States of runs and devices in words, with a shape beside each colour, and their order by trouble.
 * The words are those of fimi.monitor.snapshot. */

/** Of a device: shape, tone, what it means. The worst come first. */
export const CONDITIONS = {
  gone: ["✖", "bad", "not connected"],
  failed: ["✖", "bad", "says that it failed"],
  refused: ["✖", "bad", "was refused"],
  "set-aside": ["▲", "bad", "set aside: it has failed too often"],
  awaited: ["▲", "warm", "of an earlier process of the run, and not back yet"],
  excluded: ["■", "soft", "excluded by somebody"],
  training: ["●", "good", "has a part in the round"],
  reported: ["✔", "good", "its update is in"],
  ready: ["◆", "good", "its plan is in force"],
  joined: ["○", "soft", "has joined"],
  resting: ["–", "soft", "not drawn for this round"],
};
const ORDER = Object.keys(CONDITIONS);
const NEED_SOMEBODY = new Set(["gone", "failed", "refused", "set-aside", "awaited"]);

/** Whether somebody should look at a device. */
export const isProblem = (device) => NEED_SOMEBODY.has(device.state) || Boolean(device.problem);

/** What a device is ranked by: troubles first, then states. */
export function rank(device) {
  const place = ORDER.indexOf(device.state);
  return NEED_SOMEBODY.has(device.state) ? place : device.problem ? 5 : 10 + place;
}

export function look(device) {
  const [shape, tone] = CONDITIONS[device.state] ?? ["?", "soft"];
  if (device.problem && !NEED_SOMEBODY.has(device.state)) return { shape: "▲", tone: "warm", word: device.state };
  return { shape, tone, word: device.state };
}

/** Of a run: tone and word. */
export const RUN_TONES = {
  starting: "soft", gathering: "accent", planning: "accent", drawing: "accent", training: "accent",
  running: "accent", pausing: "warm", paused: "warm", completed: "good", failed: "bad", interrupted: "warm",
};
export const OVER = new Set(["completed", "failed", "interrupted"]);

/** Devices that need somebody, the worst first, as [id, device]. */
export function troubled(devices, compare) {
  return Object.entries(devices).filter(([, device]) => isProblem(device))
    .sort(([a, one], [b, other]) => rank(one) - rank(other) || compare(a, b));
}
