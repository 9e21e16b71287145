/* What is read from across the room: state, round, accuracy, joules, time left, devices; below it
 * what the run does, its plan, and who needs somebody. */

import { Amount, el, natural, predicted, setClass, setHidden, setText } from "./dom.js";
import { OVER, RUN_TONES, isProblem, troubled } from "./states.js";
import { clock, deviation, joules, percent, plural, roughly, seconds, signedPercent } from "./words.js";

const at = (id) => document.getElementById(id);
const SHOWN_TROUBLES = 6;

/** Why nobody knows how long the run will take. */
function unknownLeft(now) {
  if (now.state === "paused") return "known when the run goes on";
  return `known after the ${now.round ? "next" : "first"} round`;
}

/** A card: a name, a large value, a note; both may hold elements. */
class Card {
  constructor(list, name) {
    this.value = el("dd", { class: "value" });
    this.note = el("dd", { class: "note" });
    list.append(el("div", { class: "card" }, el("dt", {}, name), this.value, this.note));
  }
}

export function headline(run) {
  const list = at("cards");
  const round = new Card(list, "Round");
  const accuracy = new Card(list, "Accuracy on test images");
  const used = new Card(list, "Energy of the boards so far");
  const planned = new Card(list, "Predicted for the same");
  const left = new Card(list, "Time left");
  const fleet = new Card(list, "Devices connected");

  const bar = el("progress", { max: 1, value: 0, "aria-label": "rounds done" });
  round.note.append(bar);
  const energy = new Amount();
  const part = new Amount();
  used.value.append(energy.node);
  const forecast = new Amount();
  planned.value.append(forecast.node);

  const besides = at("besides");
  const rows = Object.fromEntries(["Plan", "Waiting", "Broker", "Server", "Open to others"].map((name) => {
    const value = el("dd");
    const row = el("div", { hidden: true }, el("dt", {}, name), value);
    besides.append(row);
    return [name, { row, value }];
  }));
  const server = new Amount();
  rows.Server.value.append("training on the server: ", server.node);
  const say = (name, text) => {
    setHidden(rows[name].row, !text);
    if (text) setText(rows[name].value, text);
  };

  function draw({ run: now, devices, rounds, study }) {
    const over = OVER.has(now.state);
    setText(at("title"), now.title ? `· ${now.title}` : "");
    setText(at("name"), now.name);
    setText(at("state"), now.state);
    setClass(at("state"), `badge ${RUN_TONES[now.state] ?? "soft"}`);
    setHidden(at("emulated"), now.kind !== "emulated" && now.kind !== "mixed");
    setText(at("emulated"), now.kind === "mixed" ? "some boards emulated" : "emulated boards");
    setText(at("about"), [now.strategy, [now.model, now.dataset && `on ${now.dataset}`].filter(Boolean).join(" "),
      now.seed === undefined ? "" : `seed ${now.seed}`, `began ${clock(now.began_unix_s)}`].filter(Boolean).join(" · "));

    const done = Object.keys(rounds).length;
    setText(round.value, `${now.round} / ${now.rounds || "?"}`);
    bar.max = Math.max(now.rounds, 1);
    bar.value = done;
    setText(accuracy.value, percent(now.accuracy));
    const last = rounds[done] ?? Object.values(rounds).at(-1);
    setText(accuracy.note, [now.accuracy === undefined ? "no round has ended yet" : `after ${plural(done, "round")}`,
      now.target && `plan aims at ${percent(now.target)}`,
      last?.validation_accuracy !== undefined && `${percent(last.validation_accuracy)} on images for validation`,
    ].filter(Boolean).join("; "));

    drawEnergy(now);
    setText(left.value, over ? "none" : roughly(now.left_s === undefined ? undefined : Math.max(now.left_s, 0)));
    setText(left.note, [over ? now.reason || now.state : now.left_s === undefined ? unknownLeft(now) : "by the rounds so far",
      now.deadline_s !== undefined && !over && `deadline of a round ${seconds(now.deadline_s)} on the fleet's clock`,
    ].filter(Boolean).join("; "));

    const all = Object.values(devices);
    const online = all.filter((device) => device.online !== false && device.state !== "gone").length;
    const troubles = all.filter(isProblem).length;
    setText(fleet.value, `${online} / ${all.length}`);
    setText(fleet.note, troubles ? `▲ ${plural(troubles, "device needs", "devices need")} somebody` : "none needs anybody");
    setClass(fleet.note, troubles ? "note bad" : "note");

    setText(at("doing"), over ? `${now.state}: ${now.reason || "all rounds are done"}` : now.doing);
    say("Plan", now.plan?.replace(/^plan: /, ""));
    say("Waiting", now.waiting);
    say("Broker", now.broker_away_s === undefined ? "" : `away for ${seconds(now.broker_away_s)}`);
    say("Open to others", now.exposed && `the broker was used ${now.exposed}; results are what its messages said`);
    setHidden(rows.Server.row, !now.server);
    server.set(now.server);
    drawTroubles(devices);
    document.title = study ? [`${study.done}/${study.runs}`, now.name].join(" · ") : [troubles && `▲ ${troubles}`, over ? now.state : now.rounds && `${now.round}/${now.rounds}`,
      percent(now.accuracy), now.name].filter(Boolean).join(" · ");
  }

  function drawEnergy({ energy: sum, plan_round_j, plan_objective }) {
    energy.set(sum.energy);
    const parts = [];
    if (sum.energy) parts.push(deviation(sum.energy));
    if (sum.whole === false) parts.push(`at least: without ${sum.missing}`);
    setText(used.note, parts.filter(Boolean).join("; ") || "none is known yet");
    forecast.set(predicted(sum.predicted_j));
    if (sum.predicted_j === undefined) {
      setText(planned.note, plan_round_j === undefined ? "no plan yet"
        : `${joules(plan_round_j)} a round (modelled, ${plan_objective} energy)`);
    } else {
      const all = sum.compared?.value_j === sum.energy?.value_j;
      planned.note.replaceChildren(`${signedPercent(sum.error_percent)} against `, part.node, all ? "" : ", of which both are known");
      part.set(sum.compared);
    }
  }

  function drawTroubles(devices) {
    const found = troubled(devices, natural);
    const box = at("needs");
    setHidden(box, !found.length);
    const shown = found.slice(0, SHOWN_TROUBLES).map(([id, device]) => [id, device.problem || device.state]);
    const written = JSON.stringify([shown, found.length]);
    if (box.dataset.written === written) return;
    box.dataset.written = written;
    const items = shown.map(([id, problem]) => el("li", {},
      el("a", { href: `#device/${encodeURIComponent(id)}` }, id), `: ${problem}`));
    if (found.length > items.length) items.push(el("li", {}, `and ${found.length - items.length} more, first in the table`));
    box.replaceChildren(el("strong", {}, `▲ ${plural(found.length, "device needs", "devices need")} somebody`), el("ul", {}, ...items));
  }

  run.show(["run", "devices", "rounds", "study"], draw);
}
