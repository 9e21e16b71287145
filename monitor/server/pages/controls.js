/* What an experimenter may ask of the run: pause, go on, stop, exclude, plan again, deadline.
 *
 * Each asks before it acts and says what will happen. A request (fimi.record.interventions) is
 * accepted first and served between two rounds; its number is asked for until it is done or refused.
 * Without the key all buttons are there and none can be pressed: the reason stands beside them. */

import { el, natural, setHidden, setText } from "./dom.js";
import { OVER } from "./states.js";
import { seconds } from "./words.js";

const AGAIN_MS = 1000;

async function post(message) {
  const answer = await fetch("/control", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(message) });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error ?? `status ${answer.status}`);
  if (found.state === "refused") throw new Error(`refused: ${found.words}`);
  return found;
}

export function controls(run, question) {
  const place = document.getElementById("buttons");
  const answer = document.getElementById("answer");
  const known = [];
  const why = el("p", { class: "note", id: "why-not", hidden: true },
    "To act on the run open the address with its key: the coordinator has printed it.");

  /** Ask for something, and hear what became of it, also when the dialog is closed. */
  async function request(asked, say) {
    const first = await post({ control: "ask", request: asked, by: "the dashboard" });
    say(first.words);
    setText(answer, first.words);
    follow(first.number);
    return first.words;
  }

  /** Until it is answered, however long the round takes after which it is served. */
  async function follow(number) {
    while (!OVER.has(run.now?.run.state)) {
      await new Promise((done) => setTimeout(done, AGAIN_MS));
      try {
        const found = await post({ control: "look", number });
        if (found.state === "done") {
          setText(answer, found.words);
          return;
        }
      } catch (error) {
        setText(answer, error.message);
        if (!(error instanceof TypeError)) return;  // one of the network: it may come back
      }
    }
  }

  function button(text, make, { when = () => true, into = known } = {}) {
    const node = el("button", { type: "button", "aria-describedby": "why-not", onclick: () => question(make()) }, text);
    const entry = { node, when };
    into.push(entry);
    known.includes(entry) || known.push(entry);
    return node;
  }

  const now = () => run.now.run;
  const after = () => (now().round ? `After round ${now().round} of ${now().rounds}` : "Before the first round");
  const pausing = () => ["pausing", "paused"].includes(now().state);
  const ids = (state) => Object.keys(run.now.devices).filter((id) => (run.now.devices[id].state === "excluded") === state).sort(natural);
  const choice = (state) => el("label", { class: "field" }, "Device ", el("select", {}, ...ids(state).map((id) => el("option", { value: id }, id))));

  const exclude = (device) => ({
    title: device ? `Exclude ${device}?` : "Exclude a device?", yes: "Exclude it", danger: true, field: device ? null : choice(false),
    words: `${after()} it rests and is left out of plans; it stays connected and can be taken in again. The others go on with their plan.`,
    act: (value, say) => request({ do: "exclude", device: device ?? value }, say),
  });
  const include = (device) => ({
    title: device ? `Take ${device} in again?` : "Take a device in again?", yes: "Take it in", field: device ? null : choice(true),
    words: `${after()} it has a part in rounds again.`,
    act: (value, say) => request({ do: "include", device: device ?? value }, say),
  });

  place.append(
    button("Pause after this round", () => ({
      title: "Pause the run?", yes: "Pause it",
      words: [`${after()} no further round begins until somebody asks to go on.`, "Devices idle meanwhile, as they do between any two rounds: that takes energy which no plan has."],
      act: (_, say) => request({ do: "pause" }, say),
    }), { when: () => !pausing() }),
    button("Go on", () => ({ title: "Go on with the run?", yes: "Go on", words: "The next round begins at once.", act: (_, say) => request({ do: "resume" }, say) }), { when: pausing }),
    button("Plan again", () => ({
      title: "Plan again?", yes: "Plan again",
      words: `${after()} frequency, bandwidth and power of all devices are planned again, with the boards as they are known now. Their data stay.`,
      act: (_, say) => request({ do: "replan" }, say),
    })),
    button("Set the deadline …", () => ({
      title: "Set the deadline of a round?", yes: "Set it",
      words: `${after()} the fleet is planned again for the new deadline, on the fleet’s clock. ${now().deadline_s === undefined ? "" : `Now it is ${seconds(now().deadline_s)}.`}`,
      field: el("label", { class: "field" }, "Deadline, s ", el("input", { type: "number", min: "0.001", max: "86400", step: "any", required: true, value: now().deadline_s ?? "" })),
      act: (value, say) => request({ do: "deadline", deadline_s: Number(value) }, say),
    })),
    button("Exclude a device …", () => exclude(null), { when: () => ids(false).length > 0 }),
    button("Take a device in again …", () => include(null), { when: () => ids(true).length > 0 }),
    button("Stop the run", () => ({
      title: "Stop the run?", yes: "Stop it", danger: true,
      words: [`${after()} the run ends as by Ctrl-C, with a report of what was done.`, `fimi ${now().begun_by || "coordinator run"} --resume ${now().name} goes on with it.`],
      act: (_, say) => request({ do: "stop" }, say),
    })),
    why,
  );

  const HIDES = new Set(["Go on", "Pause after this round", "Take a device in again …", "Exclude this device", "Take it in again"]);
  run.show(["run", "devices"], () => {
    const may = run.mayAct && !OVER.has(now().state);
    setHidden(why, run.mayAct || OVER.has(now().state));
    for (const { node, when } of known) {
      const fits = when();
      if (HIDES.has(node.textContent)) setHidden(node, !fits);
      if (node.disabled !== !(may && fits)) node.disabled = !(may && fits);
    }
  });

  return {
    /** Buttons of a device's own view. */
    ofDevice(id) {
      known.splice(0, known.length, ...known.filter((entry) => !entry.device));
      const isOut = () => run.now.devices[id]?.state === "excluded";
      const made = [button("Exclude this device", () => exclude(id), { when: () => Boolean(run.now.devices[id]) && !isOut() }),
        button("Take it in again", () => include(id), { when: isOut })];
      for (const entry of known) if (made.includes(entry.node)) entry.device = id;
      return made;
    },
  };
}
