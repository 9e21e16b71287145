/* One device by itself (`#device/ID`): what it is and does, its power over the last minutes, and a
 * round of it as its meter saw it. The power is what telemetry said since this window was opened. */

import { Amount, el, predicted, setClass, setHidden, setText } from "./dom.js";
import { PHASES, axis, chart, colour } from "./charts.js";
import { KEPT_S } from "./state.js";
import { CONDITIONS, look } from "./states.js";
import { trace } from "./trace.js";
import { MISSING, ago, bitsPerSecond, celsius, deviation, hertz, kindWords, percent, plural, signedPercent, watts } from "./words.js";

/** The device that the address names; null: none. */
export function named() {
  const found = location.hash.match(/^#device\/(.+)$/);
  try {
    return found ? decodeURIComponent(found[1]) : null;
  } catch {
    return found[1];
  }
}

export function device(run, controls) {
  const section = document.getElementById("device");
  const title = el("h2", { id: "device-title", tabindex: "-1" });
  const state = el("span", { class: "badge" });
  const problem = el("p", { class: "notice bad", hidden: true });
  const gone = el("p", { class: "notice", hidden: true });
  const facts = el("dl", { class: "facts" });
  const buttons = el("div", { class: "buttons" });
  const live = el("figure");
  const round = el("div");
  section.append(
    el("p", {}, el("a", { href: "#" }, "← All devices")),
    el("div", { class: "name" }, title, state), problem, gone,
    el("div", { class: "pair wide-right" }, el("div", { class: "panel" }, el("h3", {}, "What it is and does"), facts, buttons), live),
    round,
  );
  const picture = chart(live, "Power over the last minutes", "", 400);
  const ofRound = trace(round);
  const values = new Map();
  let shown = null;

  function fact(name, value) {
    let place = values.get(name);
    if (!place) {
      values.set(name, place = el("dd"));
      facts.append(el("dt", {}, name), place);
    }
    if (value instanceof Node) {
      if (place.firstChild !== value) place.replaceChildren(value);
    } else setText(place, value);
  }
  const amounts = Object.fromEntries(["round", "forecast", "total", "totalForecast"].map((name) => [name, new Amount()]));
  const power = new Amount({ write: watts });

  function open() {
    const id = named();
    const change = id !== shown;
    if (id === null && shown !== null) back(shown);
    shown = id;
    setHidden(document.getElementById("whole"), id !== null);
    setHidden(section, id === null);
    if (id !== null && change) {
      setText(title, id);
      title.focus({ preventScroll: true });
      scrollTo(0, 0);
      ofRound.open(id);
      buttons.replaceChildren(...controls.ofDevice(id));
    }
    run.redraw();
  }

  /** The focus goes back to the device's row, once the table is drawn again. */
  function back(id) {
    requestAnimationFrame(() => requestAnimationFrame(() => {
      document.querySelector(`tr[data-device="${CSS.escape(id)}"] a`)?.focus({ preventScroll: true });
    }));
  }

  function draw({ devices, unix_s, run: about }) {
    if (shown === null) return;
    const now = devices[shown];
    setHidden(gone, Boolean(now));
    if (!now) {
      setText(gone, `This run knows no device “${shown}”.`);
      setHidden(state, true);
      return;
    }
    const { shape, tone, word } = look(now);
    setHidden(state, false);
    setText(state, `${shape} ${word}`);
    setClass(state, `badge ${tone}`);
    setHidden(problem, !now.problem);
    setText(problem, now.problem ?? "");
    fact("State", CONDITIONS[now.state]?.[2] ?? now.state);
    fact("Board", [now.board || MISSING, now.kind].filter(Boolean).join(", "));
    fact("Samples", `${now.samples ?? MISSING} of its own, ${now.synthetic ?? MISSING} synthetic in its plan`);
    fact("Doing", now.stage || MISSING);
    fact("Operating point", `${hertz(now.set_hz)} planned, ${hertz(now.applied_hz)} in force, ${hertz(now.clock_hz)} achieved${now.point ? ` (${now.point})` : ""}`);
    fact("Uplink", `${bitsPerSecond(now.set_bps)} planned, ${bitsPerSecond(now.sent_bps)} achieved`);
    power.set(now.power_w === undefined ? undefined : { value_j: now.power_w, kind: now.power_kind, scope: now.power_scope, source: now.meter });
    fact("Power now", power.node);
    fact("Phase of that power", now.phase?.replace("-", " ") ?? MISSING);
    fact("Meter", now.meter || MISSING);
    fact("Temperature", celsius(now.temperature_c));
    fact("Accuracy", now.accuracy === undefined ? MISSING : `${percent(now.accuracy)} on its own data, in its last training`);
    const { round_energy: last = {}, total = {} } = now;
    energies("round", "forecast", now.round ? `Energy of round ${now.round}` : "Energy of a round", last);
    energies("total", "totalForecast", "Energy of the run so far", total);
    fact("Last seen", ago(now.seen_unix_s === undefined ? undefined : unix_s - now.seen_unix_s));
    picture.title("Power over the last minutes", `what it said each second, ${now.power_w === undefined ? "which it does not" : kindWords(now.power_kind, now.power_scope)}${now.meter ? `, by ${now.meter}` : ""}; kept by this window since it was opened`);
    picture.draw(() => livePicture(run.history.of.get(shown) ?? [], run.now.unix_s, now));
    ofRound.know(now.round, about.rounds);
  }

  function energies(own, forecast, name, sum) {
    const label = `energy-${own}`;
    if (!values.has(label)) {
      const heading = el("dt");
      const text = el("span");
      const place = el("dd", {}, amounts[own].node, text, amounts[forecast].node, el("span"));
      facts.append(heading, place);
      values.set(label, { heading, text, error: place.lastChild });
    }
    const { heading, text, error } = values.get(label);
    setText(heading, name);
    amounts[own].set(sum.energy);
    setText(text, `${sum.energy ? ` ${deviation(sum.energy)}` : ""}${sum.whole === false ? `, at least: without ${sum.missing}` : ""}; predicted `);
    amounts[forecast].set(predicted(sum.predicted_j));
    setText(error, sum.predicted_j === undefined ? "" : ` (${signedPercent(sum.error_percent)})`);
  }

  addEventListener("hashchange", open);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && shown !== null && !document.querySelector("dialog[open]")) location.hash = "";
  });
  run.show(["devices", "unix_s", "run"], draw);
  return { open, paint() { picture.paint(); ofRound.paint(); } };
}

function livePicture(points, unix_s, now) {
  const x = points.map(([at]) => Math.round(10 * (at - unix_s)) / 10);
  const y = points.map(([, power_w]) => power_w);
  const known = y.filter((value) => value !== null);
  const data = known.length ? [{
    type: "scatter", x, y, mode: "lines", name: "power", showlegend: false, line: { color: colour("line"), width: 1.5, shape: "hv" }, connectgaps: false, hoverinfo: "skip",
  }] : [];
  for (const [phase, symbol] of Object.entries(PHASES)) {
    const own = points.map(([,, its], k) => (its === phase ? k : -1)).filter((k) => k >= 0);
    if (!own.length) continue;
    data.push({
      type: "scatter", mode: "markers", name: phase.replace("-", " "), x: own.map((k) => x[k]), y: own.map((k) => y[k]),
      marker: { symbol, size: 7, color: colour(`phase-${phase}`) }, hovertemplate: `%{x} s: %{y:.3~g} W<extra>${phase}</extra>`,
    });
  }
  const kind = kindWords(now.power_kind, now.power_scope);
  const span = [30, 60, 120, KEPT_S].find((seconds) => seconds >= -(x[0] ?? 0)) ?? KEPT_S;
  return {
    data, words: known.length ? `${watts(known.at(-1))} (${kind}) last, ${watts(Math.min(...known))} to ${watts(Math.max(...known))} in ${plural(known.length, "reading")}` : "it has said no power since this window was opened",
    layout: { xaxis: axis("s before now", { range: [-span, span / 100] }), yaxis: axis(`power, W${kind ? ` (${kind})` : ""}`, { rangemode: "tozero" }) },
  };
}
