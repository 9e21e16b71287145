/* What is wrong, for those who do not see it: new problems, a few words, not more often than every
 * few seconds; and whether the connection is there.
 *
 * Devices that have been told of are told again only after they were well. */

import { natural, setHidden, setText } from "./dom.js";
import { OVER, troubled } from "./states.js";
import { clock } from "./words.js";

const PAUSE_MS = 6000;
const MOST = 3;

export function alerts(run) {
  const announcer = document.getElementById("announcer");
  let told = new Set();
  let due = [];
  let timer = null;
  let first = true;
  let ended = false;

  function speak() {
    timer = null;
    if (!due.length) return;
    const words = due.slice(0, MOST);
    if (due.length > MOST) words.push(`and ${due.length - MOST} more`);
    due = [];
    announcer.textContent = words.join("; ");
    timer = setTimeout(speak, PAUSE_MS);
  }

  run.show(["devices", "run"], ({ devices, run: now }) => {
    const found = troubled(devices, natural);
    if (!first) due.push(...found.filter(([id]) => !told.has(id)).map(([id, device]) => `${id} ${device.state}: ${device.problem}`));
    told = new Set(found.map(([id]) => id));
    if (OVER.has(now.state) && !ended && !first) due.push(`the run has ended: ${now.state}`);
    ended = OVER.has(now.state);
    first = false;
    if (timer === null) speak();
  });
}

/** Say since when nothing is heard; a run that has ended takes its dashboard with it. */
export function connection(run) {
  const notice = document.getElementById("connection");
  return ({ since }) => {
    setHidden(notice, since === null);
    const over = run.now && OVER.has(run.now.run.state);
    document.body.classList.toggle("stale", since !== null && !over);
    if (since === null) return;
    notice.classList.toggle("bad", !over);
    const when = clock(since / 1000);
    setText(notice, !run.now ? "Not connected yet; it is tried again every second."
      : over ? `The run has ended (${run.now.run.state}), and its dashboard with it at ${when}. This is its last state; fimi report shows all of it.`
        : `Not connected since ${when}: this is how the run was then. It is tried again every second.`);
  };
}
