/* The columns of the fleet's table: what each shows of a device, and how it sorts.
 *
 * A column has `key`, `head` and, under a common heading, `group`; `width` in px; `level`: 1 is shown
 * on every screen, 2 on a tablet, 3 where there is room. `sort(device, id)` gives a number or a text,
 * undefined sorts last. `show(device, id, now)` gives a text, or `{ text, tone, energy }` with the
 * mark of a kind, or of a link with `href`. */

import { predicted } from "./dom.js";
import { look, rank } from "./states.js";
import { MISSING, ago, bitsPerSecond, celsius, hertz, joules, signedPercent, watts } from "./words.js";

const amount = (energy) => (energy ? { text: joules(energy.value_j), energy } : MISSING);
const power = (device) => (device.power_w === undefined ? MISSING : {
  text: watts(device.power_w),
  energy: { kind: device.power_kind, scope: device.power_scope, source: device.meter },
});

function state(device) {
  const { shape, tone, word } = look(device);
  return { text: `${shape} ${word}`, tone, title: device.problem || null };
}

export const COLUMNS = [
  { key: "device", head: "Device", width: 92, level: 1, text: true, sort: (_, id) => id,
    show: (_, id) => ({ text: id, href: `#device/${encodeURIComponent(id)}` }) },
  { key: "state", head: "State", width: 92, level: 1, text: true, sort: rank, show: state },
  { key: "board", head: "Board", width: 112, level: 3, text: true, sort: (d) => d.board, show: (d) => d.board || MISSING },
  { key: "phase", head: "Phase", width: 138, level: 2, text: true, sort: (d) => d.phase ?? d.stage,
    show: (d) => (d.state === "gone" ? MISSING : (d.phase ?? d.stage ?? MISSING).replace("-", " ")) },
  { key: "set_hz", group: "Clock", head: "set", width: 78, level: 3, sort: (d) => d.set_hz, show: (d) => hertz(d.set_hz) },
  { key: "clock_hz", group: "Clock", head: "achieved", width: 80, level: 3, sort: (d) => d.clock_hz, show: (d) => hertz(d.clock_hz) },
  { key: "power_w", head: "Power now", width: 120, level: 1, sort: (d) => d.power_w, show: power },
  { key: "temperature_c", head: "Temp.", width: 74, level: 3, sort: (d) => d.temperature_c, show: (d) => celsius(d.temperature_c) },
  { key: "set_bps", group: "Uplink", head: "planned", width: 86, level: 3, sort: (d) => d.set_bps, show: (d) => bitsPerSecond(d.set_bps) },
  { key: "sent_bps", group: "Uplink", head: "achieved", width: 86, level: 3, sort: (d) => d.sent_bps, show: (d) => bitsPerSecond(d.sent_bps) },
  { key: "round_j", group: "Energy of its last round", head: "metered", width: 114, level: 1,
    sort: (d) => d.round_energy?.energy?.value_j, show: (d) => amount(d.round_energy?.energy) },
  { key: "predicted_j", group: "Energy of its last round", head: "predicted", width: 114, level: 2,
    sort: (d) => d.round_energy?.predicted_j, show: (d) => amount(predicted(d.round_energy?.predicted_j)) },
  { key: "error", group: "Energy of its last round", head: "error", width: 68, level: 2,
    sort: (d) => d.round_energy?.error_percent, show: (d) => signedPercent(d.round_energy?.error_percent) },
  { key: "seen", head: "Last seen", width: 74, level: 2, sort: (d) => (d.seen_unix_s === undefined ? undefined : -d.seen_unix_s),
    show: (d, _, now) => ago(d.seen_unix_s === undefined ? undefined : now - d.seen_unix_s).replace(" ago", "") },
];

/** What the filter looks at. */
export const searched = (device, id) => `${id} ${device.board} ${device.kind} ${device.state} ${device.phase ?? ""} ${device.problem} ${device.point}`.toLowerCase();
