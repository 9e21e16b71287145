/* A round of a device as its meter saw it: readings over time, the phases below them, and how each
 * phase got its energy. What is not kept is said; nothing is drawn in its place. A device may hand
 * readings in late: what is shown is asked for again, soon after its round, while something of it is
 * missing, and whenever a round has ended. */

import { Amount, el, setHidden, setText } from "./dom.js";
import { PHASES, axis, chart, colour } from "./charts.js";
import { MISSING, joules, kindWords, plural, seconds } from "./words.js";

const AGAIN_MS = 5000;
const HEADS = ["Phase", "Began", "Length", "Energy", "How it came to be"];

/** How a phase got its energy, in a sentence. */
function madeOf({ made, sample_count, largest_gap_s, most_j, energy }) {
  const from = `${plural(sample_count, "reading")}, at most ${seconds(largest_gap_s)} apart`;
  switch (made) {
    case "resolved": return energy?.kind === "modelled" ? "computed from a formula" : `integrated over ${from}`;
    case "regression": return `by regression over rounds: its meter is too slow to tell it apart (${from})`;
    case "unresolved": return `a part of a sum: its meter does not tell it apart${most_j === undefined || most_j === null ? "" : `; at most ${joules(most_j)}`}`;
    default: return "not metered";
  }
}

export function trace(place) {
  const number = el("input", { type: "number", min: "0", step: "1", id: "trace-round", "aria-describedby": "trace-told" });
  const follow = el("input", { type: "checkbox", checked: true });
  follow.checked = true;
  const told = el("p", { id: "trace-told", class: "note", role: "status" });
  const figure = el("figure");
  const body = el("tbody");
  const table = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Phases of the round" },
    el("table", {}, el("caption", {}, "Phases of the round"), el("thead", {}, el("tr", {}, ...HEADS.map((head, k) => el("th", { scope: "col", class: k === 0 || k === 4 ? "text" : "" }, head)))), body));
  place.append(
    el("div", { class: "bar" }, el("h3", {}, "A round as its meter saw it"),
      el("label", {}, "Round ", number), el("label", { class: "check" }, follow, " always the latest")),
    told, figure, table,
  );
  const picture = chart(figure, "Power in the round", "readings of its meter on the device’s clock; phases as bands", 280);
  let device = null;
  let latest = 0;
  let asked = "";
  let askedMs = 0;
  let drawn = "";
  let lacks = false;

  async function load({ again = false } = {}) {
    const round = Number(number.value);
    const wanted = `${device} ${round}`;
    if (device === null || number.value === "" || (wanted === asked && !again)) return;
    again &&= wanted === asked;
    asked = wanted;
    askedMs = Date.now();
    let found;
    try {
      const answer = await fetch(`/devices/${encodeURIComponent(device)}/trace?round=${round}`);
      found = await answer.json();
      if (!answer.ok) throw new Error(found.error ?? `status ${answer.status}`);
    } catch (error) {
      if (wanted !== asked || again) return; // what is shown stays true
      asked = ""; // it may be there the next time
      setText(told, error.message);
      show(null);
      return;
    }
    if (wanted === asked) show(found);
  }

  function show(found) {
    const written = JSON.stringify(found);
    if (found && written === drawn) return;
    drawn = written;
    lacks = Boolean(found) && (found.missing.length > 0 || !found.phases.length || !found.times_s.length);
    setHidden(table, !found?.phases.length);
    setHidden(figure, !found?.times_s.length);
    if (!found) return;
    const kept = found.times_s.length ? `${plural(found.readings, "reading")} by ${found.source || "its meter"} (${kindWords(found.kind, found.scope)})` : "No readings of this round are kept";
    const fewer = found.readings > found.times_s.length ? `, of which ${found.times_s.length} are drawn` : "";
    setText(told, [`${kept}${fewer}.`, ...found.missing.map((why) => `${why}.`)].join(" "));
    body.replaceChildren(...found.phases.map((phase) => {
      const amount = new Amount({ short: true });
      amount.set(phase.energy ?? undefined);
      return el("tr", {}, el("td", { class: "text" }, phase.phase.replace("-", " ")), el("td", {}, seconds(phase.start_s)), el("td", {}, seconds(phase.duration_s)),
        el("td", {}, phase.energy ? amount.node : MISSING), el("td", { class: "text" }, madeOf(phase)));
    }));
    picture.draw(() => tracePicture(found));
  }

  number.addEventListener("change", () => { follow.checked = false; load(); });
  follow.addEventListener("change", () => { if (follow.checked) { number.value = latest; load(); } });
  return {
    open(id) {
      device = id;
      asked = "";
      latest = 0;
      follow.checked = true;
      number.value = "";
      setText(told, "No round of it has ended yet.");
      show(null);
    },
    know(round, rounds) {
      number.max = rounds;
      if (!round) return;
      if (round !== latest) {
        latest = round;
        if (follow.checked) number.value = round;
        load({ again: true });
      } else if ((lacks || Number(number.value) >= latest - 1) && Date.now() - askedMs > AGAIN_MS) load({ again: true });
    },
    paint() { picture.paint(); },
  };
}

function tracePicture(found) {
  const data = [{
    type: "scatter", mode: found.times_s.length > 200 ? "lines" : "lines+markers", name: "power", x: found.times_s, y: found.power_w,
    line: { color: colour("ink"), width: 1.5 }, marker: { size: 4, color: colour("ink") }, connectgaps: false, hovertemplate: "%{x:.2f} s: %{y:.3~g} W<extra></extra>",
  }];
  const shapes = found.phases.map((phase) => ({
    type: "rect", xref: "x", yref: "paper", x0: phase.start_s, x1: phase.start_s + phase.duration_s, y0: 0, y1: 1,
    fillcolor: colour(`phase-${phase.phase}`), opacity: 0.22, line: { width: 0 }, layer: "below",
  }));
  for (const phase of Object.keys(PHASES)) {
    if (!found.phases.some((each) => each.phase === phase)) continue;
    data.push({ type: "scatter", mode: "markers", name: phase.replace("-", " "), marker: { symbol: PHASES[phase], size: 9, color: colour(`phase-${phase}`) }, hovertemplate: `${phase}<extra></extra>`,
      ...marks(found.phases.filter((each) => each.phase === phase), Math.max(...found.power_w.filter((value) => value !== null), 0)) });
  }
  return {
    data, words: `${plural(found.readings, "reading")} in ${plural(found.phases.length, "phase")}`,
    layout: { shapes, xaxis: axis("s since the round began, device’s clock"), yaxis: axis(`power, W (${kindWords(found.kind, found.scope)})`, { rangemode: "tozero" }) },
  };
}

/** A mark in the middle of each band, above the readings: colour alone would not tell phases apart. */
const marks = (phases, top) => ({
  x: phases.map((phase) => phase.start_s + phase.duration_s / 2), y: phases.map(() => 1.08 * top),
});
