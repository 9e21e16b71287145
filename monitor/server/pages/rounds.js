/* Rounds: accuracy and joules as pictures, and all of it as a table when somebody opens it. */

import { Kind, el, predicted } from "./dom.js";
import { axis, chart, line, roundAxis } from "./charts.js";
import { MISSING, crossEntropy, joules, kindWords, percent, seconds, signedPercent } from "./words.js";

const UNITS = [[2e6, 1e6, "MJ"], [2e3, 1e3, "kJ"], [1, 1, "J"], [0, 1e-3, "mJ"]];
const HEADS = ["Round", "Accuracy", "Loss", "Length, fleet's clock", "Updates", "Energy", "Predicted for the same", "Error"];

/** Divisor and unit of an axis up to so many joules. */
export const jouleUnit = (largest_j) => UNITS.find(([least]) => largest_j >= least).slice(1);

export function rounds(run) {
  const accuracy = chart(document.getElementById("accuracy-figure"), "Accuracy", "of the global model after each round");
  const energy = chart(document.getElementById("energy-figure"), "Energy of the boards so far", "metered, beside what the plan predicted for the same parts");
  const details = document.getElementById("rounds-table");
  const body = el("tbody");
  details.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rounds as a table" },
    el("table", {}, el("caption", {}, "The latest round first."), el("thead", {}, el("tr", {}, ...HEADS.map((head) => el("th", { scope: "col" }, head)))), body)));
  let now = null;

  function draw(snapshot) {
    now = snapshot;
    const { rounds: found, run: about } = snapshot;
    const numbers = Object.keys(found).map(Number);
    const list = numbers.map((number) => found[number]);
    accuracy.draw(() => accuracyPicture(numbers, list, about));
    energy.draw(() => energyPicture(numbers, list));
    if (details.open) table();
  }

  let drawn = "";

  function table() {
    const told = JSON.stringify(now?.rounds);
    if (!now || told === drawn) return; // what comes late changes earlier rounds
    drawn = told;
    body.replaceChildren(...Object.entries(now.rounds).reverse().map(([number, one]) => el("tr", {},
      el("td", {}, number), el("td", {}, percent(one.accuracy)), el("td", {}, crossEntropy(one.loss)), el("td", {}, seconds(one.duration_s)),
      el("td", {}, `${one.accepted} of ${one.participants}`), amount(one.energy.energy), amount(predicted(one.energy.predicted_j)),
      el("td", {}, signedPercent(one.energy.error_percent)))));
  }

  details.addEventListener("toggle", () => details.open && table());
  run.show(["rounds", "run"], draw);
  return { paint() { accuracy.paint(); energy.paint(); } };
}

function amount(energy) {
  if (!energy) return el("td", {}, MISSING);
  const kind = new Kind(true);
  kind.set(energy);
  return el("td", {}, joules(energy.value_j), " ", kind.node);
}

function accuracyPicture(numbers, list, about) {
  const hover = "round %{x}: %{y:.1f} %";
  const data = list.length ? [line("on test images", numbers, list.map((one) => 100 * one.accuracy),
    { colour: "measured", symbol: "circle", dash: "solid", hover: `${hover}<extra>on test images</extra>` })] : [];
  if (list.some((one) => one.validation_accuracy !== undefined)) {
    data.push(line("on images for validation", numbers, list.map((one) => (one.validation_accuracy === undefined ? null : 100 * one.validation_accuracy)),
      { colour: "series-3", symbol: "square", dash: "dot", hover: `${hover}<extra>on images for validation</extra>` }));
  }
  if (about.target && data.length) {
    data.push(line("aim of the plan", [numbers[0], Math.max(numbers.at(-1), numbers[0] + 1)], [100 * about.target, 100 * about.target],
      { colour: "line", symbol: "cross", dash: "dash", hover: "aim of the plan: %{y:.1f} %<extra></extra>" }));
  }
  const words = list.length ? `${percent(list.at(-1).accuracy)} on test images after round ${numbers.at(-1)}` : "no round has ended yet";
  return { data, words, layout: { xaxis: roundAxis(numbers.length), yaxis: axis("accuracy, %", { range: [0, 102] }) } };
}

function energyPicture(numbers, list) {
  const sums = list.map((one) => one.so_far);
  const last = sums.at(-1);
  const known = sums.map((sum) => sum.energy?.value_j ?? null);
  const forecast = sums.map((sum) => sum.predicted_j ?? null);
  const [scale, unit] = jouleUnit(Math.max(0, ...known, ...forecast));
  const kind = last?.energy ? kindWords(last.energy.kind, last.energy.scope) : "";
  const scaled = (values) => values.map((value) => (value === null ? null : value / scale));
  const data = last?.energy ? [
    line(`metered (${kind})`, numbers, scaled(known), { colour: "measured", symbol: "circle", dash: "solid", hover: `round %{x}: %{y:.3~g} ${unit}<extra>${kind}</extra>` }),
    line("predicted (modelled)", numbers, scaled(forecast), { colour: "predicted", symbol: "diamond", dash: "dash", hover: `round %{x}: %{y:.3~g} ${unit}<extra>modelled</extra>` }),
  ] : [];
  const words = last?.energy ? `${joules(last.energy.value_j)} (${kind}) after round ${numbers.at(-1)}, predicted ${joules(last.predicted_j)} (modelled)` : "no round has ended yet";
  return { data, words, layout: { xaxis: roundAxis(numbers.length), yaxis: axis(`energy so far, ${unit}`, { rangemode: "tozero" }) } };
}
